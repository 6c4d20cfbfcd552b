"""Steps that move what lies on the canvas by a matrix: rotation, shear, perspective, vertical mirror, quarter turns.

They come after the crop, so what they move in from outside the canvas is missing: it becomes bars, whose ids are
ignored. To be filled with the image instead, let augment.scale begin above 1.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np

from segkit.loading.augment.geometric import GeometricStep, Placement, Size


@dataclass(frozen=True)
class Rotation(GeometricStep):
    """Turn about the middle of the canvas by an angle that is uniform in +-`degrees`."""

    degrees: float

    def sample(self, rng: np.random.Generator, placement: Placement, mask: np.ndarray) -> Placement:
        angle = math.radians(rng.uniform(-self.degrees, self.degrees))
        cos, sin = math.cos(angle), math.sin(angle)
        return placement.moved(_about_middle(placement.canvas_hw, [[cos, -sin], [sin, cos]]))


@dataclass(frozen=True)
class Shear(GeometricStep):
    """Slant rows against each other by an angle that is uniform in +-`degrees`, and columns by another."""

    degrees: float

    def sample(self, rng: np.random.Generator, placement: Placement, mask: np.ndarray) -> Placement:
        across, down = (math.tan(math.radians(rng.uniform(-self.degrees, self.degrees))) for _ in range(2))
        return placement.moved(_about_middle(placement.canvas_hw, [[1, across], [down, 1]]))

    @property
    def max_growth(self) -> float:
        return 1 + math.tan(math.radians(self.degrees))  # the largest singular value, at equal slants


@dataclass(frozen=True)
class Perspective(GeometricStep):
    """Move each corner of the canvas, in x and in y, by up to `amount` of its side, and everything with it."""

    amount: float

    def sample(self, rng: np.random.Generator, placement: Placement, mask: np.ndarray) -> Placement:
        height, width = placement.canvas_hw
        right, bottom = width - 1.0, height - 1.0
        corners = np.array([[0, 0], [right, 0], [right, bottom], [0, bottom]], np.float32)
        moved = corners + rng.uniform(-self.amount, self.amount, (4, 2)) * (width, height)
        return placement.moved(cv2.getPerspectiveTransform(corners, moved.astype(np.float32)))

    @property
    def max_growth(self) -> float:
        return (1 + 2 * self.amount) / (1 - 2 * self.amount)


@dataclass(frozen=True)
class VerticalFlip(GeometricStep):
    """Mirror top to bottom with a probability: for images without an up, such as those from above."""

    probability: float

    def sample(self, rng: np.random.Generator, placement: Placement, mask: np.ndarray) -> Placement:
        if rng.uniform() >= self.probability:
            return placement
        return placement.moved(_about_middle(placement.canvas_hw, [[1, 0], [0, -1]]))


@dataclass(frozen=True)
class QuarterTurns(GeometricStep):
    """With a probability, turn by 90, 180 or 270 degrees, each as likely."""

    probability: float

    def sample(self, rng: np.random.Generator, placement: Placement, mask: np.ndarray) -> Placement:
        if rng.uniform() >= self.probability:
            return placement
        cos, sin = ((0, 1), (-1, 0), (0, -1))[rng.integers(3)]
        return placement.moved(_about_middle(placement.canvas_hw, [[cos, -sin], [sin, cos]]))


def _about_middle(canvas_hw: Size, linear: list[list[float]]) -> np.ndarray:
    """Return the matrix [3, 3] of a linear map of (x, y) that leaves the middle of the canvas where it is."""
    middle = np.array([(canvas_hw[1] - 1) / 2, (canvas_hw[0] - 1) / 2])
    matrix = np.eye(3)
    matrix[:2, :2] = linear
    matrix[:2, 2] = middle - matrix[:2, :2] @ middle
    return matrix
