"""Folders of masks that hold one class id per pixel, grey or palette indices, which nothing else describes.

Names come from options.classes, else from classes.txt, class_names.txt or labels.txt in the source, in id order; else
classes are numbered up to the largest id that a mask holds. 255 is ignored. Every pixel has a label, so
`options.unlabeled` isn't taken.
"""

from pathlib import Path

import numpy as np

from segkit.classes import MAX_CLASSES, Classes
from segkit.datasets.masks import read_label_values
from segkit.errors import ConfigError, DataError
from segkit.formats.documents import collect
from segkit.formats.masks.pairing import find_pairs
from segkit.formats.options import ReadOptions
from segkit.formats.sample import SampleSet
from segkit.formats.values import LabelTable
from segkit.formats.vocabulary import read_class_file

IGNORED = 255


def read(source: Path, options: ReadOptions) -> SampleSet:
    """Read folders of images and masks of ids.

    Raises:
        DataError: as `find_pairs`, or masks of colours, or ids beyond what masks can hold.
        ConfigError: options.unlabeled is set, or the classes' names can't be.
    """
    if options.unlabeled is not None:
        raise ConfigError("--unlabeled: masks of ids have a label for every pixel; leave it out")
    pairing = find_pairs(source, options)
    names, notes = _names(source, options)
    if not names:
        last = max(largest for _, largest in collect(_largest_id, pairing.labels))
        names = [f"class_{k}" for k in range(max(1, last) + 1)]
        notes.append(
            f"nothing names the classes, so they are numbered up to {last}, the largest id; name them in id order: "
            "--classes background,..."
        )
    classes = Classes.build(names)
    remedy = "name every class in id order with --classes, or write classes.txt into the source"
    table = LabelTable({IGNORED: classes.ignore_index, **{k: k for k in range(len(classes))}}, remedy=remedy)
    return SampleSet(pairing.samples(table), classes, (*notes, *pairing.notes))


def _names(source: Path, options: ReadOptions) -> tuple[list[str], list[str]]:
    if options.classes is not None:
        return list(options.classes), []
    if beside := read_class_file(source):
        return beside[1], [f"classes: of {beside[0].name}"]
    return [], []


def _largest_id(path: Path) -> int:
    stored = read_label_values(path)
    if stored.ndim == 3:
        raise DataError(f"{path}: found RGB colours, expected one id per pixel; say --from color-masks")
    largest = int(np.max(stored, where=stored != IGNORED, initial=0))
    if largest >= MAX_CLASSES:
        raise DataError(
            f"{path}: found the id {largest}, expected 0..{MAX_CLASSES - 1} or {IGNORED}; ids that large are mostly "
            "instances, or class * 1000 + number: write one class id per pixel"
        )
    return largest
