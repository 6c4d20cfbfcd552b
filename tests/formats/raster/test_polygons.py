from collections.abc import Sequence

import numpy as np
import pytest

from segkit.formats.raster.polygons import fill_polygon

Points = Sequence[tuple[float, float]]


def filled(*rings: Points, hw: tuple[int, int] = (8, 8)) -> np.ndarray:
    mask = np.zeros(hw, np.uint8)
    fill_polygon(mask, [np.array(ring) for ring in rings], 1)
    return mask


def test_a_rectangle_on_pixel_corners_is_those_pixels() -> None:
    expected = np.zeros((8, 8), np.uint8)
    expected[2:5, 1:4] = 1
    assert (filled([(1, 2), (4, 2), (4, 5), (1, 5)]) == expected).all()


def test_a_ring_inside_another_is_a_hole() -> None:
    mask = filled([(0, 0), (6, 0), (6, 6), (0, 6)], [(2, 2), (4, 2), (4, 4), (2, 4)])
    assert mask.sum() == 36 - 4
    assert not mask[2:4, 2:4].any()


def test_polygons_that_share_an_edge_share_no_pixel_and_leave_no_gap() -> None:
    corners = [(0, 0), (40, 0), (40, 30), (0, 30)]
    middle = (17.3, 11.9)
    total = sum(
        filled([a, b, middle], hw=(30, 40)).astype(int) for a, b in zip(corners, corners[1:] + corners[:1], strict=True)
    )
    assert (total == 1).all()


def test_every_pixel_agrees_with_a_test_of_its_centre() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        ring = rng.uniform(-4, 20, (rng.integers(3, 9), 2))  # may cross itself, and leave the mask
        mask = filled([tuple(point) for point in ring], hw=(16, 13))
        for y in range(16):
            for x in range(13):
                assert mask[y, x] == contains(ring, x + 0.5, y + 0.5)


def contains(ring: np.ndarray, x: float, y: float) -> bool:
    inside = False
    for (x0, y0), (x1, y1) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
        if (y0 > y) != (y1 > y) and x > x0 + (y - y0) * (x1 - x0) / (y1 - y0):
            inside = not inside
    return inside


@pytest.mark.parametrize(
    "ring", [[], [(1, 1)], [(1, 1), (5, 5)], [(2, 2), (2, 6), (2, 4)], [(-9, -9), (-2, -9), (-2, -2)]]
)
def test_what_has_no_area_in_the_image_paints_nothing(ring: Points) -> None:
    assert not filled(ring).any()
