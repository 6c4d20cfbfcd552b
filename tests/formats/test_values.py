from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segkit.datasets.masks import code_of
from segkit.errors import DataError
from segkit.formats.values import EitherTable, LabelTable, hex_color

IDS = LabelTable({0: 0, 7: 2, 255: 255}, remedy="do this")
COLORS = LabelTable({code_of((0, 0, 0)): 0, code_of((9, 8, 7)): 1}, by_color=True, remedy="do that")


def save(path: Path, values: object) -> Path:
    Image.fromarray(np.array(values, np.uint8)).save(path)
    return path


def test_a_color_is_read_from_its_six_digits() -> None:
    assert hex_color("#ff8001") == (255, 128, 1)
    assert hex_color("00000A") == (0, 0, 10)


def test_ids_become_those_of_the_table(tmp_path: Path) -> None:
    mask = IDS(save(tmp_path / "a.png", [[0, 7], [255, 0]]))
    assert mask.dtype == np.uint8
    assert mask.tolist() == [[0, 2], [255, 0]]


def test_colors_become_the_ids_of_the_table(tmp_path: Path) -> None:
    assert COLORS(save(tmp_path / "a.png", [[[9, 8, 7], [0, 0, 0]]])).tolist() == [[1, 0]]


@pytest.mark.parametrize("value", [1, 6, 8, 254])
def test_a_value_outside_of_the_table_is_named_with_its_pixel(tmp_path: Path, value: int) -> None:
    path = save(tmp_path / "a.png", [[0, 7, 0], [0, 7, value]])
    with pytest.raises(DataError, match=rf"a\.png: found the value {value} at \(1, 2\), .* 0, 7, 255; do this"):
        IDS(path)


@pytest.mark.parametrize("color", [(0, 0, 1), (9, 8, 8), (255, 255, 255), (7, 8, 9)])
def test_a_color_outside_of_the_table_is_named(tmp_path: Path, color: tuple[int, int, int]) -> None:
    with pytest.raises(DataError) as caught:
        COLORS(save(tmp_path / "a.png", [[(0, 0, 0), color]]))
    assert f"found the colour {color} at (0, 1), expected one of (0, 0, 0), (9, 8, 7); do that" in str(caught.value)


def test_a_table_of_one_kind_refuses_the_other(tmp_path: Path) -> None:
    ids, colors = save(tmp_path / "ids.png", [[0, 7]]), save(tmp_path / "rgb.png", [[[0, 0, 0], [9, 8, 7]]])
    with pytest.raises(DataError, match=r"rgb\.png: found RGB colours, expected one id per pixel; do this"):
        IDS(colors)
    with pytest.raises(DataError, match=r"ids\.png: found one id per pixel, expected RGB colours; do that"):
        COLORS(ids)
    either = EitherTable(IDS, COLORS)
    assert (either(ids).tolist(), either(colors).tolist()) == ([[0, 2]], [[0, 1]])


def test_indices_of_a_palette_are_ids(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 7]], np.uint8))
    image.putpalette([5] * 768)
    image.save(tmp_path / "a.png")
    assert IDS(tmp_path / "a.png").tolist() == [[0, 2]]
