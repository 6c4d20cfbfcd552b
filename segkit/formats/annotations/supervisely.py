"""Supervisely's project folder: meta.json, and datasets, each with img/ and ann/<file name of the image>.json.

Objects are drawn in their order, later over earlier; pixels of no object become background. Polygons (interiors are
holes), bitmaps (a PNG, deflated, in base64, with its origin) and rectangles have an area; lines, points, graphs and
cuboids are skipped. Supervisely's coordinates are pixels, not their corners: a polygon has its outline's pixels
too, and so has a hole, as Supervisely's SDK draws them; a rectangle has both its corners. A bitmap's pixels are those
with any alpha, or, without an alpha channel, any value. Classes and colours are those of meta.json, in its order.
Datasets are splits if all of them are called train, val or test; else their names go in front of the images' names.
"""

import base64
import binascii
import io
import re
import zlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
from PIL import Image
from pydantic import BaseModel, Field, PositiveInt

from segkit.datasets.layouts import list_images
from segkit.errors import DataError, count, first_line, summarize
from segkit.formats.documents import Coordinate, read_json
from segkit.formats.options import ReadOptions
from segkit.formats.raster.drawing import Draw, bitmap, box, draw_shapes
from segkit.formats.sample import NO_SPLIT, Sample, SampleSet, arrange
from segkit.formats.splits import SPLIT_WORDS, is_split
from segkit.formats.values import hex_color
from segkit.formats.vocabulary import Vocabulary

WITHOUT_AREA = ("line", "polyline", "point", "graph", "cuboid", "cuboid_2d")

Point = tuple[Coordinate, Coordinate]
Color = Annotated[str, Field(pattern="^#[0-9a-fA-F]{6}$")]


class _Class(BaseModel):
    title: str
    shape: str = "any"
    color: Color | None = None


class _Meta(BaseModel):
    classes: list[_Class]


class _Points(BaseModel):
    exterior: list[Point] = []
    interior: list[list[Point]] = []


class _Bitmap(BaseModel):
    data: str
    origin: tuple[int, int]


class _Object(BaseModel):
    classTitle: str
    geometryType: str | None = None
    points: _Points | None = None
    bitmap: _Bitmap | None = None


class _Size(BaseModel):
    height: PositiveInt
    width: PositiveInt


class _Annotation(BaseModel):
    size: _Size
    objects: list[_Object]


def read(source: Path, options: ReadOptions) -> SampleSet:
    """Read a project folder.

    Raises:
        DataError: no project, or an annotation without an image. Annotations are opened on reading.
        ConfigError: the options' classes can't be.
    """
    meta = read_json(source / "meta.json", _Meta, expected="the meta.json of a Supervisely project")
    colors = {entry.title: hex_color(entry.color) for entry in meta.classes if entry.color}
    vocabulary = Vocabulary.build(source / "meta.json", [entry.title for entry in meta.classes], options, colors=colors)
    datasets = sorted(path.parent for path in source.rglob("ann") if path.is_dir())
    if not datasets:
        raise DataError(f"{source}: found no dataset, expected folders with img/ and ann/ below it; check the path")
    are_splits = all(is_split(dataset.name) for dataset in datasets)
    splits: dict[str, list[Sample]] = {}
    problems, num_without = [], 0
    for dataset in datasets:
        below = dataset.relative_to(source).as_posix()
        images, annotations = _images(dataset, source, options), sorted((dataset / "ann").glob("*.json"))
        split = SPLIT_WORDS[dataset.name.lower()] if are_splits else NO_SPLIT
        for annotation in annotations:
            image = images.pop(annotation.name.removesuffix(".json"), None)
            if image is None:
                problems.append(f"{annotation}: found no image for it in {dataset / 'img'}; add it, or say --images")
                continue
            name = image.stem if are_splits or below == "." else f"{below}/{image.stem}"
            read_mask = partial(_read_mask, image, annotation, vocabulary)
            splits.setdefault(split, []).append(Sample(name, image, read_mask, is_sized=True))
        num_without += len(images)
    if problems:
        raise DataError(summarize(problems))
    if not splits:
        raise DataError(f"{source}: found no annotation, expected ann/<image's file name>.json; check the path")
    notes = list(vocabulary.notes)
    if num_without:
        notes.append(f"{count(num_without, 'image')} without an annotation left out")
    lines = [entry.title for entry in meta.classes if entry.shape in WITHOUT_AREA]
    if lines:
        notes.append(f"these classes have no area and paint nothing: {', '.join(lines)}")
    if any(entry.shape == "any" for entry in meta.classes):
        notes.append("objects that are lines, points, graphs or cuboids paint nothing")
    return SampleSet(arrange(splits), vocabulary.classes, tuple(notes))


def _images(dataset: Path, source: Path, options: ReadOptions) -> dict[str, Path]:
    """Return the images of a dataset by file name; options.images may hold them as the project does, or flat."""
    folder = dataset / "img"
    if options.images is not None:
        inner = options.images / dataset.relative_to(source)
        folder = next((path for path in (inner / "img", inner) if path.is_dir()), options.images)
    return {path.name: path for path in list_images(folder)}


# ---- pixels


def _read_mask(image: Path, path: Path, vocabulary: Vocabulary) -> np.ndarray:
    annotation = read_json(path, _Annotation, expected="an annotation of Supervisely")
    shapes = []
    for number, given in enumerate(annotation.objects):
        where = f"{path} object {number}"
        if given.classTitle not in vocabulary.ids:
            raise DataError(
                f"{where}: found the class '{given.classTitle}', expected one of meta.json; export it again"
            )
        draw = _draw(given, where)
        if draw is not None:
            shapes.append((vocabulary.ids[given.classTitle], draw))
    return draw_shapes(image, (annotation.size.height, annotation.size.width), str(path), shapes, vocabulary.rest)


def _outlined_polygon(exterior: Sequence[Sequence[float]], interiors: Sequence[Sequence[Sequence[float]]]) -> Draw:
    """Return what draws a polygon and its holes as Supervisely's own SDK does: with the pixels of their outlines."""
    outer, *holes = (np.rint(np.array(ring, float).reshape(-1, 2)).astype(np.int32) for ring in (exterior, *interiors))

    def draw(mask: np.ndarray, class_id: int) -> None:
        inside = cv2.fillPoly(np.zeros(mask.shape, np.uint8), [outer], (1,))
        if holes:
            cv2.fillPoly(inside, holes, (0,))
        mask[inside > 0] = class_id

    return draw


def _draw(given: _Object, where: str) -> Draw | None:
    kind = given.geometryType or ("bitmap" if given.bitmap else "polygon")
    if kind in WITHOUT_AREA:
        return None
    if kind == "bitmap" and given.bitmap is not None:
        return bitmap(decode_bitmap(given.bitmap.data, where=where), *given.bitmap.origin)
    if kind == "polygon" and given.points is not None and len(given.points.exterior) > 2:
        return _outlined_polygon(given.points.exterior, given.points.interior)
    if kind == "rectangle" and given.points is not None and len(given.points.exterior) == 2:
        corners = np.array(given.points.exterior)
        left, top, right, bottom = (float(number) for number in (*corners.min(axis=0), *(corners.max(axis=0) + 1)))
        return box(left, top, right, bottom)
    raise DataError(
        f"{where}: found '{kind}' without what it needs, expected a bitmap, a polygon of three points or more, or a "
        "rectangle of two; fix the object in Supervisely"
    )


def decode_bitmap(data: str, *, where: str) -> np.ndarray:
    """Return the pixels of a bitmap, bool [h, w].

    Raises:
        DataError: it isn't a deflated PNG in base64.
    """
    try:
        encoded = zlib.decompress(base64.b64decode(re.sub(r"\s", "", data), validate=True))
        with Image.open(io.BytesIO(encoded), formats=["PNG"]) as opened:
            if "transparency" in opened.info or opened.mode in ("LA", "RGBA", "PA"):
                return np.array(opened.convert("RGBA"))[:, :, 3] > 0
            values = np.array(opened)
    except (binascii.Error, zlib.error, OSError, ValueError, SyntaxError) as error:
        raise DataError(
            f"{where}: its bitmap can't be read ({first_line(error)}), expected a deflated PNG in base64; export "
            "it again"
        ) from error
    if values.ndim != 2:
        raise DataError(f"{where}: found a bitmap in colours, expected one value per pixel, or alpha; export it again")
    inside: np.ndarray = values > 0
    return inside
