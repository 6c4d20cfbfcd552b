"""Outputs that draw regions as polygons, a file per image. Ignored pixels and the background belong to no object."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from segkit.classes import Classes
from segkit.formats.annotations import labelme
from segkit.formats.raster.contours import trace_regions
from segkit.formats.vocabulary import find_background
from segkit.prediction.outputs import PerImage, Prediction
from segkit.runtime.files import appearing


class Labelme(PerImage):
    """`labelme/NAME.json`: what labelme opens beside the image, to correct the prediction by hand."""

    def write(self, prediction: Prediction) -> None:
        path = self.folder / "labelme" / f"{prediction.name}.json"
        image = os.path.relpath(prediction.source, path.parent)
        content = labelme.describe(prediction.segmentation.mask, Path(image).as_posix(), self.classes)
        _write_json(path, content)


class GeoJson(PerImage):
    """`geojson/NAME.geojson`: a feature per region, its polygon in pixels of the image, x to the right, y down.

    RFC 7946 but for the coordinates, which are no longitudes: a side of a pixel has length 1, the upper left corner of
    the image is (0, 0), and what a polygon covers is exactly the pixels of its region.
    """

    def write(self, prediction: Prediction) -> None:
        features = describe_regions(prediction.segmentation.mask, self.classes)
        _write_json(
            self.folder / "geojson" / f"{prediction.name}.geojson",
            {"type": "FeatureCollection", "features": features},
        )


def describe_regions(mask: np.ndarray, classes: Classes) -> list[dict[str, Any]]:
    """Return a GeoJSON feature for each region of a mask, uint8 [h, w]: class, class id, and area in pixels."""
    left_out = (find_background(classes.names), classes.ignore_index)
    return [
        {
            "type": "Feature",
            "properties": {
                "class": classes.names[region.class_id],
                "class_id": region.class_id,
                "pixels": region.num_pixels,
            },
            # RFC 7946: the outer ring counterclockwise where y goes up, holes the other way round
            "geometry": {"type": "Polygon", "coordinates": [_ring(ring) for ring in (region.outer, *region.holes)]},
        }
        for region in trace_regions(mask)
        if region.class_id not in left_out
    ]


def _ring(corners: np.ndarray) -> list[list[int]]:
    """Return a ring that ends where it starts."""
    points: list[list[int]] = corners.tolist()
    return [*points, points[0]]


def _write_json(path: Path, content: Any) -> None:
    with appearing(path) as part:
        part.write_text(json.dumps(content), encoding="utf-8", errors="backslashreplace")
