"""labelme: a JSON file of shapes beside each image (github.com/wkentaro/labelme, versions 3 to 5 and later).

What becomes of shapes:
- Later shapes paint over earlier ones. The shapes of one object (group_id) are painted one after another, as all are.
- `_background_` is the background, which is how holes are cut, and so are pixels without a shape; `__ignore__` is
  ignored.
- Polygons, rectangles and circles cover the pixels whose centres are in them; labelme's own converter also draws an
  outline, so that a shape is up to one pixel larger there. As there, lines are 10 pixels wide, and points are discs of
  5 pixels radius.
- Shapes with fewer points than their kind needs are skipped, and counted.

Labels are on the upright image, as labelme shows it. A sample's name is that of its JSON file, so that a.jpg and
a.png may both be labelled. Writing gives what labelme opens, and what `read` reads as the same class ids.
"""

import json
import os
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
from pydantic import BaseModel

from segkit.classes import Classes
from segkit.datasets.images import IMAGE_SUFFIXES
from segkit.datasets.layouts import list_files, list_images
from segkit.errors import DataError, count
from segkit.formats.annotations.labelme_shapes import parse_shape
from segkit.formats.documents import check, collect, load_json
from segkit.formats.options import ReadOptions, WriteOptions
from segkit.formats.raster.contours import Region, simplify, trace_regions
from segkit.formats.raster.drawing import Draw, draw_shapes
from segkit.formats.raster.polygons import fill_polygon
from segkit.formats.sample import NO_SPLIT, Sample, SampleSet, arrange
from segkit.formats.splits import split_by_folder
from segkit.formats.vocabulary import BACKGROUND, IGNORED, Vocabulary, find_background, is_background, read_class_file
from segkit.formats.writing import copy_image, each_sample, read_mask, write_text

OWN_BACKGROUND = "_background_"  # as labelme calls it
VERSION = "5.5.0"  # of the fields that are written


# ---- reading


class _Content(BaseModel, strict=True):
    shapes: list[Any]
    imagePath: str | None = None
    imageData: Any = None
    imageHeight: float | None = None
    imageWidth: float | None = None


@dataclass(frozen=True)
class _Labelled:
    """What is kept of a JSON file: its image and shapes, each a label and what draws it, and the (height, width) that
    they were made for, where the file says it.
    """

    path: Path
    image: Path
    shapes: tuple[tuple[str, Draw], ...]
    declared_hw: tuple[float, float] | None
    num_degenerate: int


def read(source: Path, options: ReadOptions) -> SampleSet:
    """Read a folder of labelme's JSON files, in any depth; folders called train, val, test are splits.

    Classes are options.classes, or those of classes.txt, class_names.txt or labels.txt in the folder, or the labels
    that are found, sorted, background first. JSON files of other programs and images without a JSON file are skipped
    and counted.

    Raises:
        ConfigError: the labels make fewer than two classes, or too many.
        DataError: no labels there, broken JSON, a shape that can't be, an image that is missing or labelled twice.
    """
    if not source.is_dir():
        raise DataError(f"{source}: not a folder, expected one that holds images and labelme's JSON files")

    def parse(path: Path) -> _Labelled | None:
        return _parse(path, source, options.images)

    everything = [labelled for _, labelled in collect(parse, list_files(source, (".json",)))]
    found = {_name(labelled.path, source): labelled for labelled in everything if labelled}
    num_foreign = everything.count(None)
    if not found:
        raise DataError(
            f"{source}: no labelme JSON there ({count(num_foreign, 'other JSON file')}), expected one per image, "
            "with 'shapes'; give the folder that labelme saved to"
        )
    unlabelled = _count_unlabelled(found.values(), filter(None, (source, options.images)))
    vocabulary, origin = _choose_classes(source, found.values(), options)
    degenerate = sum(labelled.num_degenerate for labelled in found.values())
    notes = [
        f"classes: {origin}",
        *vocabulary.notes,
        f"{count(num_foreign, 'JSON file')} of other programs skipped" if num_foreign else "",
        f"{count(unlabelled, 'image')} without a JSON file: not read" if unlabelled else "",
        f"{count(degenerate, 'shape')} with too few points skipped" if degenerate else "",
    ]
    splits = {
        split: [_sample(short, found[name], vocabulary) for name, short in names.items()]
        for split, names in split_by_folder(found).items()
    }
    return SampleSet(arrange(splits), vocabulary.classes, tuple(filter(None, notes)))


def _name(path: Path, source: Path) -> str:
    return path.relative_to(source).as_posix().removesuffix(path.suffix)


def _sample(name: str, labelled: _Labelled, vocabulary: Vocabulary) -> Sample:
    return Sample(name, labelled.image, partial(_draw, labelled, vocabulary), is_sized=True)


def _parse(path: Path, source: Path, images: Path | None) -> _Labelled | None:
    """Return what a JSON file holds, or None if another program wrote it."""
    plain = load_json(path, expected="labelme's JSON")
    if not isinstance(plain, dict) or "shapes" not in plain:
        return None
    content = check(plain, _Content, where=str(path), expected="what labelme writes there")
    found = [parse_shape(entry, where=f"{path}: shape {n}") for n, entry in enumerate(content.shapes, start=1)]
    shapes = [shape for shape in found if not shape.is_degenerate]
    drawings = tuple(
        (shape.label, shape.drawing(where=f"{path}: {shape.kind} {number} ({shape.label})"))
        for number, shape in enumerate(shapes, start=1)
    )
    height, width = content.imageHeight, content.imageWidth
    declared_hw = None if height is None or width is None else (height, width)
    image = _find_image(path, content, source, images)
    return _Labelled(path, image, drawings, declared_hw, len(found) - len(shapes))


def _find_image(path: Path, content: _Content, source: Path, images: Path | None) -> Path:
    """Return the image of a JSON file: the one it names, or the one that has its name."""
    given = PureWindowsPath(content.imagePath or "")  # takes / and \ alike
    named = PurePosixPath(given.name if given.drive or given.root else given.as_posix())
    below = path.relative_to(source).parent
    folders = [path.parent] if images is None else [images / below, images, path.parent]
    for folder in folders:
        for candidate in dict.fromkeys([folder / named, folder / named.name]):
            if candidate.suffix.lower() in IMAGE_SUFFIXES and os.path.isfile(candidate):  # false for odd names too
                return candidate
    for folder in folders:
        if beside := _find_beside(folder / path.stem):
            return beside
    wanted = content.imagePath or "an imagePath"
    inside = "; the image in its imageData isn't used: save it as a file" if content.imageData else ""
    raise DataError(
        f"{path}: no image: found neither {wanted} nor one image {path.stem}.* in "
        f"{', '.join(map(str, dict.fromkeys(folders)))}{inside}; put it there, or give their folder: --images DIR"
    )


def _count_unlabelled(found: Collection[_Labelled], folders: Iterable[Path]) -> int:
    """Return how many images in the folders no JSON file labels; refuse one that two label."""
    owners: dict[Path, Path] = {}
    for labelled in found:
        owner = owners.setdefault(labelled.image.resolve(), labelled.path)
        if owner != labelled.path:
            raise DataError(
                f"{owner} and {labelled.path} both label {labelled.image}, expected one file per image; remove one, "
                "or fix its imagePath"
            )
    return len({path.resolve() for folder in folders for path in list_images(folder)} - set(owners))


def _choose_classes(source: Path, found: Collection[_Labelled], options: ReadOptions) -> tuple[Vocabulary, str]:
    labels = sorted({label for labelled in found for label, _ in labelled.shapes} - {IGNORED})
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
    """Return the image of this path without suffix, in any case of it; None where there is none, or several."""
    names = [stem.name + suffix for small in IMAGE_SUFFIXES for suffix in (small, small.upper())]
    found = [path for path in map(stem.with_name, names) if path.is_file()]
    found = [path for path in found if not any(path.samefile(other) for other in found[: found.index(path)])]
    return found[0] if len(found) == 1 else None


def _draw(labelled: _Labelled, vocabulary: Vocabulary) -> np.ndarray:
    ids = {**vocabulary.ids, IGNORED: vocabulary.classes.ignore_index}
    shapes = [(ids[label], draw) for label, draw in labelled.shapes]
    return draw_shapes(labelled.image, labelled.declared_hw, str(labelled.path), shapes, vocabulary.rest)


# ---- writing


def write(samples: SampleSet, output: Path, options: WriteOptions) -> list[str]:
    """Write a JSON file for each image, the image beside it, and labels.txt for labelme's --labels.

    A shape per region, the one that fills more first, so that what lies within another is painted over it. Background
    is written where it lies within another region, since it's what pixels without a shape are. With a
    tolerance in pixels, shapes have fewer points to move by hand, and differ from the mask by about as much.

    Raises:
        DataError: a label or image is broken, or a name leaves OUT.
        RunFolderError: a file can't be written.
    """
    classes = samples.classes
    labels = [OWN_BACKGROUND if is_background(name) else name for name in classes.names]
    write_text(output / "classes.txt", classes.lines())
    write_text(output / "labels.txt", "".join(f"{name}\n" for name in [IGNORED, *labels]))
    for split, listed in samples.splits.items():
        folder = output if split == NO_SPLIT else output / split

        def work(sample: Sample, folder: Path = folder) -> None:
            mask = read_mask(sample)
            image = copy_image(sample, folder)
            content = describe(mask, image.name, classes, options.tolerance)
            write_text(folder / f"{sample.name}.json", json.dumps(content, indent=2))

        for _ in each_sample(work, listed, title=f"writing {split}"):
            pass
    return []


def describe(mask: np.ndarray, image: str, classes: Classes, tolerance: float = 0.0) -> dict[str, object]:
    """Return the content of a JSON file: a polygon per region of a mask, uint8 [h, w]; `image` is the image's path."""
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
