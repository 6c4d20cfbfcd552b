"""Folders of masks that hold one class id per pixel, grey or palette indices, which nothing else describes.

Names come from options.classes, else from classes.txt or class_names.txt in the source, in id order; else classes are
numbered up to the largest id that a mask holds. 255 is ignored. Every pixel has a label, so `options.unlabeled` isn't
taken.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from segkit.classes import MAX_CLASSES, Classes, read_class_names
from segkit.data.masks import read_label_values
from segkit.data.prefetch import prefetch
from segkit.errors import ConfigError, DataError, summarize
from segkit.formats.pairs import find_pairs
from segkit.formats.pictures import PictureSet, ReadOptions
from segkit.formats.values import LabelTable
from segkit.runtime import count_threads

NAME_FILES = ("classes.txt", "class_names.txt")
IGNORED = 255


def read(source: Path, options: ReadOptions) -> PictureSet:
    """Read folders of pictures and masks of ids.

    Raises:
        DataError: as `find_pairs`, or masks of colours, or ids beyond what masks can hold.
        ConfigError: options.unlabeled is set, or the classes' names can't be.
    """
    if options.unlabeled is not None:
        raise ConfigError("--unlabeled: masks of ids have a label for every pixel; leave it out")
    pairing = find_pairs(source, options)
    names, notes = _names(source, options)
    if not names:
        last = _largest_id(pairing.labels)
        names = [f"class_{k}" for k in range(max(1, last) + 1)]
        notes.append(
            f"nothing names the classes, so they are numbered up to {last}, the largest id; name them in id order: "
            "--classes background,..."
        )
    classes = Classes.build(names)
    remedy = "name every class in id order with --classes, or write classes.txt into the source"
    table = LabelTable({IGNORED: classes.ignore_index, **{k: k for k in range(len(classes))}}, remedy=remedy)
    return PictureSet(pairing.pictures(table), classes, (*notes, *pairing.notes))


def _names(source: Path, options: ReadOptions) -> tuple[list[str], list[str]]:
    if options.classes is not None:
        return list(options.classes), []
    for name in NAME_FILES:
        if (source / name).is_file():
            return read_class_names(source / name), [f"classes: of {name}"]
    return [], []


def _largest_id(labels: Sequence[Path]) -> int:
    threads = count_threads()
    problems, largest = [], 0
    for path, held in zip(labels, _largest(labels, threads), strict=True):
        if isinstance(held, str):
            problems.append(held)
        elif held >= MAX_CLASSES:
            problems.append(
                f"{path}: found the id {held}, expected 0..{MAX_CLASSES - 1} or {IGNORED}; ids that large are mostly "
                "instances, or class * 1000 + number: write one class id per pixel"
            )
        else:
            largest = max(largest, held)
    if problems:
        raise DataError(summarize(problems))
    return largest


def _largest(labels: Sequence[Path], threads: int) -> Iterable[int | str]:
    def read_largest(path: Path) -> int | str:
        try:
            stored = read_label_values(path)
        except DataError as error:
            return str(error)
        if stored.ndim == 3:
            return f"{path}: found RGB colours, expected one id per pixel; say --from color-masks"
        return int(np.max(stored, where=stored != IGNORED, initial=0))

    return prefetch(read_largest, labels, threads=threads, ahead=8 * threads)
