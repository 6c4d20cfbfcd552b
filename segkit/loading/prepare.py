"""The data of a run, examined: classes, items of both splits, and what the training masks hold."""

import functools
import hashlib
import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from segkit.classes import Classes
from segkit.config.schema import DataConfig
from segkit.datasets.files import file_size
from segkit.datasets.layouts import Item, list_items, resolve_classes
from segkit.datasets.masks import build_mask_reader
from segkit.datasets.survey import Survey, survey
from segkit.datasets.unlabelled import list_unlabelled
from segkit.errors import DataError, summarize
from segkit.loading.batch_plan import shard_sizes


@dataclass(frozen=True)
class PreparedData:
    """Two splits whose every file has been examined. `held_out` names the share that `val_fraction` drew, if any.

    `train` ends with the images of data.more_images, which have no mask; `survey` is of the others.
    """

    classes: Classes
    train: list[Item]
    val: list[Item]
    survey: Survey
    held_out: list[str] | None

    @functools.cached_property
    def files(self) -> list[tuple[str, str, int, int]]:
        """A row for every image of both splits, in order: split, name, bytes of the image and of the mask."""
        return [
            (split, item.name, file_size(item.image), file_size(item.mask) if item.mask else 0)
            for split, items in (("train", self.train), ("val", self.val))
            for item in items
        ]

    @functools.cached_property
    def id(self) -> str:
        """A digest of `files`: which images there are, in which order, and how large their files are.

        Where they are in shards, also of how they are divided, since the order of an epoch depends on that.
        """
        sizes = shard_sizes(self.train)
        return hashlib.sha256(json.dumps([self.files, sizes] if sizes else self.files).encode()).hexdigest()


def prepare_data(data: DataConfig, *, seed: int, held_out: Collection[str] | None = None) -> PreparedData:
    """List both splits, examine every file, and count the classes of the training masks.

    Raises:
        DataError: anything that `list_items` or `survey` finds, or an image that is in both splits.
        ConfigError: classes or mask values that contradict each other.
    """
    classes = resolve_classes(data)
    reader = build_mask_reader(data, classes)
    train = list_items(data, data.train, seed=seed, held_out=held_out)
    val = list_items(data, data.val, seed=seed, held_out=held_out)
    if both := {_identity(item) for item in train} & {_identity(item) for item in val}:
        raise DataError(
            summarize([f"{path}: in '{data.train}' and in '{data.val}'; remove it from one" for path in sorted(both)])
        )
    found = survey(train, reader, title=f"checking {data.train}")
    if len(found.absent(classes)) == len(classes) - 1:
        present = next(name for name in classes.names if name not in found.absent(classes))
        raise DataError(
            f"checking {data.train}: every labelled pixel is '{present}', expected at least two classes, or there is "
            "nothing to learn; check the label files, and data.mask_values"
        )
    survey(val, reader, title=f"checking {data.val}")
    if data.more_images:
        train = [*train, *list_unlabelled(Path(data.more_images))]
    drawn = [item.name for item in val] if data.val_fraction else None
    return PreparedData(classes, train, val, found, drawn)


def _identity(item: Item) -> str:
    """Return what distinguishes an image: its path; in shards, of which each split has its own, name and sizes."""
    if isinstance(item.image, Path) or item.mask is None:
        return str(item.image)
    return f"{item.name} ({file_size(item.image)} bytes, its label {file_size(item.mask)})"
