"""Folders of binary masks: 0 is background, and the one other value that a file holds is the object.

The other value may be 1, 255 or anything else, and differ from file to file; black and another colour are fine too. A
file with a single value is all background if that is 0, all object otherwise. A third value stops the run.

One mask per class: where the folder of labels holds nothing but folders (masks/cat/, masks/dog/), none of which is a
folder of images or a split, each is a class; classes are sorted by name, later ones cover earlier ones, and an image
lacks the classes whose folder has no mask for it. Every pixel has a label, so `options.unlabeled` isn't taken.
"""

from collections import defaultdict
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from segkit.classes import Classes
from segkit.datasets.label_faults import looks_soft, object_value
from segkit.datasets.masks import color_codes, color_of, read_label_values
from segkit.errors import ConfigError, DataError, count, listed
from segkit.formats.masks.pairing import find_pairs
from segkit.formats.masks.roles import LABEL_WORDS
from segkit.formats.options import ReadOptions
from segkit.formats.sample import Sample, SampleSet, arrange
from segkit.formats.splits import is_split
from segkit.formats.vocabulary import Vocabulary


def read(source: Path, options: ReadOptions) -> SampleSet:
    """Read a folder of images and binary masks.

    Raises:
        DataError: as `find_pairs`.
        ConfigError: options.unlabeled is set, or options.classes aren't two names.
    """
    if options.unlabeled is not None:
        raise ConfigError("--unlabeled: binary masks have a label for every pixel; leave it out")
    folders = _class_folders(source, options)
    if folders:
        return _read_class_folders(source, folders, options)
    if options.classes is not None and len(options.classes) != 2:
        raise ConfigError(f"--classes: found {len(options.classes)} names, expected two: background and the object")
    pairing = find_pairs(source, options)
    classes = Classes.build(options.classes or ("background", "object"))
    return SampleSet(pairing.samples(_read_mask), classes, pairing.notes)


def read_object(path: Path) -> np.ndarray:
    """Return the pixels of the object, bool [h, w].

    Raises:
        DataError: the mask can't be read, or holds more than 0 and one other value.
    """
    stored = read_label_values(path)
    by_color = stored.ndim == 3
    if by_color:
        stored = color_codes(stored)
    values: list[int] = np.unique(stored).tolist()
    if object_value(values) is None and values != [0]:
        found = listed(color_of(value) if by_color else value for value in values)
        remedy = "for more than one class use --from color-masks or id-masks"
        if looks_soft(values):
            soft = f"{len(values)} values look like soft edges (resized, or once a JPEG); export it with hard ones"
            remedy = f"{soft}, or {remedy}"
        raise DataError(f"{path}: found {found}, expected 0 and one other value; {remedy}")
    inside: np.ndarray = stored != 0
    return inside


def _read_mask(path: Path) -> np.ndarray:
    return read_object(path).astype(np.uint8)


# ---- one mask per class


def _class_folders(source: Path, options: ReadOptions) -> list[Path]:
    if not source.is_dir():
        return []
    named = [folder for folder in sorted(source.iterdir()) if folder.is_dir() and folder.name.lower() in LABEL_WORDS]
    root = options.labels or (named[0] if len(named) == 1 else None)
    if root is None or not root.is_dir():
        return []
    inner = [path for path in sorted(root.iterdir()) if not path.name.startswith(".")]
    if not all(path.is_dir() for path in inner):
        return []
    others = {path.name for path in source.rglob("*") if path.is_dir() and not path.is_relative_to(root)}
    if options.images is not None:
        others |= {path.name for path in options.images.rglob("*") if path.is_dir()}
    return [] if any(is_split(path.name) or path.name in others for path in inner) else inner


def _read_class_folders(source: Path, folders: list[Path], options: ReadOptions) -> SampleSet:
    vocabulary = Vocabulary.build(source, ["background", *(folder.name for folder in folders)], options)
    masks: dict[str, dict[tuple[str, Path], list[tuple[int, Path]]]] = defaultdict(lambda: defaultdict(list))
    unlabelled: set[Path] = set()
    for folder in folders:
        pairing = find_pairs(source, replace(options, labels=folder))
        unlabelled |= set(pairing.unlabelled)
        for split, found in pairing.splits.items():
            for pair in found:
                masks[split][pair.name, pair.image].append((vocabulary.ids[folder.name], pair.label))
    splits = {
        split: [Sample(name, image, partial(_overlay, layers)) for (name, image), layers in found.items()]
        for split, found in masks.items()
    }
    left_out = sorted(unlabelled - {image for found in masks.values() for _, image in found})
    notes = list(vocabulary.notes)
    if left_out:
        notes.append(f"{count(len(left_out), 'image')} without a mask left out: {listed(left_out)}")
    return SampleSet(arrange(splits), vocabulary.classes, tuple(notes))


def _overlay(masks: list[tuple[int, Path]]) -> np.ndarray:
    first = masks[0][1]
    mask: np.ndarray | None = None
    for class_id, path in masks:
        inside = read_object(path)
        if mask is None:
            mask = np.zeros(inside.shape, np.uint8)
        if mask.shape != inside.shape:
            raise DataError(
                f"{path}: found {inside.shape} pixels, expected {mask.shape} as {first} has; export it again"
            )
        mask[inside] = class_id
    assert mask is not None
    return mask
