"""What a poor camera or a poor file does to pixels: blur, noise, JPEG artefacts. Each with a probability."""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from segkit.loading.augment.photometric import PhotometricStep

SIGMAS = (0.3, 2.0)  # pixels of the canvas
DEVIATIONS = (2.0, 16.0)  # of 255
QUALITIES = (25, 75)


@dataclass(frozen=True)
class Blur(PhotometricStep):
    """A Gaussian blur, its sigma uniform in SIGMAS."""

    probability: float

    def sample(self, rng: np.random.Generator) -> float | None:
        return float(rng.uniform(*SIGMAS)) if rng.uniform() < self.probability else None

    def apply(self, pixels: np.ndarray, parameters: Any) -> np.ndarray:
        return pixels if parameters is None else cv2.GaussianBlur(pixels, (0, 0), parameters)


@dataclass(frozen=True)
class Noise(PhotometricStep):
    """Gaussian noise, another in each channel, its standard deviation uniform in DEVIATIONS."""

    probability: float

    def sample(self, rng: np.random.Generator) -> tuple[float, int] | None:
        """Return the deviation, and what the noise is drawn by: how many numbers that takes depends on the image."""
        if rng.uniform() >= self.probability:
            return None
        return float(rng.uniform(*DEVIATIONS)), int(rng.integers(2**63))

    def apply(self, pixels: np.ndarray, parameters: Any) -> np.ndarray:
        if parameters is None:
            return pixels
        deviation, seed = parameters
        noise = np.random.Generator(np.random.Philox(seed)).standard_normal(pixels.shape, np.float32)
        noise *= deviation
        noise += pixels
        return np.clip(np.rint(noise, out=noise), 0, 255, out=noise).astype(np.uint8)


@dataclass(frozen=True)
class Jpeg(PhotometricStep):
    """Encoded as JPEG and decoded, its quality uniform in QUALITIES."""

    probability: float

    def sample(self, rng: np.random.Generator) -> int | None:
        return int(rng.integers(*QUALITIES, endpoint=True)) if rng.uniform() < self.probability else None

    def apply(self, pixels: np.ndarray, parameters: Any) -> np.ndarray:
        if parameters is None:
            return pixels
        quality = [cv2.IMWRITE_JPEG_QUALITY, parameters]
        done, encoded = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), quality)
        assert done
        decoded = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
        assert decoded is not None
        return cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)
