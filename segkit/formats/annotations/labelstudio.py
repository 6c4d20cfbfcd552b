"""Label Studio's JSON export: a list of tasks, each with an image and annotations (older exports: completions).

Brush strokes (`brushlabels`), polygons, rectangles (rotated clockwise in degrees about their top left corner) and
ellipses (about their centre) are drawn in the order of the results, later over earlier; coordinates are percent of the
image. Labels may also be in a result of their own (type `labels`) with the region's id. Pixels of no region become
background. A stroke's pixels are those with an alpha of 128 or more. Other results (key points, choices) and regions
without a label are skipped, which is noted; a region with two labels is an error.

Which annotation counts: of those that weren't cancelled (skipped), the one marked as ground truth, else the one updated
last; images with several are counted in a note. Predictions are never read. Tasks without an annotation are left out.
Images are looked up by name below options.images, or the JSON's folder: data.image may be an upload (whose 8
digits of hash in front may be missing there), a local file, or an address, which is never fetched. Classes are sorted
by name.

Layout of the strokes' bit stream, highest bit first (Label Studio's brush editor; the encoding is that of the npm
package @thi.ng/rle-pack): 32 bits number of bytes, 5 bits word size - 1, four times 4 bits length size - 1; then
blocks: 1 bit (1: a run, 0: single words), 2 bits which of the four sizes, that many bits length - 1, and one word (a
run) or `length` words. The bytes are RGBA [h, w, 4].
"""

import re
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np
from pydantic import BaseModel, PositiveInt

from segkit.datasets.images import IMAGE_SUFFIXES
from segkit.errors import DataError, count, summarize
from segkit.formats.annotations.image_folder import ImageFolder
from segkit.formats.documents import Coordinate, check, find_one, read_json
from segkit.formats.options import ReadOptions
from segkit.formats.raster.drawing import Draw, bitmap, box, draw_shapes, ellipse, polygon
from segkit.formats.sample import NO_SPLIT, Sample, SampleSet, arrange
from segkit.formats.vocabulary import Vocabulary

EXPECTED = "Label Studio's JSON export"
KINDS = ("brush", "polygon", "rectangle", "ellipse")
HALF_COVERED = 128


class _Result(BaseModel):
    type: str
    value: dict[str, Any] = {}
    id: str | None = None
    original_width: PositiveInt | None = None
    original_height: PositiveInt | None = None
    image_rotation: Coordinate | None = 0


class _Annotation(BaseModel):
    result: list[_Result]
    was_cancelled: bool | None = False
    ground_truth: bool | None = False
    updated_at: str | int | None = ""
    created_at: str | int | None = ""


class _Task(BaseModel):
    id: int | str = "?"
    data: dict[str, Any]
    annotations: list[_Annotation] | None = None
    completions: list[_Annotation] | None = None


class _Polygon(BaseModel):
    points: list[tuple[Coordinate, Coordinate]]


class _Rectangle(BaseModel):
    x: Coordinate
    y: Coordinate
    width: Coordinate
    height: Coordinate
    rotation: Coordinate = 0


class _Ellipse(BaseModel):
    x: Coordinate
    y: Coordinate
    radiusX: Coordinate
    radiusY: Coordinate
    rotation: Coordinate = 0


class _Brush(BaseModel):
    rle: list[int]


def read(source: Path, options: ReadOptions) -> SampleSet:
    """Read a JSON export, or the one JSON in a folder.

    Raises:
        DataError: no export, or a task that can't be read or whose image is missing. Strokes are decoded on reading.
        ConfigError: the options' classes can't be.
    """
    path = find_one(source, ".json", expected=EXPECTED)
    tasks = read_json(path, list[_Task], expected=EXPECTED)
    folder = ImageFolder.scan(options.images or path.parent)
    skipped = Counter[str]()
    chosen: list[tuple[str, Path, list[tuple[str, str, _Result]]]] = []
    problems, seen, num_several, num_none = [], set(), 0, 0
    for task in tasks:
        where = f"{path} task {task.id}"
        annotations = [entry for entry in task.annotations or task.completions or () if not entry.was_cancelled]
        if not annotations:
            num_none += 1
            continue
        num_several += len(annotations) > 1
        try:
            image = _find_image(task, folder, where)
            if image in seen:
                raise DataError(f"{where}: {image} is another task's too, expected one task per image; remove one")
            seen.add(image)
            chosen.append((where, image, _regions(_counting(annotations), where, skipped)))
        except DataError as error:
            problems.append(str(error))
    if problems:
        raise DataError(summarize(problems))
    if not chosen:
        raise DataError(
            f"{path}: found no task with an annotation ({len(tasks)} tasks), expected {EXPECTED}; "
            "JSON-MIN can't be read"
        )
    labels = sorted({label for _, _, regions in chosen for label, _, _ in regions})
    vocabulary = Vocabulary.build(path, labels, options)
    samples = [
        Sample(folder.name(image), image, partial(_read_mask, image, regions, vocabulary, where), is_sized=True)
        for where, image, regions in chosen
    ]
    notes = list(vocabulary.notes)
    if num_several:
        notes.append(f"{count(num_several, 'image')} with several annotations: ground truth counts, or the last")
    if num_none:
        notes.append(f"{count(num_none, 'task')} without an annotation left out")
    if skipped:
        notes.append("skipped: " + ", ".join(f"{number} {kind}" for kind, number in sorted(skipped.items())))
    return SampleSet(arrange({NO_SPLIT: samples}), vocabulary.classes, tuple(notes))


# ---- tasks


def _find_image(task: _Task, folder: ImageFolder, where: str) -> Path:
    texts = {key: value for key, value in task.data.items() if isinstance(value, str)}
    named = [value for value in texts.values() if _path_of(value).lower().endswith(IMAGE_SUFFIXES)]
    address = texts.get("image") or (named[0] if len(named) == 1 else None)
    if address is None:
        raise DataError(f"{where}: found no image in its data ({', '.join(task.data)}), expected data.image")
    name = _path_of(address)
    base = name.rpartition("/")[2]
    plain = re.sub(r"^[0-9a-f]{8}-", "", base)  # uploads get 8 digits in front
    return folder.find(plain if base not in folder.by_name and plain in folder.by_name else name, where=where)


def _path_of(address: str) -> str:
    """Return the path in an address, a local-files query, or what is a path already."""
    parts = urlsplit(address)
    local = parse_qs(parts.query).get("d")
    return local[0] if local else unquote(parts.path if parts.scheme or parts.query else address)


def _counting(annotations: Sequence[_Annotation]) -> _Annotation:
    return max(annotations, key=lambda a: (bool(a.ground_truth), str(a.updated_at or a.created_at or "")))


def _regions(annotation: _Annotation, where: str, skipped: Counter[str]) -> list[tuple[str, str, _Result]]:
    """Return label, kind and result of each region that has an area."""
    beside = {result.id: result.value.get("labels") for result in annotation.result if result.type == "labels"}
    regions: list[tuple[str, str, _Result]] = []
    for number, result in enumerate(annotation.result):
        kind = result.type.removesuffix("labels")
        if result.type == "labels":
            continue
        if kind not in KINDS:
            skipped[result.type] += 1
            continue
        labels = result.value.get(result.type) if result.type != kind else beside.get(result.id)
        labels = check(labels or [], list[str], where=f"{where} result {number}", expected="a list of labels")
        if len(labels) > 1:
            raise DataError(
                f"{where} result {number}: found the labels {', '.join(labels)} on one region, expected one; keep one"
            )
        if not labels:
            skipped[f"{kind} without a label"] += 1
            continue
        if result.image_rotation:
            raise DataError(
                f"{where} result {number}: found an image rotated by {result.image_rotation:g} degrees in Label "
                "Studio, expected 0; rotate the image itself and label it again"
            )
        if result.original_width is None or result.original_height is None:
            raise DataError(f"{where} result {number}: found no original_width and original_height, expected both")
        regions.append((labels[0], kind, result))
    return regions


# ---- pixels


def _read_mask(
    image: Path, regions: Sequence[tuple[str, str, _Result]], vocabulary: Vocabulary, where: str
) -> np.ndarray:
    sizes = {(result.original_height, result.original_width) for _, _, result in regions}
    if len(sizes) > 1:
        raise DataError(f"{where}: found regions made for images of {len(sizes)} sizes, expected one; label it again")
    shapes = [(vocabulary.ids[label], _draw(kind, result, f"{where} {kind}")) for label, kind, result in regions]
    size_hw = next(((height, width) for height, width in sizes if height and width), None)
    return draw_shapes(image, size_hw, where, shapes, vocabulary.rest)


def _draw(kind: str, result: _Result, where: str) -> Draw:
    assert result.original_width is not None
    assert result.original_height is not None
    height, width = result.original_height, result.original_width
    x_scale, y_scale = width / 100, height / 100
    if kind == "polygon":
        points = check(result.value, _Polygon, where=where, expected="points [x, y] in percent").points
        return polygon([np.array(points, float).reshape(-1, 2) * (x_scale, y_scale)])
    if kind == "rectangle":
        given = check(result.value, _Rectangle, where=where, expected="x, y, width and height in percent")
        left, top = given.x * x_scale, given.y * y_scale
        right, bottom = left + given.width * x_scale, top + given.height * y_scale
        return box(left, top, right, bottom, degrees=given.rotation, about=(left, top))
    if kind == "ellipse":
        round_ = check(result.value, _Ellipse, where=where, expected="x, y, radiusX and radiusY in percent")
        radii = (round_.radiusX * x_scale, round_.radiusY * y_scale)
        return ellipse((round_.x * x_scale, round_.y * y_scale), radii, degrees=round_.rotation)
    rle = check(result.value, _Brush, where=where, expected="rle, a list of bytes").rle
    return bitmap(decode_brush(rle, (height, width), where=where), 0, 0)


def decode_brush(rle: Sequence[int], size_hw: tuple[int, int], *, where: str) -> np.ndarray:
    """Return the pixels of a stroke, bool [h, w].

    Raises:
        DataError: the stream ends early, is too long, or isn't of 8-bit words for an image of that size.
    """
    if not all(0 <= byte <= 255 for byte in rle):
        raise DataError(f"{where}: found numbers outside 0..255, expected the bytes of Label Studio's strokes")
    bits = np.unpackbits(np.array(rle, np.uint8))
    text = (bits + ord("0")).tobytes().decode("ascii")
    height, width = size_hw
    if len(text) < 53 or int(text[:32], 2) != height * width * 4 or int(text[32:37], 2) != 7:
        raise DataError(
            f"{where}: found a stroke that isn't RGBA of {width}x{height} pixels, expected Label Studio's strokes; "
            "export it again"
        )
    sizes = [int(text[start : start + 4], 2) + 1 for start in range(37, 53, 4)]
    values = np.zeros(height * width * 4, np.uint8)
    position, filled = 53, 0
    while filled < len(values):
        size = sizes[int(text[position + 1 : position + 3] or "0", 2)]
        header_end = position + 3 + size
        if header_end > len(text):
            break
        length, is_run = int(text[position + 3 : header_end], 2) + 1, text[position] == "1"
        position = header_end + 8 * (1 if is_run else length)
        if position > len(text) or filled + length > len(values):
            break
        values[filled : filled + length] = np.packbits(bits[header_end:position])
        filled += length
    if filled < len(values):
        raise DataError(f"{where}: the stroke ends after {filled} of {len(values)} bytes; export it again")
    inside: np.ndarray = values.reshape(height, width, 4)[:, :, 3] >= HALF_COVERED
    return inside
