"""Where an image comes to lie on the canvas: the steps that decide it, each a part. Not here: pixels (warp)."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

Size = tuple[int, int]
Rectangle = tuple[slice, slice]  # rows, columns


@dataclass(frozen=True)
class Placement:
    """Where a source image comes to lie on the canvas, as far as the steps have decided it.

    The image is scaled (`size` times the scale at which it just fits `fit_hw`, which is how validation sees it; its
    width by `stretch` more), laid on the canvas and mirrored where it lies. `matrix`, if any, then maps homogeneous
    (x, y, 1) of that canvas, in pixels with integers at pixel centres, to where the pixel is shown: float64 [3, 3].
    """

    source_hw: Size
    canvas_hw: Size
    fit_hw: Size
    stretch: float = 1.0
    size: float = 1.0
    position: tuple[float, float] = (0.5, 0.5)  # vertical, horizontal in [0, 1], see `_visible`
    flip: bool = False
    matrix: np.ndarray | None = None

    @property
    def scale_hw(self) -> tuple[float, float]:
        """The factors that height and width are multiplied by."""
        fit = min(self.fit_hw[0] / self.source_hw[0], self.fit_hw[1] / (self.source_hw[1] * self.stretch))
        scale = self.size * fit
        return scale, scale * self.stretch

    @property
    def scaled_hw(self) -> Size:
        """The size of the whole image after scaling, in pixels of the canvas."""
        height, width = (_scaled(*axis) for axis in zip(self.source_hw, self.scale_hw, strict=True))
        return height, width

    def rectangles(self) -> tuple[Rectangle, Rectangle]:
        """Return which part of the source is scaled into which part of the canvas, `matrix` left aside."""
        axes = zip(self.source_hw, self.scale_hw, self.canvas_hw, self.position, strict=True)
        rows, columns = (_visible(*axis) for axis in axes)
        return (rows[0], columns[0]), (rows[1], columns[1])

    def moved(self, matrix: np.ndarray) -> "Placement":
        """Move what is shown by one more matrix, after those that other steps gave."""
        return replace(self, matrix=matrix if self.matrix is None else matrix @ self.matrix)


class GeometricStep(ABC):
    """Draw parameters and let them change the placement that the steps before have made.

    Image and mask are resampled once, by the placement that the last step leaves, so they can't disagree.
    """

    @abstractmethod
    def sample(self, rng: np.random.Generator, placement: Placement, mask: np.ndarray) -> Placement:
        """Return the changed placement. `mask` holds the source's class ids, uint8 [h, w], and is not to be changed.

        How many numbers are drawn may depend on the parameters of the step and on what is drawn, nothing else.
        """

    @property
    def max_stretch(self) -> float:
        """The most by which the step changes the ratio of width to height, in either direction."""
        return 1.0

    @property
    def max_growth(self) -> float:
        """The most by which the step lengthens anything in the image; less than 1 if it always shrinks."""
        return 1.0


@dataclass(frozen=True)
class Aspect(GeometricStep):
    """Change the ratio of width to height: both by a factor of their own in 1 +- `amount`."""

    amount: float

    def sample(self, rng: np.random.Generator, placement: Placement, mask: np.ndarray) -> Placement:
        width, height = (rng.uniform(1 - self.amount, 1 + self.amount) for _ in range(2))
        return replace(placement, stretch=placement.stretch * (width / height))

    @property
    def max_stretch(self) -> float:
        return (1 + self.amount) / (1 - self.amount)


@dataclass(frozen=True)
class Scale(GeometricStep):
    """Scale by a factor that is uniform in [smallest, largest]; at 1 the image just fits, as validation sees it."""

    smallest: float
    largest: float

    def sample(self, rng: np.random.Generator, placement: Placement, mask: np.ndarray) -> Placement:
        return replace(placement, size=placement.size * rng.uniform(self.smallest, self.largest))

    @property
    def max_growth(self) -> float:
        return self.largest


@dataclass(frozen=True)
class Position(GeometricStep):
    """Crop at random what is larger than the canvas; put what is smaller anywhere on it, between bars."""

    def sample(self, rng: np.random.Generator, placement: Placement, mask: np.ndarray) -> Placement:
        vertical, horizontal = rng.uniform(size=2).tolist()
        return replace(placement, position=(vertical, horizontal))


@dataclass(frozen=True)
class Flip(GeometricStep):
    """Mirror left to right with a probability."""

    probability: float

    def sample(self, rng: np.random.Generator, placement: Placement, mask: np.ndarray) -> Placement:
        return replace(placement, flip=placement.flip != bool(rng.uniform() < self.probability))


@dataclass(frozen=True)
class RareCrops(GeometricStep):
    """With a probability, crop what is larger than the canvas so that a pixel of a rare class is in it.

    Of the classes that the image shows one is drawn, with weights `rarity` (the inverse of its share of the pixels of
    the training set), then one of its pixels uniformly, then uniformly where on the canvas that pixel comes to lie,
    of the positions that it can have there. What is thinner than a pixel of the canvas may still be lost in shrinking,
    and a step that gives a matrix may move the pixel out again.
    """

    probability: float
    rarity: tuple[float, ...]

    def sample(self, rng: np.random.Generator, placement: Placement, mask: np.ndarray) -> Placement:
        if rng.uniform() >= self.probability:
            return placement
        lengths = list(zip(placement.scaled_hw, placement.canvas_hw, strict=True))
        if all(scaled <= canvas for scaled, canvas in lengths):  # all of it is seen anyway
            return placement
        counts = cv2.calcHist([mask], [0], None, [256], [0, 256]).ravel()[: len(self.rarity)]
        weights = np.where(counts > 0, self.rarity, 0)
        if not weights.any():  # not one labelled pixel
            return placement
        class_id = rng.choice(len(weights), p=weights / weights.sum())
        pixels = np.flatnonzero(mask == class_id)
        pixel = divmod(int(pixels[rng.integers(len(pixels))]), mask.shape[1])
        axes = zip(pixel, mask.shape, lengths, placement.position, strict=True)
        vertical, horizontal = (
            _position_showing(rng, index, length, scaled, canvas, otherwise=position)
            for index, length, (scaled, canvas), position in axes
        )
        return replace(placement, position=(vertical, horizontal))


def rarity(class_pixels: Sequence[int]) -> tuple[float, ...]:
    """Return the inverse of each class's share of the pixels; 0 for a class without any."""
    return tuple(sum(class_pixels) / pixels if pixels else 0.0 for pixels in class_pixels)


def _visible(length: int, scale: float, canvas: int, position: float) -> tuple[slice, slice]:
    """Return which part of one axis of the source is seen, and where on the canvas, in pixels.

    `position` in [0, 1] slides the scaled axis between its two extremes: over the canvas when it is larger (a crop),
    within it when it is smaller (bars).
    """
    scaled = _scaled(length, scale)
    start = round(position * (canvas - scaled))
    first, last = max(0, start), min(canvas, start + scaled)
    source_first = int((first - start) * length / scaled)
    source_last = max(source_first + 1, round((last - start) * length / scaled))
    return slice(source_first, min(length, source_last)), slice(first, last)


def _position_showing(
    rng: np.random.Generator, index: int, length: int, scaled: int, canvas: int, *, otherwise: float
) -> float:
    """Return a `position` with which `_visible` shows an index of the source; `otherwise` if it shows the whole axis.

    Uniform among the offsets (whole pixels of the canvas) with which the index's centre lies on the canvas.
    """
    if scaled <= canvas:
        return otherwise
    centre = (index + 0.5) * scaled / length
    fewest, most = max(0, math.floor(centre - canvas) + 1), min(scaled - canvas, math.floor(centre))
    return int(rng.integers(fewest, most + 1)) / (scaled - canvas)


def _scaled(length: int, scale: float) -> int:
    return max(1, round(length * scale))
