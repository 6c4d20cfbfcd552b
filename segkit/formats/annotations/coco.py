"""COCO: polygons and run lengths in one JSON file per split (cocodataset.org, "Data format": objects and stuff).

What becomes of annotations:
- Polygons become pixels as COCO's own API draws them (pycocotools), so that figures can be compared with others' on
  COCO; that differs from `fill_polygon` by single pixels at edges. The polygons of one annotation are joined.
- Where annotations overlap, things cover stuff, and smaller ones larger ones, so that no object vanishes under what
  surrounds it; of equal areas the later covers the earlier.
- A crowd (iscrowd) is ignored, where no single thing lies on it: its outline is of a group, not of pixels.
- Pixels without an annotation are background in instances_*.json, and ignored in stuff_*.json, which label everything
  that they know. instances_ and stuff_ files of one split are read together.
- Polygons of fewer than 3 points, and boxes without a segmentation, are skipped, and counted.

Writing keeps all that a mask holds: a category per class but the background, an annotation per region, as a polygon, or
as run lengths where it has holes; ignored pixels are one crowd per image. Not here: panoptic annotations
(coco_panoptic).
"""

import functools
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import numpy as np
from pydantic import BaseModel, Field

from segkit.classes import Classes
from segkit.errors import DataError, count, summarize
from segkit.formats.annotations.coco_files import (
    CocoContent,
    CocoFile,
    CocoImage,
    Crowd,
    Identity,
    join_splits,
    list_coco_files,
    load_coco,
    read_categories,
    read_images,
)
from segkit.formats.documents import check
from segkit.formats.options import ReadOptions, Unlabeled, WriteOptions
from segkit.formats.raster.contours import Region, simplify, trace_regions
from segkit.formats.raster.drawing import check_size
from segkit.formats.raster.polygons import fill_polygon
from segkit.formats.raster.runs import check_runs, decode_counts, run_pixels
from segkit.formats.sample import Sample, SampleSet, arrange
from segkit.formats.splits import rename_splits
from segkit.formats.vocabulary import Vocabulary, find_background
from segkit.formats.writing import ELSEWHERE, check_path, copy_image, each_sample, read_mask
from segkit.runtime.files import write_durably

_STUFF, _CROWD, _THING = range(3)  # the later covers the earlier
_REACH = 10  # how many times the image's size a point may be away from it


# ---- reading


_Ring = list[Annotated[float, Field(strict=True, allow_inf_nan=False)]]
_Run = Annotated[int, Field(ge=-(2**62), le=2**62)]


class _Entry(BaseModel, strict=True):
    image_id: Identity
    category_id: int
    id: Identity | None = None
    iscrowd: Crowd = 0
    segmentation: list[Any] | dict[str, Any] | None = None


class _RunLengths(BaseModel, strict=True):
    size: Annotated[list[int], Field(min_length=2, max_length=2)]
    counts: str | list[_Run]


@dataclass(frozen=True, slots=True)
class _Annotation:
    """An annotation as it is kept: `rings`, each float64 [2 n] of x, y, x, y, or `runs` of a mask of `size_hw`."""

    identity: Identity | None
    label: str
    level: int
    rings: tuple[np.ndarray, ...]
    runs: np.ndarray | bytes | None = None
    size_hw: tuple[int, int] | None = None


@dataclass(frozen=True)
class _Found:
    """An image and what is on it."""

    image: CocoImage
    path: Path  # of the JSON file
    annotations: list[_Annotation]


def read(source: Path, options: ReadOptions) -> SampleSet:
    """Read a JSON file, or a folder with a JSON file per split, in annotations/ or as it is.

    Images are looked for in options.images, or else beside the JSON and above annotations/: in images/, in folders
    called as the split is (train2017, train), and in both. Classes are options.classes, or the categories by id, after
    the background where pixels without an annotation are that.

    Raises:
        ConfigError: fewer than two classes, or too many.
        DataError: broken or missing files, missing images, annotations that fit no image or category; the first
            ten of them, with their number.
    """
    files = list_coco_files(source, panoptic=False)
    categories: dict[tuple[int, str], None] = {}
    skipped: Counter[str] = Counter()
    splits: dict[str, dict[str, _Found]] = {}
    for split, parts in join_splits(files, ("instances", "stuff")).items():
        for file in parts:
            content = load_coco(file)
            known = read_categories(content, where=str(file.path))
            categories |= dict.fromkeys(known.items())
            images = read_images(content, file, source=source, images=options.images)
            annotations = _read_annotations(content, file, images, known, skipped)
            del content  # instances_train2017.json takes GiB in this form
            samples = splits.setdefault(split, {})
            for identity, image in images.items():
                found = samples.setdefault(image.name, _Found(image, file.path, []))
                found.annotations.extend(annotations.get(identity, ()))
    if not any(found.annotations for samples in splits.values() for found in samples.values()):
        boxes = f" ({count(skipped['box'], 'box')} without a segmentation)" if skipped["box"] else ""
        raise DataError(f"{source}: no segmentations{boxes}, expected polygons or run lengths; choose another file")
    rule: Unlabeled = "ignore" if any(file.kind == "stuff" for file in files) else "background"
    vocabulary = Vocabulary.build(source, [name for _, name in sorted(categories)], options, unlabeled=rule)
    notes = [
        *vocabulary.notes,
        f"{count(skipped['short'], 'polygon')} of fewer than 3 points skipped" if skipped["short"] else "",
        f"{count(skipped['box'], 'annotation')} without a segmentation skipped" if skipped["box"] else "",
        f"{count(skipped['crowd'], 'crowd')} (iscrowd) ignored" if skipped["crowd"] else "",
    ]
    listed = {
        split: [
            Sample(name, found.image.file, functools.partial(_draw, found, vocabulary), is_sized=True)
            for name, found in samples.items()
        ]
        for split, samples in rename_splits(splits).items()
    }
    return SampleSet(arrange(listed), vocabulary.classes, tuple(filter(None, notes)))


def _read_annotations(
    content: CocoContent,
    file: CocoFile,
    images: dict[Identity, CocoImage],
    categories: dict[int, str],
    skipped: Counter[str],
) -> dict[Identity, list[_Annotation]]:
    """Return the annotations by image; the JSON's own list is emptied on the way."""
    listed = content.annotations
    listed.reverse()
    found: dict[Identity, list[_Annotation]] = {}
    problems = []
    number = 0
    while listed:
        number += 1
        where = f"{file.path}: annotation {number}"
        try:
            entry = check(listed.pop(), _Entry, where=where, expected="an annotation in COCO's form")
            for key, given, known in (
                ("image_id", entry.image_id, images),
                ("category_id", entry.category_id, categories),
            ):
                if given not in known:
                    raise DataError(
                        f"{where}: {key}: found {given!r}, expected one of those that the file lists; fix it"
                    )
            annotation = _read_annotation(entry, categories[entry.category_id], file.kind, skipped, where=where)
            if annotation:
                found.setdefault(entry.image_id, []).append(annotation)
        except DataError as error:
            problems.append(str(error))
    if problems:
        raise DataError(summarize(problems))
    return found


def _read_annotation(entry: _Entry, label: str, kind: str, skipped: Counter[str], *, where: str) -> _Annotation | None:
    level = _CROWD if entry.iscrowd else _STUFF if kind == "stuff" else _THING
    skipped["crowd"] += level == _CROWD
    if not entry.segmentation:
        skipped["box"] += 1
        return None
    where = f"{where}: segmentation"
    if isinstance(entry.segmentation, list):
        polygons = check(entry.segmentation, list[_Ring], where=where, expected="polygons [[x, y, x, y, ...], ...]")
        if any(len(ring) % 2 for ring in polygons):
            raise DataError(f"{where}: found an odd count of numbers, expected [[x, y, x, y, ...], ...]; fix the file")
        rings = tuple(np.array(ring, np.float64) for ring in polygons if len(ring) >= 6)
        skipped["short"] += len(polygons) - len(rings)
        return _Annotation(entry.id, label, level, rings) if rings else None
    given = check(entry.segmentation, _RunLengths, where=where, expected="counts, and size: [height, width]")
    runs = given.counts.encode() if isinstance(given.counts, str) else np.array(given.counts, np.int64)
    return _Annotation(entry.id, label, level, (), runs, (given.size[0], given.size[1]))


def _draw(found: _Found, vocabulary: Vocabulary) -> np.ndarray:
    height, width = size_hw = check_size(found.image.file, found.image.size_hw, where=str(found.path))
    runs = [
        _runs(annotation, size_hw, where=f"{found.path}: annotation {annotation.identity} of {found.image.name}")
        for annotation in found.annotations
    ]
    order = sorted(range(len(runs)), key=lambda number: (found.annotations[number].level, -runs[number][1::2].sum()))
    columns = np.full(height * width, vocabulary.rest, np.uint8)
    for number in order:
        annotation = found.annotations[number]
        crowd = annotation.level == _CROWD
        value = vocabulary.classes.ignore_index if crowd else vocabulary.ids[annotation.label]
        columns[run_pixels(runs[number])] = value
    return np.ascontiguousarray(columns.reshape(width, height).T)


def _runs(annotation: _Annotation, size_hw: tuple[int, int], *, where: str) -> np.ndarray:
    if annotation.runs is not None:
        if annotation.size_hw != size_hw:
            raise DataError(
                f"{where}: found run lengths of size {list(annotation.size_hw or ())}, expected {list(size_hw)} "
                "[height, width], as the image has; make the file again"
            )
        try:
            runs = decode_counts(annotation.runs) if isinstance(annotation.runs, bytes) else annotation.runs
        except ValueError as error:
            raise DataError(f"{where}: counts: found {error}; make the file again") from error
        return check_runs(runs, size_hw, where=where)
    from pycocotools import mask as coco_mask

    for ring in annotation.rings:
        if np.abs(ring).max() > _REACH * max(size_hw):  # the API walks along every pixel of an edge
            raise DataError(f"{where}: found a point at {np.abs(ring).max():.0f}, far outside of the image; fix it")
    joined = coco_mask.merge(coco_mask.frPyObjects([ring.tolist() for ring in annotation.rings], *size_hw))
    return check_runs(decode_counts(joined["counts"]), size_hw, where=where)


# ---- writing


def write(samples: SampleSet, output: Path, options: WriteOptions) -> list[str]:
    """Write annotations/instances_<split>.json and images/<split>/ for each split.

    The background is no category. A category's id is its class's where the background is class 0, otherwise one more,
    since 0 is none for many readers. Ignored pixels are a crowd of the first category, which `read` ignores. With a
    tolerance in pixels, polygons have fewer points, and differ from the mask by about as much; run lengths
    stay exact.

    Raises:
        DataError: a label or image is broken, or a name leaves OUT.
        RunFolderError: a file can't be written.
    """
    classes = samples.classes
    category = list_categories(classes)[0]
    num_ignored = 0
    for split, listed in samples.splits.items():
        folder = output / "images" / check_path(split, where="split")

        def work(sample: Sample, folder: Path = folder) -> tuple[dict[str, Any], list[dict[str, Any]]]:
            mask = read_mask(sample)
            file = copy_image(sample, folder).relative_to(folder).as_posix()
            image, annotations = describe_image(file, mask, classes, options.tolerance)
            if (mask == classes.ignore_index).any():
                annotations.append(_describe_crowd(mask == classes.ignore_index, category["id"]))
            return image, annotations

        def count_crowds(
            described: Iterable[tuple[dict[str, Any], list[dict[str, Any]]]],
        ) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
            nonlocal num_ignored
            for image, annotations in described:
                num_ignored += any(annotation["iscrowd"] for annotation in annotations)
                yield image, annotations

        described = count_crowds(each_sample(work, listed, title=f"writing {split}"))
        write_coco(output / "annotations" / f"instances_{split}.json", described, classes)
    if not num_ignored:
        return []
    return [f"ignored pixels of {count(num_ignored, 'image')} are crowds (iscrowd) of category '{category['name']}'"]


def write_coco(path: Path, described: Iterable[tuple[dict[str, Any], list[dict[str, Any]]]], classes: Classes) -> None:
    """Write one file of images and their annotations, as `describe_image` gives them; ids are given here, from 1.

    Annotations are written as they come, so memory holds those of a few images.

    Raises:
        RunFolderError: the file can't be written.
    """

    def write_content(file: BinaryIO) -> None:
        images: list[bytes] = []
        written = 0
        file.write(b'{"categories": ' + _encode(list_categories(classes)) + b',\n"annotations": [')
        for image, annotations in described:
            images.append(_encode({"id": len(images) + 1, **image}))
            for annotation in annotations:
                written += 1
                whole = {"id": written, "image_id": len(images), **annotation}
                file.write((b",\n" if written > 1 else b"\n") + _encode(whole))
        file.write(b'\n],\n"images": [\n' + b",\n".join(images) + b"\n]}\n")

    write_durably(path, write_content, elsewhere=ELSEWHERE)


def list_categories(classes: Classes) -> list[dict[str, Any]]:
    """Return the categories of classes: all but the background, by ids from 1."""
    background = find_background(classes.names)
    return [
        {"id": class_id + _shift(classes), "name": name, "supercategory": ""}
        for class_id, name in enumerate(classes.names)
        if class_id != background
    ]


def describe_image(
    file_name: str, mask: np.ndarray, classes: Classes, tolerance: float = 0.0, *, runs: bool = False
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the entry of an image and the annotations of its mask, uint8 [h, w], without their ids.

    An annotation is a region of a class: a polygon, or run lengths where it has holes, or everywhere with `runs`.
    Background and ignored pixels have none.
    """
    left_out = (find_background(classes.names), classes.ignore_index)
    regions = [region for region in trace_regions(mask) if region.class_id not in left_out]
    annotations = [
        _describe(mask, region, region.class_id + _shift(classes), tolerance, runs=runs) for region in regions
    ]
    return {"file_name": file_name, "height": mask.shape[0], "width": mask.shape[1]}, annotations


def _shift(classes: Classes) -> int:
    return 0 if find_background(classes.names) == 0 else 1


def _describe(mask: np.ndarray, region: Region, category: int, tolerance: float, *, runs: bool) -> dict[str, Any]:
    (left, top), (right, bottom) = region.outer.min(axis=0).tolist(), region.outer.max(axis=0).tolist()
    if region.holes or runs:
        alone = np.zeros(mask.shape, np.uint8, order="F")
        fill_polygon(alone, [region.outer, *region.holes], 1)
        segmentation: object = _encode_runs(alone)
    else:
        segmentation = [simplify(region.outer, tolerance).ravel().tolist()]
    return {
        "category_id": category,
        "iscrowd": 0,
        "area": region.num_pixels,
        "bbox": [left, top, right - left, bottom - top],
        "segmentation": segmentation,
    }


def _describe_crowd(ignored: np.ndarray, category: object) -> dict[str, Any]:
    rows, columns = np.flatnonzero(ignored.any(axis=1)), np.flatnonzero(ignored.any(axis=0))
    left, top = int(columns[0]), int(rows[0])
    return {
        "category_id": category,
        "iscrowd": 1,
        "area": int(ignored.sum()),
        "bbox": [left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top],
        "segmentation": _encode_runs(np.asfortranarray(ignored.astype(np.uint8))),
    }


def _encode_runs(mask: np.ndarray) -> dict[str, Any]:
    from pycocotools import mask as coco_mask

    encoded = coco_mask.encode(mask)
    return {"size": list(mask.shape), "counts": encoded["counts"].decode()}


def _encode(plain: object) -> bytes:
    return json.dumps(plain).encode()
