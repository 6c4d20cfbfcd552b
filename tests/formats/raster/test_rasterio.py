"""GDAL's own rasteriser and polygoniser, by rasterio, as judges of ours."""

from collections.abc import Sequence

import numpy as np
import pytest
from rasterio.features import rasterize, shapes

from segkit.formats.raster.contours import trace_regions
from segkit.formats.raster.polygons import fill_polygon

# rasterio takes an image without a place on the globe for a mistake; label masks have none
pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


def area(ring: Sequence[Sequence[float]]) -> float:
    x, y = np.array(ring, float).T
    return abs(float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum())) / 2


@pytest.mark.parametrize("seed", range(30))
def test_a_simple_polygon_fills_the_pixels_that_gdal_fills(seed: int) -> None:
    rng = np.random.default_rng(seed)
    angles = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(3, 30)))
    radii = rng.uniform(2, 45, len(angles))
    ring = np.stack([30 + radii * np.cos(angles), 25 + radii * np.sin(angles)], axis=1)  # some of it is outside
    mask = np.zeros((50, 60), np.uint8)
    fill_polygon(mask, [ring], 1)
    geometry = {"type": "Polygon", "coordinates": [[*ring.tolist(), ring[0].tolist()]]}
    assert mask.any()
    assert (mask == rasterize([geometry], out_shape=mask.shape, all_touched=False, dtype=np.uint8)).all()


def test_a_polygon_with_a_hole_fills_the_pixels_that_gdal_fills() -> None:
    outer, hole = [[2.3, 1.1], [37.9, 4.2], [33.3, 28.4], [5.2, 22.7]], [[10.1, 8.3], [20.2, 9.9], [15.7, 19.6]]
    mask = np.zeros((30, 40), np.uint8)
    fill_polygon(mask, [np.array(outer), np.array(hole)], 1)
    geometry = {"type": "Polygon", "coordinates": [[*ring, ring[0]] for ring in (outer, hole)]}
    assert (mask == rasterize([geometry], out_shape=mask.shape, dtype=np.uint8)).all()


def test_regions_are_those_of_gdal(random_masks: dict[str, np.ndarray]) -> None:
    for name, mask in random_masks.items():
        ours = [(region.class_id, region.num_pixels) for region in trace_regions(mask)]
        theirs = []  # without `filled`: where two pixels share a corner only, GDAL may close a hole that is open for us
        for geometry, value in shapes(mask, connectivity=4):
            outer, *holes = map(area, geometry["coordinates"])
            theirs.append((int(value), outer - sum(holes)))
        assert sorted(ours) == sorted(theirs), name


def test_gdal_reads_our_regions_as_the_mask_they_came_from(random_masks: dict[str, np.ndarray]) -> None:
    for name, mask in random_masks.items():
        geometries = [
            (
                {
                    "type": "Polygon",
                    "coordinates": [[*ring.tolist(), ring[0].tolist()] for ring in (region.outer, *region.holes)],
                },
                region.class_id,
            )
            for region in trace_regions(mask)
        ]
        again = rasterize(geometries, out_shape=mask.shape, fill=77, dtype=np.uint8)
        assert (again == mask).all(), name
