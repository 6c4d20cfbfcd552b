"""What changes pixels and leaves class ids alone: HSV jitter."""

from dataclasses import dataclass

import cv2
import numpy as np

from segkit.loading.augment.geometric import Size


@dataclass(frozen=True)
class ColorJitter:
    """Multiply hue, saturation and value by random factors of up to 1 +- their amount, by look-up tables.

    Hue wraps around, the others are clipped. An amount of 0 leaves that channel alone.
    """

    hue: float
    saturation: float
    value: float

    def sample(self, rng: np.random.Generator, hw: Size) -> np.ndarray:
        return 1 + rng.uniform(-1, 1, size=3) * (self.hue, self.saturation, self.value)

    def image(self, image: np.ndarray, parameters: np.ndarray) -> np.ndarray:
        levels = np.arange(256)[:, None] * parameters
        tables = np.concatenate([levels[:, :1] % 180, np.clip(levels[:, 1:], 0, 255)], axis=1).astype(np.uint8)
        planes = cv2.split(cv2.cvtColor(image, cv2.COLOR_RGB2HSV))
        changed = cv2.merge([cv2.LUT(plane, tables[:, k].copy()) for k, plane in enumerate(planes)])
        return cv2.cvtColor(changed, cv2.COLOR_HSV2RGB)

    def mask(self, mask: np.ndarray, parameters: np.ndarray) -> np.ndarray:
        return mask
