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
import functools
import io
import json
import os
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np
from PIL import Image

from segkit.classes import Classes, read_class_names
from segkit.data.images import IMAGE_SUFFIXES, image_size_hw
from segkit.errors import DataError
from segkit.formats.contours import Region, simplify, trace_regions
from segkit.formats.labelling import Labelling, choose_classes, find_background, is_background
from segkit.formats.pictures import NO_SPLIT, Picture, PictureSet, ReadOptions
from segkit.formats.polygons import fill_polygon
from segkit.formats.shapes import fill_bitmap, fill_disc, fill_line
from segkit.formats.sources import (
    collect,
    count,
    field,
    find_beside,
    list_files,
    list_images,
    load_json,
    optional_field,
    split_by_folder,
)
from segkit.formats.writing import copy_image, each_picture, read_mask, write_text

IGNORE, BACKGROUND = "__ignore__", "_background_"
VERSION = "5.5.0"  # of the fields that are written
LINE_WIDTH, POINT_RADIUS = 10.0, 5.0  # pixels
FARTHEST = 1e6  # pixels from the picture's corner that a point may be

CLASS_FILES = ("classes.txt", "class_names.txt", "labels.txt")


# ---- reading


@dataclass(frozen=True)
class _Shape:
    label: str
    kind: str
    points: np.ndarray  # float64 [n, 2]
    bitmap: str | None  # base64 of a picture file, of kind "mask"


@dataclass(frozen=True)
class _Document:
    shapes: tuple[_Shape, ...]
    num_degenerate: int
    image_path: str
    has_image_data: bool
    size: tuple[float | None, float | None]  # height, width


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

    everything = [labelled for _, labelled in collect(look, list_files(source, ".json"))]
    found = {_name(labelled.path, source): labelled for labelled in everything if labelled}
    num_foreign = everything.count(None)
    if not found:
        raise DataError(
            f"{source}: no labelme JSON there ({count(num_foreign, 'other JSON file')}), expected one per picture, "
            "with 'shapes'; give the folder that labelme saved to"
        )
    unlabelled = _count_unlabelled(found.values(), filter(None, (source, options.images)))
    labelling, origin = _choose_classes(source, found.values(), options)
    degenerate = sum(labelled.num_degenerate for labelled in found.values())
    notes = [
        f"classes: {origin}",
        *labelling.notes,
        f"{count(num_foreign, 'JSON file')} of other programs passed over" if num_foreign else "",
        f"{count(unlabelled, 'picture')} without a JSON file: not read" if unlabelled else "",
        f"{count(degenerate, 'shape')} with too few points passed over" if degenerate else "",
    ]
    splits = {
        split: [_picture(short, found[name], labelling) for name, short in names.items()]
        for split, names in split_by_folder(found).items()
    }
    return PictureSet(splits, labelling.classes, tuple(filter(None, notes)))


def _name(path: Path, source: Path) -> str:
    return path.relative_to(source).as_posix().removesuffix(path.suffix)


def _picture(name: str, labelled: _Labelled, labelling: Labelling) -> Picture:
    return Picture(name, labelled.image, functools.partial(_draw, labelled.path, labelled.image, labelling))


def _parse(path: Path) -> _Document | None:
    """Return what a JSON file holds, or None if another program wrote it."""
    plain = load_json(path)
    if not isinstance(plain, dict) or "shapes" not in plain:
        return None
    shapes, num_degenerate = [], 0
    for number, entry in enumerate(field(plain, "shapes", list, where=str(path)), start=1):
        shape = _parse_shape(entry, where=f"{path}: shape {number}")
        if len(shape.points) < _KINDS[shape.kind].fewest:
            num_degenerate += 1
        else:
            shapes.append(shape)
    size = [optional_field(plain, key, (int, float), where=str(path)) for key in ("imageHeight", "imageWidth")]
    return _Document(
        shapes=tuple(shapes),
        num_degenerate=num_degenerate,
        image_path=optional_field(plain, "imagePath", str, where=str(path)) or "",
        has_image_data=bool(plain.get("imageData")),
        size=(size[0], size[1]),
    )


def _parse_shape(entry: object, *, where: str) -> _Shape:
    label = field(entry, "label", str, where=where).strip()
    assert isinstance(entry, dict)
    kind = optional_field(entry, "shape_type", str, where=where) or "polygon"  # version 3 has none
    listed = field(entry, "points", list, where=where)
    if not label:
        raise DataError(f"{where}: an empty label, expected a class; name it in labelme")
    if kind not in _KINDS:
        raise DataError(
            f"{where} ({label}): found shape_type {kind!r}, expected one of: {', '.join(_KINDS)}; redraw it"
        )
    try:
        points = np.array(listed) if listed else np.zeros((0, 2))
    except ValueError:  # rows of different lengths
        points = np.zeros(0)
    if points.ndim != 2 or points.shape[1] != 2 or points.dtype.kind not in "iuf":
        raise DataError(f"{where} ({label}): points: found {str(listed)[:60]}, expected [[x, y], ...]; redraw it")
    if not (np.abs(points) <= FARTHEST).all():  # not a number included
        raise DataError(f"{where} ({label}): a point lies beyond {FARTHEST:.0f} pixels, or nowhere; redraw it")
    if len(points) > _KINDS[kind].most or (kind == "rectangle" and len(points) == 3):
        raise DataError(
            f"{where} ({label}): found a {kind} of {len(points)} points, expected {_KINDS[kind].expected}; redraw it"
        )
    bitmap = field(entry, "mask", str, where=f"{where} ({label})") if kind == "mask" else None
    return _Shape(label, kind, points.astype(np.float64), bitmap)


def _find_image(path: Path, document: _Document, source: Path, images: Path | None) -> Path:
    """Return the picture of a JSON file: the one it names, or the one that has its name."""
    named = PureWindowsPath(document.image_path)  # takes / and \ alike
    place = PurePosixPath(named.name if named.drive or named.root else named.as_posix())
    below = path.relative_to(source).parent
    folders = [path.parent] if images is None else [images / below, images, path.parent]
    for folder in folders:
        for candidate in dict.fromkeys([folder / place, folder / place.name]):
            if candidate.suffix.lower() in IMAGE_SUFFIXES and os.path.isfile(candidate):  # false for odd names too
                return candidate
    for folder in folders:
        if beside := find_beside(folder / path.stem):
            return beside
    inside = "; the picture in its imageData isn't used: save it as a file" if document.has_image_data else ""
    raise DataError(
        f"{path}: no picture: found neither {document.image_path or 'an imagePath'} nor one picture {path.stem}.* in "
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


def _choose_classes(source: Path, found: Collection[_Labelled], options: ReadOptions) -> tuple[Labelling, str]:
    labels = sorted(set().union(*(labelled.labels for labelled in found)) - {IGNORE})
    listed, origin = None, "as given" if options.classes else "the labels found, sorted, background first"
    if not options.classes:
        for path in (source / name for name in CLASS_FILES):
            if path.is_file():
                listed = ["background" if name == BACKGROUND else name for name in read_class_names(path)]
                listed = [name for name in listed if name != IGNORE]
                if path.name == "labels.txt" and not any(map(is_background, listed)):
                    listed.insert(0, "background")  # labelme doesn't ask for it there
                origin = f"of {path.name}"
                break
    return choose_classes(labels, options, rule="background", listed=listed), origin


def _draw(path: Path, image: Path, labelling: Labelling) -> np.ndarray:
    document = _parse(path)
    if document is None:
        raise DataError(f"{path}: changed while it was read, expected labelme's 'shapes'; try again")
    height, width = image_size_hw(image)
    for said, is_there in zip(document.size, (height, width), strict=True):
        if said is not None and said != is_there:
            raise DataError(
                f"{path}: labelled as {document.size[1]}x{document.size[0]} pixels (imageWidth x imageHeight), but "
                f"{image} has {width}x{height} upright; expected the picture that was labelled: put it back, "
                "or label anew"
            )
    mask = np.full((height, width), labelling.unlabelled, np.uint8)
    for number, shape in enumerate(document.shapes, start=1):
        value = labelling.classes.ignore_index if shape.label == IGNORE else labelling.value_of(shape.label)
        if shape.bitmap is not None:
            _fill_bitmap(mask, shape, value, where=f"{path}: mask {number} ({shape.label})")
        else:
            _KINDS[shape.kind].fill(mask, shape.points, value)
    return mask


# ---- kinds of shapes


def _fill(mask: np.ndarray, points: np.ndarray, value: int) -> None:
    fill_polygon(mask, [points], value)


def _fill_rectangle(mask: np.ndarray, points: np.ndarray, value: int) -> None:
    if len(points) == 2:
        (left, top), (right, bottom) = points
        points = np.array([(left, top), (right, top), (right, bottom), (left, bottom)])
    fill_polygon(mask, [points], value)


def _fill_circle(mask: np.ndarray, points: np.ndarray, value: int) -> None:
    fill_disc(mask, points[0], float(np.hypot(*(points[1] - points[0]))), value)


def _fill_points(mask: np.ndarray, points: np.ndarray, value: int) -> None:
    for point in points:
        fill_disc(mask, point, POINT_RADIUS, value)


def _fill_line(mask: np.ndarray, points: np.ndarray, value: int) -> None:
    fill_line(mask, points, LINE_WIDTH, value)


def _fill_bitmap(mask: np.ndarray, shape: _Shape, value: int, *, where: str) -> None:
    """Decode a picture file of 0 and 1; its corner is at the shape's first point, what leaves the mask is cut off."""
    assert shape.bitmap is not None
    try:
        with Image.open(io.BytesIO(base64.b64decode(shape.bitmap, validate=True))) as opened:
            width, height = opened.size
            if height > 2 * mask.shape[0] or width > 2 * mask.shape[1]:  # before it is unpacked
                raise DataError(
                    f"{where}: a bitmap of {width}x{height} pixels, expected one within the picture of "
                    f"{mask.shape[1]}x{mask.shape[0]}; draw it again"
                )
            bitmap = np.asarray(opened)
    except (OSError, ValueError, SyntaxError, binascii.Error) as error:
        raise DataError(f"{where}: broken ({error}), expected a PNG in base64; draw it again") from error
    if bitmap.ndim != 2:
        raise DataError(f"{where}: found a bitmap of colours, expected one of 0 and 1; draw it again")
    left, top = shape.points.min(axis=0).round().astype(int).tolist()
    fill_bitmap(mask, bitmap.astype(bool), (top, left), value)


@dataclass(frozen=True)
class _Kind:
    fewest: int
    most: float
    expected: str
    fill: Callable[[np.ndarray, np.ndarray, int], None]


_KINDS = {
    "polygon": _Kind(3, float("inf"), "3 or more", _fill),
    "rectangle": _Kind(2, 4, "2 (opposite corners) or 4", _fill_rectangle),
    "oriented_rectangle": _Kind(4, 4, "4", _fill),
    "rotation": _Kind(4, 4, "4", _fill),  # the same, as other programs that write these files call it
    "circle": _Kind(2, 2, "2 (centre, and a point on the rim)", _fill_circle),
    "line": _Kind(2, 2, "2", _fill_line),
    "linestrip": _Kind(2, float("inf"), "2 or more", _fill_line),
    "point": _Kind(1, 1, "1", _fill_points),
    "points": _Kind(1, float("inf"), "1 or more", _fill_points),
    "mask": _Kind(2, 2, "2 (opposite corners)", _fill),  # see _fill_bitmap
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
    labels = [BACKGROUND if is_background(name) else name for name in classes.names]
    write_text(output / "classes.txt", "".join(f"{name}\n" for name in classes.names))
    write_text(output / "labels.txt", "".join(f"{name}\n" for name in [IGNORE, *labels]))
    for split, listed in pictures.splits.items():
        folder = output if split == NO_SPLIT else output / split

        def work(picture: Picture, folder: Path = folder) -> None:
            mask = read_mask(picture)
            image = copy_image(picture, folder)
            content = _describe(mask, image.name, classes, tolerance)
            write_text(folder / f"{picture.name}.json", json.dumps(content, indent=2))

        for _ in each_picture(work, listed, title=f"writing {split}"):
            pass
    return ["correct them with: labelme OUT --labels OUT/labels.txt --nodata, then read OUT again"]


def _describe(mask: np.ndarray, image: str, classes: Classes, tolerance: float) -> dict[str, object]:
    shapes = []
    for region in _regions_to_draw(mask, classes):
        name = IGNORE if region.class_id == classes.ignore_index else classes.names[region.class_id]
        shapes.append(
            {
                "label": BACKGROUND if is_background(name) else name,
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
