"""What makes one sample of several: parts of other images, which are drawn from the training set and augmented alike.

Mixes come after all steps, on the canvas, in the order of the table `MIXES`, and change image and mask together. All
that is random, the partner too, comes from the sample's own generator: a mix doesn't depend on workers or ranks. A
pixel of a partner brings its id, ignored ones too, but where classes are pasted: these are labelled pixels alone.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from segkit.config.schema import AugmentConfig
from segkit.imaging.letterbox import BAR_GREY
from segkit.loading.augment.geometric import Rectangle, Size, rarity

Sample = tuple[np.ndarray, np.ndarray]  # uint8 RGB [H, W, 3] and ids uint8 [H, W]

CUT_OUT = (0.02, 0.2)  # share of the canvas that is cut out
CUT_MIX = (0.1, 0.5)  # share that another image fills


class Mix(ABC):
    """With a probability, change a sample, mostly by another one."""

    probability: float

    @abstractmethod
    def apply(self, rng: np.random.Generator, sample: Sample, partner: Callable[[], Sample], ignore_index: int) -> None:
        """Change a sample in place. `partner` draws another one, in memory of its own."""


@dataclass(frozen=True)
class CutOut(Mix):
    """A rectangle without content: grey, and ignored (DeVries and Taylor 2017, for masks)."""

    probability: float

    def apply(self, rng: np.random.Generator, sample: Sample, partner: Callable[[], Sample], ignore_index: int) -> None:
        image, mask = sample
        hole = rectangle(rng, mask.shape, CUT_OUT)
        image[hole], mask[hole] = BAR_GREY, ignore_index


@dataclass(frozen=True)
class CutMix(Mix):
    """A rectangle of another image, at its place there (Yun et al. 2019; French et al. 2020 for segmentation)."""

    probability: float

    def apply(self, rng: np.random.Generator, sample: Sample, partner: Callable[[], Sample], ignore_index: int) -> None:
        (image, mask), (other, ids) = sample, partner()
        part = rectangle(rng, mask.shape, CUT_MIX)
        image[part], mask[part] = other[part], ids[part]


@dataclass(frozen=True)
class ClassMix(Mix):
    """Half of the classes of another image, rounded up, pasted where they are there (Olsson et al. 2021)."""

    probability: float

    def apply(self, rng: np.random.Generator, sample: Sample, partner: Callable[[], Sample], ignore_index: int) -> None:
        (image, mask), (other, ids) = sample, partner()
        present = np.flatnonzero(cv2.calcHist([ids], [0], None, [256], [0, 256]).ravel())
        present = present[present != ignore_index]
        chosen = rng.permutation(present)[: math.ceil(len(present) / 2)]
        _paste(image, mask, other, ids, chosen)


@dataclass(frozen=True)
class CopyPaste(Mix):
    """One class of another image pasted where it is there, drawn by rarity (Ghiasi et al. 2021, for classes)."""

    probability: float
    rarity: tuple[float, ...]

    def apply(self, rng: np.random.Generator, sample: Sample, partner: Callable[[], Sample], ignore_index: int) -> None:
        (image, mask), (other, ids) = sample, partner()
        counts = cv2.calcHist([ids], [0], None, [256], [0, 256]).ravel()[: len(self.rarity)]
        weights = np.where(counts > 0, self.rarity, 0)
        if weights.any():
            _paste(image, mask, other, ids, rng.choice(len(weights), size=1, p=weights / weights.sum()))


@dataclass(frozen=True)
class Mosaic(Mix):
    """Four images, one in each quarter around a point in the middle half; each shows what it shows there alone."""

    probability: float

    def apply(self, rng: np.random.Generator, sample: Sample, partner: Callable[[], Sample], ignore_index: int) -> None:
        image, mask = sample
        row, column = (int(rng.integers(side // 4, side - side // 4, endpoint=True)) for side in mask.shape)
        for part in (np.s_[:row, column:], np.s_[row:, :column], np.s_[row:, column:]):
            other, ids = partner()
            image[part], mask[part] = other[part], ids[part]


# Each takes the config and how many pixels of each class the training set has, and returns its mix, or None if it is
# off. Numbers are drawn in this order, so a new one belongs at the end.
MIXES: dict[str, Callable[[AugmentConfig, Sequence[int]], Mix | None]] = {
    "mosaic": lambda config, _: Mosaic(config.mosaic) if config.mosaic else None,
    "cutmix": lambda config, _: CutMix(config.cutmix) if config.cutmix else None,
    "classmix": lambda config, _: ClassMix(config.classmix) if config.classmix else None,
    "copy_paste": lambda config, class_pixels: (
        CopyPaste(config.copy_paste, rarity(class_pixels)) if config.copy_paste else None
    ),
    "cutout": lambda config, _: CutOut(config.cutout) if config.cutout else None,
}


def mix(
    mixes: Sequence[Mix], rng: np.random.Generator, sample: Sample, partner: Callable[[], Sample], *, ignore_index: int
) -> None:
    """Apply mixes to a sample in place, each with its probability."""
    for each in mixes:
        if rng.uniform() < each.probability:
            each.apply(rng, sample, partner, ignore_index)


def rectangle(rng: np.random.Generator, canvas_hw: tuple[int, ...], share: tuple[float, float]) -> Rectangle:
    """Return a rectangle in a canvas, of the canvas's shape within a factor of 2, that takes a share of it."""
    area, ratio = rng.uniform(*share), 2.0 ** rng.uniform(-0.5, 0.5)
    lengths: Size = tuple(  # type: ignore[assignment]
        min(side, max(1, round(side * math.sqrt(area * factor))))
        for side, factor in zip(canvas_hw, (ratio, 1 / ratio), strict=True)
    )
    rows, columns = (
        slice(start, start + length)
        for length, start in (
            (length, int(rng.integers(side - length, endpoint=True)))
            for side, length in zip(canvas_hw, lengths, strict=True)
        )
    )
    return rows, columns


def _paste(image: np.ndarray, mask: np.ndarray, other: np.ndarray, ids: np.ndarray, classes: np.ndarray) -> None:
    table = np.zeros(256, np.uint8)
    table[classes] = 1
    pasted = cv2.LUT(ids, table)
    cv2.copyTo(other, pasted, image)
    cv2.copyTo(ids, pasted, mask)
