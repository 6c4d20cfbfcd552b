import time

import numpy as np
import pytest

from segkit.formats.raster.contours import Region, keyhole, trace_regions
from segkit.formats.raster.polygons import fill_polygon
from segkit.formats.sample import SampleSet

UNTOUCHED = 250


def refill(mask: np.ndarray, *, one_ring: bool = False) -> np.ndarray:
    filled = np.full(mask.shape, UNTOUCHED, np.uint8)
    for region in trace_regions(mask):
        rings = [keyhole(region.outer, region.holes)] if one_ring else [region.outer, *region.holes]
        fill_polygon(filled, rings, region.class_id)
    return filled


def mask_of(*rows: str) -> np.ndarray:
    return np.array([[int(cell) for cell in row] for row in rows], np.uint8)


NESTED = mask_of("0000000", "0111110", "0122210", "0120210", "0122210", "0111110", "0000000")


@pytest.mark.parametrize("one_ring", [False, True])
def test_filling_what_was_traced_gives_the_same_pixels(one_ring: bool) -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        height, width, num_classes = rng.integers(1, 24, 3)
        mask = rng.integers(0, num_classes, (height, width)).astype(np.uint8)
        assert (refill(mask, one_ring=one_ring) == mask).all()


@pytest.mark.parametrize("one_ring", [False, True])
def test_filling_what_was_traced_of_real_masks_gives_the_same_pixels(real_set: SampleSet, one_ring: bool) -> None:
    for sample in real_set.splits["all"]:
        mask = sample.read_mask()
        assert (refill(mask, one_ring=one_ring) == mask).all()


@pytest.mark.parametrize(
    "mask",
    [mask_of("1"), mask_of("10", "01"), mask_of("111", "101", "110"), NESTED, mask_of("11", "11"), mask_of("1010")],
    ids=["one pixel", "diagonal", "hole open at a corner", "holes in holes", "whole frame", "row"],
)
def test_filling_what_was_traced_of_special_masks_gives_the_same_pixels(mask: np.ndarray) -> None:
    assert (refill(mask) == mask).all()
    assert (refill(mask, one_ring=True) == mask).all()


def test_pixels_that_touch_at_a_corner_alone_are_two_regions() -> None:
    regions = trace_regions(mask_of("10", "01"))
    assert [region.class_id for region in regions] == [1, 0, 0, 1]
    assert all(len(region.outer) == 4 and not region.holes for region in regions)


def test_a_hole_that_touches_the_outside_at_a_corner_is_no_hole() -> None:
    (region, *_) = trace_regions(mask_of("1110", "1010", "1101", "0000"))
    assert region.class_id == 1
    assert not region.holes  # (1, 1) touches (2, 2), which is open below


def test_regions_know_their_pixels_with_and_without_what_is_in_them() -> None:
    by_class = {region.class_id: region for region in trace_regions(NESTED)[:3]}
    assert [(by_class[i].filled, by_class[i].num_pixels) for i in (0, 1, 2)] == [(49, 24), (25, 16), (9, 8)]
    assert [len(by_class[i].holes) for i in (0, 1, 2)] == [1, 1, 1]
    assert all(NESTED[region.first_pixel] == region.class_id for region in trace_regions(NESTED))


def test_a_rectangle_has_four_corners_and_runs_clockwise() -> None:
    (_, region) = trace_regions(mask_of("0000", "0110", "0110"))
    points = region.outer.tolist()
    start = points.index([1, 1])
    assert points[start:] + points[:start] == [[1, 1], [3, 1], [3, 3], [1, 3]]


def test_a_tolerance_leaves_out_corners_and_stays_near() -> None:
    y, x = np.mgrid[:200, :300]
    mask = ((x - 150) ** 2 + (y - 100) ** 2 < 80**2).astype(np.uint8)
    exact, coarse = (
        next(r for r in trace_regions(mask, tolerance=tolerance) if r.class_id == 1) for tolerance in (0.0, 1.5)
    )
    filled = np.zeros_like(mask)
    fill_polygon(filled, [coarse.outer], 1)
    assert len(coarse.outer) < len(exact.outer) / 5
    assert 0 < (filled != mask).sum() < 0.02 * mask.sum()


def test_a_region_that_a_tolerance_would_erase_stays() -> None:
    mask = mask_of("000", "010", "000")
    (region,) = (region for region in trace_regions(mask, tolerance=5) if region.class_id == 1)
    filled = np.zeros_like(mask)
    fill_polygon(filled, [region.outer], 1)
    assert (filled == mask).all()


def test_many_holes_become_one_ring() -> None:
    mask = np.ones((41, 41), np.uint8)
    mask[1::2, 1::2] = 0
    (region,) = (region for region in trace_regions(mask) if region.class_id == 1)
    assert len(region.holes) == 400
    assert isinstance(region, Region)
    assert (refill(mask, one_ring=True) == mask).all()


def test_a_mask_of_three_megapixels_takes_less_than_seconds() -> None:
    rng = np.random.default_rng(0)
    mask = rng.integers(0, 12, (75, 100)).astype(np.uint8).repeat(20, axis=0).repeat(20, axis=1)
    start = time.perf_counter()
    regions = trace_regions(mask)
    assert mask.shape == (1500, 2000)
    assert len(regions) > 5000
    assert time.perf_counter() - start < 5  # 0.2 s on two cores; room for a busy machine
