from pathlib import Path

import pytest

from segkit.errors import DataError
from segkit.formats.masks.color_table import TABLE_FILES, find_color_table, read_color_table


def save(root: Path, text: str, name: str = "colors.csv") -> Path:
    (root / name).write_text(text)
    return root / name


@pytest.mark.parametrize(
    "text",
    [
        "sky:1,2,3::\nroad:4,5,6:part:action\n",
        "# comment\n\nsky:1, 2, 3\nroad:4,5,6::\n",
        "1 2 3 sky\n4\t5 6\troad\n",
        "sky,1,2,3\nroad,4,5,6\n",
        'name,r,g,b\nsky, 1 ,2 , 3\n"road",4,5,6\n',
        "Class,Red,Green,Blue\nsky,1,2,3\nroad,4,5,6\n",
        "\ufeffsky,1,2,3\r\nroad,4,5,6\r\n",
    ],
)
def test_every_notation_gives_the_names_in_order(tmp_path: Path, text: str) -> None:
    assert [*read_color_table(save(tmp_path, text)).items()] == [((1, 2, 3), "sky"), ((4, 5, 6), "road")]


def test_a_name_may_hold_blanks_and_ignored_colors_may_be_several(tmp_path: Path) -> None:
    table = read_color_table(save(tmp_path, "1 2 3 traffic light\n4 5 6 __ignore__\n7 8 9 __ignore__\n"))
    assert table == {(1, 2, 3): "traffic light", (4, 5, 6): "__ignore__", (7, 8, 9): "__ignore__"}


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("256,0,0", "expected name,r,g,b"),
        ("sea,0,0,256", "with values 0..255"),
        ("sea,0,0", "expected name,r,g,b"),
        ("sea,-1,0,0", "expected name,r,g,b"),
        ("sea,1.0,0,0", "expected name,r,g,b"),
        (" :7,7,7::", "expected name,r,g,b"),
        ("sea,1,2,3", "(1, 2, 3) is sky and sea"),
        ("sky,7,7,7", "sky has a colour already"),
    ],
)
def test_a_wrong_line_is_named_with_its_number(tmp_path: Path, line: str, found: str) -> None:
    with pytest.raises(DataError) as caught:
        read_color_table(save(tmp_path, f"sky,1,2,3\n{line}\n"))
    assert "colors.csv line 2: " in str(caught.value)
    assert found in str(caught.value)


@pytest.mark.parametrize("text", ["", "\n\n", "# only a comment\n", "name,r,g,b\n"])
def test_a_table_without_a_color_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(DataError, match="found no colour"):
        read_color_table(save(tmp_path, text))


@pytest.mark.parametrize("name", TABLE_FILES)
def test_each_file_name_is_found_in_the_root(tmp_path: Path, name: str) -> None:
    (tmp_path / "inner").mkdir()
    save(tmp_path / "inner", "sky,1,2,3\n", name)
    assert find_color_table(tmp_path) is None
    assert find_color_table(tmp_path / "inner") == tmp_path / "inner" / name
