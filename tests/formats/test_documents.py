from pathlib import Path

import pytest
from pydantic import BaseModel

from segkit.errors import DataError
from segkit.formats.documents import FAR, Coordinate, check, collect, find_one, load_json, read_json, read_text


class Point(BaseModel):
    x: Coordinate
    y: Coordinate = 0


def test_a_file_is_itself_and_a_folder_is_the_one_file_in_it(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("{}")
    (tmp_path / "b.txt").write_text("")
    assert find_one(path, ".json", expected="an export") == path
    assert find_one(tmp_path, ".json", expected="an export") == path


@pytest.mark.parametrize(
    ("names", "found"), [([], "found 0 JSON files,"), (["b", "a"], "found 2 JSON files: a.json, b")]
)
def test_a_folder_of_none_or_several_is_refused(tmp_path: Path, names: list[str], found: str) -> None:
    for name in names:
        (tmp_path / f"{name}.json").write_text("{}")
    with pytest.raises(DataError, match=rf"{found}.*expected one, an export"):
        find_one(tmp_path, ".json", expected="an export")


def test_text_is_utf8_with_or_without_a_bom(tmp_path: Path) -> None:
    for encoding in ("utf-8", "utf-8-sig"):
        (tmp_path / "a.txt").write_text("größe\n", encoding=encoding)
        assert read_text(tmp_path / "a.txt", expected="names") == "größe\n"
    (tmp_path / "a.txt").write_text("größe\n", encoding="latin-1")
    with pytest.raises(DataError, match=r"a\.txt: not a text file in UTF-8, expected names"):
        read_text(tmp_path / "a.txt", expected="names")
    with pytest.raises(DataError, match=r"b\.txt: can't be read \(No such file"):
        read_text(tmp_path / "b.txt", expected="names")


@pytest.mark.parametrize("text", ["", "{", "[NaN]", "[Infinity]", "[-Infinity]", "[1,]", "[" * 100_000])
def test_what_is_not_json_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(DataError, match=r"a\.json: broken JSON .* expected an export"):
        load_json(tmp_path / "a.json", expected="an export")


def test_content_of_the_form_is_returned_as_it(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('[{"x": 1, "other": 2}, {"x": 2.5, "y": 3}]')
    assert read_json(tmp_path / "a.json", list[Point], expected="points") == [Point(x=1), Point(x=2.5, y=3)]


def test_every_wrong_field_is_named() -> None:
    with pytest.raises(DataError) as caught:
        check([{"y": 1}, {"x": "far", "y": []}], list[Point], where="a.json", expected="points")
    lines = str(caught.value).splitlines()
    assert [line.split(": found")[0] for line in lines] == ["a.json: 0.x", "a.json: 1.x", "a.json: 1.y"]
    assert lines[0].startswith("a.json: 0.x: found nothing (")
    assert all(line.endswith("expected points") for line in lines)


def test_content_of_another_kind_is_named_as_the_top_level() -> None:
    with pytest.raises(DataError, match=r"^a\.json: its top level: found 3 \("):
        check(3, list[Point], where="a.json", expected="points")


@pytest.mark.parametrize("value", [FAR, -FAR, 0])
def test_a_coordinate_may_lie_anywhere_near(value: float) -> None:
    assert check({"x": value}, Point, where="a", expected="a point").x == value


@pytest.mark.parametrize("value", [FAR * 1.001, -FAR * 1.001, float("nan"), float("inf"), 10**400])
def test_a_coordinate_beyond_any_image_is_refused(value: float) -> None:
    with pytest.raises(DataError, match="x: found"):
        check({"x": value}, Point, where="a", expected="a point")


def test_results_come_in_order_and_errors_at_the_end_as_one() -> None:
    def half(number: int) -> int:
        if number % 2:
            raise DataError(f"{number} is odd")
        return number // 2

    assert [*collect(half, range(0, 100, 2))] == [(number, number // 2) for number in range(0, 100, 2)]
    seen = []
    with pytest.raises(DataError) as caught:
        seen += [result for _, result in collect(half, range(26))]
    assert str(caught.value).splitlines() == [
        *(f"{number} is odd" for number in range(1, 20, 2)), "... and 3 more (13 in total)",
    ]  # fmt: skip


def test_any_other_error_is_raised_at_once() -> None:
    with pytest.raises(ZeroDivisionError):
        [*collect(lambda number: 1 // number, [1, 0, 2])]
