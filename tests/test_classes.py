from pathlib import Path

import pytest

from segkit.classes import VOC_NAMES, Classes, read_class_names, voc_color
from segkit.errors import ConfigError, DataError


@pytest.mark.parametrize(
    ("class_id", "color"),
    [
        (0, (0, 0, 0)),
        (1, (128, 0, 0)),
        (2, (0, 128, 0)),
        (15, (192, 128, 128)),
        (20, (0, 64, 128)),
        (255, (224, 224, 192)),
    ],
)
def test_colors_are_those_of_the_voc_devkit(class_id: int, color: tuple[int, int, int]) -> None:
    assert voc_color(class_id) == color


def test_voc_has_twenty_classes_and_background() -> None:
    assert len(VOC_NAMES) == 21


def test_classes_survive_a_round_trip_through_plain_values() -> None:
    classes = Classes.build(["a", "b"], colors=[(1, 2, 3), (4, 5, 6)], ignore_index=200)
    assert Classes.from_dict(classes.to_dict()) == classes


def test_palette_holds_the_classes_colors_by_id() -> None:
    palette = Classes.build(["a", "b"], colors=[(1, 2, 3), (4, 5, 6)]).palette()
    assert len(palette) == 768
    assert palette[:6] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ("names", "ignore_index", "words"),
    [
        (["only"], 255, "at least 2"),
        (["a", "b", "a"], 255, "a is listed more than once"),
        ([f"c{k}" for k in range(255)], 255, "at most 254"),
        (["a", "b", "c"], 2, "found 2, expected 3..255"),
        (["a", "b", "c"], 256, "found 256, expected 3..255"),
        (["a", "b\nc"], 255, "names of one line each"),
        (["a", ""], 255, "names of one line each"),
    ],
)
def test_refuses_classes_that_make_no_sense(names: list[str], ignore_index: int, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Classes.build(names, ignore_index=ignore_index)


@pytest.mark.parametrize(("num_classes", "ignore_index"), [(2, 2), (2, 255), (254, 254), (254, 255)])
def test_takes_from_two_classes_to_the_most_that_masks_hold(num_classes: int, ignore_index: int) -> None:
    assert len(Classes.build([f"c{k}" for k in range(num_classes)], ignore_index=ignore_index)) == num_classes


def test_ignored_pixels_are_cream_in_the_palette() -> None:
    palette = Classes.build(["a", "b"], ignore_index=200).palette()
    assert palette[200 * 3 : 201 * 3] == [224, 224, 192]


def test_a_class_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    classes = Classes.build(["sky", "road sign"])
    (tmp_path / "classes.txt").write_text(classes.lines())
    assert read_class_names(tmp_path / "classes.txt") == ["sky", "road sign"]


def test_class_file_may_have_bom_crlf_and_blank_lines(tmp_path: Path) -> None:
    path = tmp_path / "classes.txt"
    path.write_bytes("\ufeffsky\r\n\r\nroad sign \r\n".encode())
    assert read_class_names(path) == ["sky", "road sign"]


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe\x00"])
def test_class_file_that_is_missing_empty_or_no_text_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "classes.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=r"classes\.txt"):
        read_class_names(path)
