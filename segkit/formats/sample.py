"""A data set in no format at all: samples by split, and how to read each one's class ids. Every reader returns this,
and every writer takes it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from segkit.classes import Classes
from segkit.datasets.files import File
from segkit.datasets.layouts import EVERYTHING
from segkit.errors import DataError, summarize

NO_SPLIT = EVERYTHING  # the one split of a source that has none


@dataclass(frozen=True)
class Sample:
    """An image and its class ids: its name (a relative path without suffix, parts joined by '/'), its file, its mask.

    `read_mask` opens the label at each call and returns uint8 [h, w] of the upright image's size, in which pixels
    without a label hold the classes' ignore_index. It raises DataError for a label that is broken; it may be called in
    any thread. `is_sized`: the mask has the image's size by construction, so that a writer needn't compare them.
    """

    name: str
    image: File
    read_mask: Callable[[], np.ndarray]
    is_sized: bool = False


@dataclass(frozen=True)
class SampleSet:
    """The samples of each split, sorted by name, their classes, and what a user should know of how they were read.

    A name is unique in its split, not in all of them: train/1.jpg and val/1.jpg may both be called 1; see
    `make_names_unique`.
    """

    splits: dict[str, list[Sample]]
    classes: Classes
    notes: tuple[str, ...] = ()


def arrange(splits: Mapping[str, Iterable[Sample]]) -> dict[str, list[Sample]]:
    """Sort the samples of each split by name, which is unique in its split.

    Raises:
        DataError: two files of a split have one name (a.jpg and a.png).
    """
    arranged = {split: sorted(samples, key=lambda sample: sample.name) for split, samples in splits.items()}
    problems = [
        f"{sample.image}: {other.image} has the same name, {sample.name}; give each a name of its own"
        for samples in arranged.values()
        for other, sample in pairwise(samples)
        if other.name == sample.name and other.image != sample.image
    ]
    if problems:
        raise DataError(summarize(problems))
    return arranged


def make_names_unique(splits: Mapping[str, Sequence[Sample]]) -> dict[str, list[Sample]]:
    """Return the samples with names that are unique over all splits: where two files share one, every name gets its
    split in front.

    The same file in several splits keeps its name.
    """
    files: dict[str, File] = {}
    if all(files.setdefault(each.name, each.image) == each.image for samples in splits.values() for each in samples):
        return {split: list(samples) for split, samples in splits.items()}
    return {
        split: [replace(sample, name=f"{split}/{sample.name}") for sample in samples]
        for split, samples in splits.items()
    }
