"""What a user may say about the source and the target of a conversion. Light: the command line reads the defaults."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Unlabeled = Literal["background", "ignore"]


@dataclass(frozen=True)
class ReadOptions:
    """What a user may say about a source.

    `classes`: names in id order; only these are read, anything else becomes unlabelled (which is noted). None: the
    source's own, background first. `unlabeled`: what pixels become that no shape covers; None: the format's own rule.
    `images`: the folder of the images, where the labels don't name it. `labels`: the folder of the labels, where
    several folders of a source could be it, or none has a usual name.
    """

    classes: tuple[str, ...] | None = None
    unlabeled: Unlabeled | None = None
    images: Path | None = None
    labels: Path | None = None


@dataclass(frozen=True)
class WriteOptions:
    """What a user may say about a target.

    `samples_per_shard`: images in a tar, of targets that write shards. `tolerance`: pixels by which polygons may be
    simplified, of targets that write polygons; 0 is exact.
    """

    samples_per_shard: int = 1000
    tolerance: float = 0.0
