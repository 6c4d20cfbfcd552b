"""A data set after one look at everything: what it holds, what its files are like, and how its labels read."""

import functools
import shlex
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from segkit.classes import Classes
from segkit.config.schema import DataConfig
from segkit.datasets.label_faults import SOFT
from segkit.datasets.listing import Inventory
from segkit.datasets.masks import COLOR_MODES, MaskReader
from segkit.datasets.split_folders import ListedItem
from segkit.datasets.survey import Survey
from segkit.doctor.measure import Facts

Severity = Literal["error", "warning", "note"]

# how a label reads: right; a JPEG; colours or ids where the other was expected; soft edges; ids outside 0..255; unknown
Kind = Literal["right", "jpeg", "colors", "ids", "soft", "deep", "unknown"]


@dataclass(frozen=True)
class Finding:
    """One thing that was found: a stable code, what it is, a line per file, what to type, indices of its items."""

    code: str
    severity: Severity
    title: str
    lines: tuple[str, ...]
    remedy: str
    indices: tuple[int, ...] = ()


def finding(
    code: str,
    severity: Severity,
    title: str,
    indices: Sequence[int] = (),
    lines: Iterable[str] = (),
    remedy: str = "",
) -> Finding | None:
    """Return a finding, or None where there is no line."""
    listed = tuple(lines)
    return Finding(code, severity, title, listed, remedy, tuple(indices)) if listed else None


@dataclass(frozen=True, eq=False)
class Examined:
    """What findings are made of. `guessed` is what was guessed of the classes, where nothing names them.

    `label_hint` is how to come by labels that are there under another name.
    """

    data: DataConfig
    inventory: Inventory
    facts: Facts
    classes: Classes
    reader: MaskReader
    guessed: str = ""
    label_hint: str = ""

    @property
    def items(self) -> Sequence[ListedItem]:
        return self.facts.items

    @functools.cached_property
    def split_of(self) -> list[list[str]]:
        """The splits of every item."""
        return self.inventory.split_of()

    @functools.cached_property
    def kinds(self) -> list[Kind | None]:
        """How every label reads; None for those that weren't read."""
        return [self._kind(index) if there else None for index, there in enumerate(self.facts.has_label)]

    @functools.cached_property
    def counted(self) -> list[int]:
        """The items whose labels can be counted: those that are right, whatever their images are like."""
        return self.of_kind("right")

    @functools.cached_property
    def sound(self) -> list[int]:
        """The items that can be shown with their labels: both were read, the labels are right, the sizes are equal."""
        equal = (self.facts.images["hw"] == self.facts.labels["hw"]).all(axis=1) & self.facts.has_image
        return [index for index in self.counted if equal[index]]

    def of_kind(self, kind: Kind) -> list[int]:
        """Return the items whose labels read so."""
        return self._by_kind.get(kind, [])

    def held(self, kind: Kind) -> Counter[int]:
        """Return every value that labels of a kind hold, with how many labels hold it; not to be changed."""
        return self._held.get(kind, Counter())

    @functools.cached_property
    def _by_kind(self) -> dict[Kind, list[int]]:
        indices: dict[Kind, list[int]] = {}
        for index, kind in enumerate(self.kinds):
            if kind is not None:
                indices.setdefault(kind, []).append(index)
        return indices

    @functools.cached_property
    def _held(self) -> dict[Kind, Counter[int]]:
        counts: dict[Kind, Counter[int]] = {kind: Counter() for kind in self._by_kind}
        for kind, indices in self._by_kind.items():
            for index in indices:
                counts[kind].update(self.facts.values(index).values.tolist())
        return counts

    def can_count(self, indices: Iterable[int]) -> bool:
        """True if any of these labels can be counted."""
        return any(self.kinds[index] == "right" for index in indices)

    def class_pixels(self, index: int) -> np.ndarray:
        """Return the pixels of each class in one label, int64 [C]; all 0 where it can't be read as classes."""
        counts = np.zeros(256, np.int64)
        if self.kinds[index] == "right":
            found = self.facts.values(index)
            known = self.reader.table.knows(found.values)
            np.add.at(counts, self.reader.table(found.values[known]), found.pixels[known])
        return counts[: len(self.classes)]

    @functools.cached_property
    def presence(self) -> np.ndarray:
        """Which classes each item's label shows: bool [N, C]."""
        return self._counted[1]

    def pixels(self, split: str) -> np.ndarray:
        """Return the pixels of each class in a split, int64 [C]."""
        return self._counted[0][split][0]

    def shown(self, split: str) -> np.ndarray:
        """Return how many images of a split show each class, int64 [C]."""
        counts: np.ndarray = self.presence[self.inventory.splits[split]].sum(axis=0)
        return counts

    def survey(self, split: str) -> Survey:
        """Return what the labels of a split that can be counted hold, as training's own look does."""
        indices = [index for index in self.inventory.splits[split] if self.kinds[index] == "right"]
        pixels, surrounding = self._counted[0][split]
        presence = self.presence[indices]
        return Survey(
            num_images=len(indices),
            class_pixels=tuple(pixels.tolist()),
            class_images=tuple(presence.sum(axis=0).tolist()),
            surrounding_pixels=tuple(surrounding.tolist()),
            ignored_pixels=int(self.facts.labels["hw"][indices].prod(axis=1).sum() - pixels.sum()),
            shown=np.packbits(presence, axis=1).tobytes(),
        )

    @functools.cached_property
    def _counted(self) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """By split, the pixels of each class and those of the images that show it, int64 [2, C]; and presence."""
        pixels = {split: np.zeros((2, len(self.classes)), np.int64) for split in self.inventory.splits}
        presence = np.zeros((len(self.items), len(self.classes)), bool)
        for index in self.counted:
            counts = self.class_pixels(index)
            presence[index] = counts > 0
            for split in self.split_of[index]:
                pixels[split] += counts, counts.sum() * (counts > 0)
        return pixels, presence

    def command(self, verb: str, *options: str) -> str:
        """Return a command of segkit for this data set's folder, as a user types it."""
        if verb == "split" and self.data.layout == "webdataset":
            return "in the data set that the shards were made of"
        return " ".join([f"segkit {verb}", shlex.quote(self.data.root), *options])

    def _kind(self, index: int) -> Kind:
        label = self.facts.labels[index]
        if label["jpeg"]:
            return "jpeg"
        in_color = label["mode"] in COLOR_MODES
        if in_color != self.reader.by_color:
            return "colors" if in_color else "ids"
        if label["num_unknown"] == 0:
            return "right"
        if label["soft"] >= SOFT:
            return "soft"
        return "deep" if not in_color and not 0 <= label["low"] <= label["high"] <= 255 else "unknown"
