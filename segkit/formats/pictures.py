"""A data set in no format at all: pictures by split, and how each one's class ids are had. Every format reads into this
and writes from it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from segkit.classes import Classes
from segkit.data.shards import File

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
    `images`: the folder of the pictures, where the format doesn't tell it.
    """

    classes: tuple[str, ...] | None = None
    unlabeled: Unlabeled | None = None
    images: Path | None = None


Reader = Callable[[Path, ReadOptions], PictureSet]
