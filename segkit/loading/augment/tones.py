"""What changes the tones of pixels: brightness, contrast, gamma, local contrast (CLAHE), grey, a lost channel."""

from dataclasses import dataclass
from typing import Any, ClassVar

import cv2
import numpy as np

from segkit.loading.augment.photometric import PhotometricStep


@dataclass(frozen=True)
class Tones(PhotometricStep):
    """One curve for all channels, by a look-up table: v -> (c (v^g - 1/2) + 1/2 + b), clipped, for v in 0..1.

    b is uniform in +-brightness, c in 1 +- contrast, and g is 2 to a power that is uniform in +-gamma.
    """

    brightness: float
    contrast: float
    gamma: float
    pointwise: ClassVar[bool] = True

    def sample(self, rng: np.random.Generator) -> np.ndarray:
        """Return b, c and g: float64 [3]."""
        b, c, g = rng.uniform(-1, 1, size=3) * (self.brightness, self.contrast, self.gamma)
        return np.array([b, 1 + c, 2.0**g])

    def apply(self, pixels: np.ndarray, parameters: np.ndarray) -> np.ndarray:
        b, c, g = parameters
        curve = c * ((np.arange(256) / 255) ** g - 0.5) + 0.5 + b
        return cv2.LUT(pixels, np.clip(np.round(255 * curve), 0, 255).astype(np.uint8))


@dataclass(frozen=True)
class Grey(PhotometricStep):
    """With a probability, the luma of each pixel in all channels (ITU-R BT.601)."""

    probability: float
    pointwise: ClassVar[bool] = True

    def sample(self, rng: np.random.Generator) -> bool:
        return bool(rng.uniform() < self.probability)

    def apply(self, pixels: np.ndarray, parameters: bool) -> np.ndarray:
        return cv2.cvtColor(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB) if parameters else pixels


@dataclass(frozen=True)
class ChannelDrop(PhotometricStep):
    """With a probability, one channel, each as likely, becomes 0."""

    probability: float
    pointwise: ClassVar[bool] = True

    def sample(self, rng: np.random.Generator) -> int | None:
        return int(rng.integers(3)) if rng.uniform() < self.probability else None

    def apply(self, pixels: np.ndarray, parameters: int | None) -> np.ndarray:
        if parameters is None:
            return pixels
        changed = pixels.copy()
        changed[..., parameters] = 0
        return changed


@dataclass(frozen=True)
class Clahe(PhotometricStep):
    """With a probability, contrast is raised within each of 8 x 8 tiles (Zuiderveld 1994), in the lightness of Lab.

    The clip limit is uniform in 1..4.
    """

    probability: float

    def sample(self, rng: np.random.Generator) -> float | None:
        return float(rng.uniform(1, 4)) if rng.uniform() < self.probability else None

    def apply(self, pixels: np.ndarray, parameters: Any) -> np.ndarray:
        if parameters is None:
            return pixels
        lab = cv2.cvtColor(pixels, cv2.COLOR_RGB2LAB)
        lightness = cv2.createCLAHE(parameters, (8, 8)).apply(np.ascontiguousarray(lab[..., 0]))
        return cv2.cvtColor(np.dstack([lightness, lab[..., 1:]]), cv2.COLOR_LAB2RGB)
