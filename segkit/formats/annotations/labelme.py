"""labelme: a JSON file of shapes beside each picture (github.com/wkentaro/labelme, versions 3 to 5 and later).

What becomes of shapes:
- Later shapes paint over earlier ones. The shapes of one object (group_id) are painted one after another, as all are.
- `_background_` is the background, which is how holes are cut, and so are pixels without a shape; `__ignore__` is
  ignored.
- Polygons, rectangles and circles cover the pixels whose centres are in them; labelme's own converter also draws an
  outline, so that a shape is up to one pixel larger there. As there, lines are 10 pixels wide, and points are discs of
  5 pixels radius.
- Shapes with fewer points than their kind needs are passed over, and counted.

Labels are on the upright picture, as labelme shows it. A picture's name is that of its JSON file, so that a.jpg and
a.png may both be labelled. Writing gives what labelme opens, and what `read` reads as the same class ids.
"""

import base64
import binascii
import io
import json
import math
import os
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Annotated, Any

import numpy as np
from PIL import Image
from pydantic import BaseModel, Field

from segkit.classes import Classes
from segkit.datasets.images import IMAGE_SUFFIXES
from segkit.datasets.layouts import list_files, list_images
from segkit.errors import DataError, count, first_line
from segkit.formats.documents import Coordinate, check, collect, load_json
from segkit.formats.raster.contours import Region, simplify, trace_regions
from segkit.formats.raster.drawing import Draw, bitmap, box, disc, draw_shapes, line, polygon
from segkit.formats.raster.polygons import fill_polygon
from segkit.formats.sample import NO_SPLIT, Picture, PictureSet, ReadOptions, arrange
from segkit.formats.splits import split_by_folder
from segkit.formats.vocabulary import BACKGROUND, IGNORED, Vocabulary, find_background, is_background, read_class_file
from segkit.formats.writing import copy_image, each_picture, read_mask, write_text

OWN_BACKGROUND = "_background_"  # as labelme calls it
VERSION = "5.5.0"  # of the fields that are written
LINE_WIDTH, POINT_RADIUS = 10.0, 5.0  # pixels


# ---- reading


class _Shape(BaseModel, strict=True):
    label: str
    shape_type: str | None = None
    points: list[Annotated[list[Coordinate], Field(min_length=2, max_length=2)]]
    mask: str | None = None  # base64 of a picture file

    @property
    def kind(self) -> str:
        return self.shape_type or "polygon"  # version 3 says nothing


class _Content(BaseModel, strict=True):
    shapes: list[Any]
    imagePath: str | None = None
    imageData: Any = None
    imageHeight: float | None = None
    imageWidth: float | None = None


@dataclass(frozen=True)
class _Document:
    shapes: tuple[_Shape, ...]
    num_degenerate: int
    content: _Content


@dataclass(frozen=True)
class _Labelled:
    """What is kept of a JSON file; its shapes are read again when they are drawn."""

    path: Path
    image: Path
    labels: frozenset[str]
    num_degenerate: int


def read(source: Path, options: ReadOptions) -> PictureSet:
    """Read a folder of labelme's JSON files, in any depth; folders called train, val, test are splits.

    Classes are options.classes, or those of classes.txt, class_names.txt or labels.txt in the folder, or the labels
    that are found, sorted, background first. JSON files of other programs and pictures without a JSON file are passed
    over, and counted.

    Raises:
        ConfigError: the labels make fewer than two classes, or too many.
        DataError: no labels there, broken JSON, a shape that can't be, a picture that is missing or labelled twice.
    """
    if not source.is_dir():
        raise DataError(f"{source}: not a folder, expected one that holds pictures and labelme's JSON files")

    def look(path: Path) -> _Labelled | None:
        document = _parse(path)
        if document is None:
            return None
        image = _find_image(path, document, source, options.images)
        labels = frozenset(shape.label for shape in document.shapes)
        return _Labelled(path, image, labels, document.num_degenerate)

    everything = [labelled for _, labelled in collect(look, list_files(source, (".json",)))]
    found = {_name(labelled.path, source): labelled for labelled in everything if labelled}
    num_foreign = everything.count(None)
    if not found:
        raise DataError(
            f"{source}: no labelme JSON there ({count(num_foreign, 'other JSON file')}), expected one per picture, "
            "with 'shapes'; give the folder that labelme saved to"
        )
    unlabelled = _count_unlabelled(found.values(), filter(None, (source, options.images)))
    vocabulary, origin = _choose_classes(source, found.values(), options)
    degenerate = sum(labelled.num_degenerate for labelled in found.values())
    notes = [
        f"classes: {origin}",
        *vocabulary.notes,
        f"{count(num_foreign, 'JSON file')} of other programs passed over" if num_foreign else "",
        f"{count(unlabelled, 'picture')} without a JSON file: not read" if unlabelled else "",
        f"{count(degenerate, 'shape')} with too few points passed over" if degenerate else "",
    ]
    splits = {
        split: [_picture(short, found[name], vocabulary) for name, short in names.items()]
        for split, names in split_by_folder(found).items()
    }
    return PictureSet(arrange(splits), vocabulary.classes, tuple(filter(None, notes)))


def _name(path: Path, source: Path) -> str:
    return path.relative_to(source).as_posix().removesuffix(path.suffix)


def _picture(name: str, labelled: _Labelled, vocabulary: Vocabulary) -> Picture:
    return Picture(name, labelled.image, partial(_draw, labelled.path, labelled.image, vocabulary))


def _parse(path: Path) -> _Document | None:
    """Return what a JSON file holds, or None if another program wrote it."""
    plain = load_json(path, expected="labelme's JSON")
    if not isinstance(plain, dict) or "shapes" not in plain:
        return None
    content = check(plain, _Content, where=str(path), expected="what labelme writes there")
    found = [_parse_shape(entry, where=f"{path}: shape {n}") for n, entry in enumerate(content.shapes, start=1)]
    shapes = tuple(shape for shape in found if len(shape.points) >= _KINDS[shape.kind].fewest)
    return _Document(shapes, len(found) - len(shapes), content)


def _parse_shape(entry: object, *, where: str) -> _Shape:
    shape = check(entry, _Shape, where=where, expected="a shape of labelme with label, shape_type and [[x, y], ...]")
    shape.label = shape.label.strip()
    if not shape.label:
        raise DataError(f"{where}: an empty label, expected a class; name it in labelme")
    where = f"{where} ({shape.label})"
    if shape.kind not in _KINDS:
        raise DataError(f"{where}: found shape_type {shape.kind!r}, expected one of: {', '.join(_KINDS)}; redraw it")
    kind, num_points = _KINDS[shape.kind], len(shape.points)
    if num_points > kind.most or (shape.kind == "rectangle" and num_points == 3):
        raise DataError(f"{where}: found a {shape.kind} of {num_points} points, expected {kind.expected}; redraw it")
    if shape.kind == "mask" and shape.mask is None:
        raise DataError(f"{where}: found no mask, expected a picture file in base64; redraw it")
    return shape


def _find_image(path: Path, document: _Document, source: Path, images: Path | None) -> Path:
    """Return the picture of a JSON file: the one it names, or the one that has its name."""
    given = PureWindowsPath(document.content.imagePath or "")  # takes / and \ alike
    place = PurePosixPath(given.name if given.drive or given.root else given.as_posix())
    below = path.relative_to(source).parent
    folders = [path.parent] if images is None else [images / below, images, path.parent]
    for folder in folders:
        for candidate in dict.fromkeys([folder / place, folder / place.name]):
            if candidate.suffix.lower() in IMAGE_SUFFIXES and os.path.isfile(candidate):  # false for odd names too
                return candidate
    for folder in folders:
        if beside := _find_beside(folder / path.stem):
            return beside
    named = document.content.imagePath or "an imagePath"
    inside = "; the picture in its imageData isn't used: save it as a file" if document.content.imageData else ""
    raise DataError(
        f"{path}: no picture: found neither {named} nor one picture {path.stem}.* in "
        f"{', '.join(map(str, dict.fromkeys(folders)))}{inside}; put it there, or give their folder: --images DIR"
    )


def _count_unlabelled(found: Collection[_Labelled], folders: Iterable[Path]) -> int:
    """Return how many pictures in the folders no JSON file labels; refuse one that two label."""
    owners: dict[Path, Path] = {}
    for labelled in found:
        owner = owners.setdefault(labelled.image.resolve(), labelled.path)
        if owner != labelled.path:
            raise DataError(
                f"{owner} and {labelled.path} both label {labelled.image}, expected one file per picture; remove one, "
                "or mend its imagePath"
            )
    return len({path.resolve() for folder in folders for path in list_images(folder)} - set(owners))


def _choose_classes(source: Path, found: Collection[_Labelled], options: ReadOptions) -> tuple[Vocabulary, str]:
    labels = sorted(set().union(*(labelled.labels for labelled in found)) - {IGNORED})
    beside = None if options.classes else read_class_file(source)
    if beside is None:
        origin = "as given" if options.classes else "the labels found, sorted, background first"
        return Vocabulary.build(source, labels, options), origin
    path, names = beside
    names = [BACKGROUND if name == OWN_BACKGROUND else name for name in names if name != IGNORED]
    if path.name == "labels.txt" and not any(map(is_background, names)):
        names.insert(0, BACKGROUND)  # labelme doesn't ask for it there
    return Vocabulary.build(source, labels, options, names=names), f"of {path.name}"


def _find_beside(stem: Path) -> Path | None:
    """Return the picture of this path without suffix, in any case of it; None where there is none, or several."""
    names = [stem.name + suffix for small in IMAGE_SUFFIXES for suffix in (small, small.upper())]
    found = [path for path in map(stem.with_name, names) if path.is_file()]
    found = [path for path in found if not any(path.samefile(other) for other in found[: found.index(path)])]
    return found[0] if len(found) == 1 else None


def _draw(path: Path, image: Path, vocabulary: Vocabulary) -> np.ndarray:
    document = _parse(path)
    ids = {**vocabulary.ids, IGNORED: vocabulary.classes.ignore_index}
    if document is None or not all(shape.label in ids for shape in document.shapes):
        raise DataError(f"{path}: changed while it was read, expected the shapes that were there before; try again")
    shapes = [
        (ids[shape.label], _KINDS[shape.kind].draw(shape, f"{path}: {shape.kind} {number} ({shape.label})"))
        for number, shape in enumerate(document.shapes, start=1)
    ]
    height, width = document.content.imageHeight, document.content.imageWidth
    declared_hw = None if height is None or width is None else (height, width)
    return draw_shapes(image, declared_hw, str(path), shapes, vocabulary.rest)


# ---- kinds of shapes


def _polygon(shape: _Shape, where: str) -> Draw:
    return polygon([np.array(shape.points)])


def _rectangle(shape: _Shape, where: str) -> Draw:
    return box(*shape.points[0], *shape.points[1]) if len(shape.points) == 2 else _polygon(shape, where)


def _circle(shape: _Shape, where: str) -> Draw:
    center, rim = shape.points
    return disc(center, math.dist(center, rim))


def _points(shape: _Shape, where: str) -> Draw:
    discs = [disc(point, POINT_RADIUS) for point in shape.points]

    def draw(mask: np.ndarray, class_id: int) -> None:
        for each in discs:
            each(mask, class_id)

    return draw


def _line(shape: _Shape, where: str) -> Draw:
    return line(np.array(shape.points), LINE_WIDTH)


def _bitmap(shape: _Shape, where: str) -> Draw:
    """A picture file of 0 and 1, its corner at the shape's first point."""
    left, top = np.array(shape.points).min(axis=0).round().astype(int).tolist()

    def draw(mask: np.ndarray, class_id: int) -> None:
        bitmap(_decode_bitmap(shape.mask or "", (mask.shape[0], mask.shape[1]), where=where), left, top)(mask, class_id)

    return draw


def _decode_bitmap(text: str, size_hw: tuple[int, int], *, where: str) -> np.ndarray:
    """Return a picture file's pixels that aren't 0, bool [h, w]."""
    try:
        with Image.open(io.BytesIO(base64.b64decode(text, validate=True)), formats=["PNG"]) as opened:
            width, height = opened.size
            if height > 2 * size_hw[0] or width > 2 * size_hw[1]:  # before it is unpacked
                raise DataError(
                    f"{where}: a bitmap of {width}x{height} pixels, expected one within the picture of "
                    f"{size_hw[1]}x{size_hw[0]}; draw it again"
                )
            values = np.asarray(opened)
    except (OSError, ValueError, SyntaxError, binascii.Error) as error:
        raise DataError(f"{where}: broken ({first_line(error)}), expected a PNG in base64; draw it again") from error
    if values.ndim != 2:
        raise DataError(f"{where}: found a bitmap of colours, expected one of 0 and 1; draw it again")
    return values.astype(bool)


@dataclass(frozen=True)
class _Kind:
    """How many points it has, and what draws it, made of a shape and where that is."""

    fewest: int
    most: float
    expected: str
    draw: Callable[[_Shape, str], Draw]


_KINDS = {
    "polygon": _Kind(3, math.inf, "3 or more", _polygon),
    "rectangle": _Kind(2, 4, "2 (opposite corners) or 4", _rectangle),
    "oriented_rectangle": _Kind(4, 4, "4", _polygon),
    "rotation": _Kind(4, 4, "4", _polygon),  # the same, as other programs that write these files call it
    "circle": _Kind(2, 2, "2 (centre, and a point on the rim)", _circle),
    "line": _Kind(2, 2, "2", _line),
    "linestrip": _Kind(2, math.inf, "2 or more", _line),
    "point": _Kind(1, 1, "1", _points),
    "points": _Kind(1, math.inf, "1 or more", _points),
    "mask": _Kind(2, 2, "2 (opposite corners)", _bitmap),
}


# ---- writing


def write(pictures: PictureSet, output: Path, *, tolerance: float = 0.0) -> list[str]:
    """Write a JSON file for each picture, the picture beside it, and labels.txt for labelme's --labels.

    A shape per region, the one that fills more first, so that what lies within another is painted over it. Background
    is written where it lies within another region, since it's what pixels without a shape are. With a
    `tolerance` in pixels, shapes have fewer points to move by hand, and differ from the mask by about as much.

    Raises:
        DataError: a label or picture is broken, or a name leaves OUT.
        RunFolderError: a file can't be written.
    """
    classes = pictures.classes
    labels = [OWN_BACKGROUND if is_background(name) else name for name in classes.names]
    write_text(output / "classes.txt", classes.lines())
    write_text(output / "labels.txt", "".join(f"{name}\n" for name in [IGNORED, *labels]))
    for split, listed in pictures.splits.items():
        folder = output if split == NO_SPLIT else output / split

        def work(picture: Picture, folder: Path = folder) -> None:
            mask = read_mask(picture)
            image = copy_image(picture, folder)
            content = _describe(mask, image.name, classes, tolerance)
            write_text(folder / f"{picture.name}.json", json.dumps(content, indent=2))

        for _ in each_picture(work, listed, title=f"writing {split}"):
            pass
    return []


def _describe(mask: np.ndarray, image: str, classes: Classes, tolerance: float) -> dict[str, object]:
    shapes = []
    for region in _regions_to_draw(mask, classes):
        name = IGNORED if region.class_id == classes.ignore_index else classes.names[region.class_id]
        shapes.append(
            {
                "label": OWN_BACKGROUND if is_background(name) else name,
                "points": simplify(region.outer, tolerance).astype(float).tolist(),
                "group_id": None,
                "description": "",
                "shape_type": "polygon",
                "flags": {},
                "mask": None,
            }
        )
    return {
        "version": VERSION,
        "flags": {},
        "shapes": shapes,
        "imagePath": image,
        "imageData": None,
        "imageHeight": mask.shape[0],
        "imageWidth": mask.shape[1],
    }


def _regions_to_draw(mask: np.ndarray, classes: Classes) -> list[Region]:
    regions = trace_regions(mask)
    background = find_background(classes.names)
    if background is not None:
        within = np.zeros(mask.shape, np.uint8)
        for region in regions:
            if region.class_id != background:
                for hole in region.holes:
                    fill_polygon(within, [hole], 1)
        regions = [region for region in regions if region.class_id != background or within[region.first_pixel]]
    return sorted(regions, key=lambda region: -region.filled)
