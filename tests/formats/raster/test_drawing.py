import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segkit.errors import DataError
from segkit.formats.raster.drawing import Draw, bitmap, box, disc, draw_shapes, ellipse


def drawn(draw: Draw, hw: tuple[int, int] = (20, 30)) -> np.ndarray:
    mask = np.zeros(hw, np.uint8)
    draw(mask, 1)
    return mask


@pytest.mark.parametrize("degrees", [0, 30, 90, -45])
def test_an_ellipses_pixels_are_those_whose_centres_it_holds(degrees: float) -> None:
    center, radii = (12.3, 9.1), (9.5, 3.2)
    turn = math.radians(degrees)
    expected = np.zeros((20, 30), np.uint8)
    for y in range(20):
        for x in range(30):
            dx, dy = x + 0.5 - center[0], y + 0.5 - center[1]
            along, across = dx * math.cos(turn) + dy * math.sin(turn), dy * math.cos(turn) - dx * math.sin(turn)
            expected[y, x] = (along / radii[0]) ** 2 + (across / radii[1]) ** 2 <= 1
    assert (drawn(ellipse(center, radii, degrees=degrees)) == expected).all()
    assert expected.any()


@pytest.mark.parametrize(
    "draw", [ellipse((-50, 5), (9, 9)), ellipse((5, 5), (0, 9)), bitmap(np.ones((3, 3)) > 0, 40, 2)]
)
def test_what_lies_outside_or_has_no_area_paints_nothing(draw: Draw) -> None:
    assert not drawn(draw).any()


def test_centres_exactly_on_the_rim_belong_to_a_disc() -> None:
    """3, 4 and 5: where a division would round up, they would fall out."""
    mask = drawn(disc((10.5, 10.5), 5))
    assert mask[[6, 6, 14, 14, 7, 13], [7, 13, 7, 13, 6, 14]].all()
    assert mask.sum() == 81


def test_a_box_turns_clockwise() -> None:
    """A quarter turn about the top left corner lays a wide box to the lower left: y grows downwards."""
    mask = drawn(box(10, 4, 18, 7, degrees=90, about=(10, 4)))
    expected = np.zeros((20, 30), np.uint8)
    expected[4:12, 7:10] = 1
    assert (mask == expected).all()


def test_a_bitmap_is_cut_off_at_every_side() -> None:
    bits = np.ones((6, 8), bool)
    assert drawn(bitmap(bits, -2, -3))[:3, :6].sum() == drawn(bitmap(bits, -2, -3)).sum() == 18
    assert drawn(bitmap(bits, 25, 16)).sum() == 5 * 4


def test_later_shapes_cover_earlier_ones_and_the_rest_is_filled(tmp_path: Path) -> None:
    Image.new("RGB", (6, 4)).save(tmp_path / "a.png")
    shapes = [(1, box(0, 0, 4, 4, about=(0, 0))), (2, box(2, 0, 5, 4, about=(0, 0)))]
    mask = draw_shapes(tmp_path / "a.png", (4, 6), "a", shapes, 255)
    assert mask.tolist() == [[1, 1, 2, 2, 2, 255]] * 4


def test_a_declared_size_that_differs_is_refused(tmp_path: Path) -> None:
    Image.new("RGB", (6, 4)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"made for 4x6 pixels, but .*a.png has 6x4"):
        draw_shapes(tmp_path / "a.png", (6, 4), "a.json", [], 0)
