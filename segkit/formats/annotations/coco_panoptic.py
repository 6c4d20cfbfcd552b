"""COCO's panoptic form: a JSON file that says what each segment is, and a PNG per image that says where.

A pixel's segment is R + 256 G + 65536 B; 0 is no segment and is ignored. Segments of crowds (iscrowd) are ignored too,
as in coco.
"""

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel

from segkit.datasets.masks import color_codes, read_label_values
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
from segkit.formats.options import ReadOptions
from segkit.formats.raster.drawing import check_size
from segkit.formats.sample import Sample, SampleSet, arrange
from segkit.formats.splits import rename_splits
from segkit.formats.vocabulary import Vocabulary


class _Entry(BaseModel, strict=True):
    image_id: Identity
    file_name: str
    segments_info: list[Any]


class _Segment(BaseModel, strict=True):
    id: int
    category_id: int
    iscrowd: Crowd = 0


@dataclass(frozen=True)
class _Segments:
    """The segments of an image: their numbers in its PNG, ascending, and the label of each; None for a crowd."""

    image: CocoImage
    png: Path
    numbers: np.ndarray  # int64 [n]
    labels: tuple[str | None, ...]


def read(source: Path, options: ReadOptions) -> SampleSet:
    """Read a panoptic JSON file, or a folder with panoptic_<split>.json files, in annotations/ or as it is.

    The PNGs are in the folder beside the JSON that is called as it is. Images are looked for as in coco.read, and
    those without segments are skipped, and counted. Classes are options.classes, or the categories by id; pixels
    without a segment are ignored.

    Raises:
        ConfigError: fewer than two classes, or too many.
        DataError: broken or missing files, missing images, a segment of no category; the first ten and their
            number.
    """
    categories: dict[tuple[int, str], None] = {}
    splits: dict[str, list[_Segments]] = {}
    num_without = 0
    for split, parts in join_splits(list_coco_files(source, panoptic=True), ("panoptic",)).items():
        for file in parts:
            content = load_coco(file)
            known = read_categories(content, where=str(file.path))
            categories |= dict.fromkeys(known.items())
            images = read_images(content, file, source=source, images=options.images)
            splits[split] = _read_annotations(content, file, images, known)
            num_without += len(images) - len(splits[split])
    if not any(splits.values()):
        raise DataError(f"{source}: no panoptic annotations, expected one per image; choose another file")
    labels = [name for _, name in sorted(categories)]
    vocabulary = Vocabulary.build(source, labels, options, unlabeled="ignore")
    num_crowds = sum(found.labels.count(None) for listed in splits.values() for found in listed)
    notes = [
        *vocabulary.notes,
        f"{count(num_without, 'image')} without segments: not read" if num_without else "",
        f"{count(num_crowds, 'crowd')} (iscrowd) ignored" if num_crowds else "",
    ]
    samples = {
        split: [
            Sample(found.image.name, found.image.file, functools.partial(_draw, found, vocabulary), is_sized=True)
            for found in listed
        ]
        for split, listed in rename_splits(splits).items()
    }
    return SampleSet(arrange(samples), vocabulary.classes, tuple(filter(None, notes)))


def _read_annotations(
    content: CocoContent, file: CocoFile, images: dict[Identity, CocoImage], categories: dict[int, str]
) -> list[_Segments]:
    folder = file.path.with_suffix("")
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder, expected the PNGs of {file.path.name} in it; unpack them there")
    present = {path.name for path in folder.iterdir()}
    found: dict[Identity, _Segments] = {}
    problems = []
    for number, entry in enumerate(content.annotations, start=1):
        where = f"{file.path}: annotation {number}"
        try:
            given = check(entry, _Entry, where=where, expected="image_id, file_name and segments_info")
            image, name = given.image_id, given.file_name
            if image not in images or image in found:
                what = "has two annotations" if image in found else "isn't among the images"
                raise DataError(f"{where}: the image {image} {what}, expected one of each; fix the file")
            if name not in present:
                raise DataError(f"{where}: {folder / name}: no such file, expected its PNG there; unpack them again")
            labels = dict(_read_segment(segment, categories, where=where) for segment in given.segments_info)
            numbers = np.array(sorted(labels), np.int64)
            found[image] = _Segments(images[image], folder / name, numbers, tuple(labels[n] for n in sorted(labels)))
        except DataError as error:
            problems.append(str(error))
    if problems:
        raise DataError(summarize(problems))
    return list(found.values())


def _read_segment(entry: object, categories: dict[int, str], *, where: str) -> tuple[int, str | None]:
    given = check(entry, _Segment, where=f"{where}: segment", expected="id, category_id, and iscrowd as 0 or 1")
    if not 0 < given.id < 2**24:
        raise DataError(f"{where}: segment: id: found {given.id}, expected 1..16777215; fix the file")
    if given.category_id not in categories:
        raise DataError(
            f"{where}: segment {given.id}: category_id: found {given.category_id}, expected one that the file lists; "
            "fix it"
        )
    return given.id, None if given.iscrowd else categories[given.category_id]


def _draw(found: _Segments, vocabulary: Vocabulary) -> np.ndarray:
    stored = read_label_values(found.png)
    if stored.ndim != 3:
        raise DataError(f"{found.png}: found an image without colours, expected segments as R + 256 G + 65536 B")
    there = check_size(found.image.file, found.image.size_hw, where=str(found.png))
    if stored.shape[:2] != there:
        raise DataError(
            f"{found.png}: found {stored.shape[1]}x{stored.shape[0]} pixels, expected {there[1]}x{there[0]} as "
            f"{found.image.file} has; copy it again"
        )
    segments = color_codes(stored[:, :, ::-1])
    ignored = vocabulary.classes.ignore_index
    values = [ignored if label is None else vocabulary.ids[label] for label in found.labels]
    numbers = np.concatenate([[0], found.numbers])
    table = np.array([vocabulary.rest, *values], np.uint8)
    index = np.searchsorted(numbers, segments).clip(max=len(numbers) - 1)
    wrong = numbers[index] != segments
    if wrong.any():
        row, column = np.argwhere(wrong)[0].tolist()
        raise DataError(
            f"{found.png}: segment {segments[row, column]} at row {row}, column {column} isn't among the image's "
            "segments_info, expected all of them; fix the JSON, or copy the PNG again"
        )
    mask: np.ndarray = table[index]
    return mask
