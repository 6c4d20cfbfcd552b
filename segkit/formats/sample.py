"""A data set in no format at all: pictures by split, and how each one's class ids are had. Every format reads into this
and writes from it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np

from segkit.classes import Classes
from segkit.datasets.files import File
from segkit.datasets.layouts import EVERYTHING
from segkit.errors import DataError, summarize

NO_SPLIT = EVERYTHING  # the one split of a source that has none

Unlabeled = Literal["background", "ignore"]


@dataclass(frozen=True)
class Picture:
    """One picture: its name (a relative path without suffix, parts joined by '/'), its file, and its class ids.

    `read_mask` opens the label at each call and returns uint8 [h, w] of the upright image's size, in which pixels
    without a label hold the classes' ignore_index. It raises DataError for a label that is broken; it may be called in
    any thread.
    """

    name: str
    image: File
    read_mask: Callable[[], np.ndarray]


@dataclass(frozen=True)
class PictureSet:
    """The pictures of each split, sorted by name, their classes, and what a user should know of how they were read.

    A name is unique in its split, not in all of them: train/1.jpg and val/1.jpg may both be called 1; see `tell_apart`.
    """

    splits: dict[str, list[Picture]]
    classes: Classes
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ReadOptions:
    """What a user may say about a source.

    `classes`: names in id order; only these are read, anything else becomes unlabelled (which is noted). None: the
    source's own, background first. `unlabeled`: what pixels become that no shape covers; None: the format's own rule.
    `images`: the folder of the pictures, where the format doesn't tell it. `labels`: the folder of the labels, where
    several folders of a source could be it, or none has a usual name.
    """

    classes: tuple[str, ...] | None = None
    unlabeled: Unlabeled | None = None
    images: Path | None = None
    labels: Path | None = None


def arrange(splits: Mapping[str, Iterable[Picture]]) -> dict[str, list[Picture]]:
    """Sort the pictures of each split by name, which is unique in its split.

    Raises:
        DataError: a name stands for two files of a split (a.jpg and a.png).
    """
    listed = {split: sorted(pictures, key=lambda picture: picture.name) for split, pictures in splits.items()}
    problems = [
        f"{picture.image}: {other.image} has the same name, {picture.name}; give each a name of its own"
        for pictures in listed.values()
        for other, picture in pairwise(pictures)
        if other.name == picture.name and other.image != picture.image
    ]
    if problems:
        raise DataError(summarize(problems))
    return listed


def tell_apart(splits: Mapping[str, Sequence[Picture]]) -> dict[str, list[Picture]]:
    """Return the pictures with names that are unique in all splits: if two of them share one, all have theirs in front.

    The same file in several splits keeps its name.
    """
    files: dict[str, File] = {}
    if all(files.setdefault(each.name, each.image) == each.image for pictures in splits.values() for each in pictures):
        return {split: list(pictures) for split, pictures in splits.items()}
    return {
        split: [replace(picture, name=f"{split}/{picture.name}") for picture in pictures]
        for split, pictures in splits.items()
    }


Reader = Callable[[Path, ReadOptions], PictureSet]
