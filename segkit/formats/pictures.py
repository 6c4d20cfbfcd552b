"""A data set in no format at all: pictures by split, and how each one's class ids are had. Every format reads into this
and writes from it.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from segkit.classes import Classes
from segkit.data.shards import File
from segkit.errors import DataError, summarize

NO_SPLIT = "all"  # the one split of a source that has none

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
    """The pictures of each split, sorted by name, their classes, and what a user should know of how they were read."""

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
    """Sort the pictures of each split by name.

    Raises:
        DataError: a name stands for two files (a.jpg and a.png), in one split or in two.
    """
    files: dict[str, File] = {}
    problems = []
    for picture in (picture for pictures in splits.values() for picture in pictures):
        other = files.setdefault(picture.name, picture.image)
        if other != picture.image:
            problems.append(f"{picture.image}: {other} has the same name, {picture.name}; give each a name of its own")
    if problems:
        raise DataError(summarize(problems))
    return {split: sorted(pictures, key=lambda picture: picture.name) for split, pictures in splits.items()}


Reader = Callable[[Path, ReadOptions], PictureSet]
