"""What changes pixels and leaves class ids alone: HSV jitter."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import cv2
import numpy as np


class PhotometricStep(ABC):
    """Draw parameters, then change the pixels of the image that are seen; the mask never learns of it.

    `pointwise` says that each pixel's result depends on that pixel alone. Such a step is applied before an image is
    enlarged, where there are fewer pixels, unless a step that is not pointwise comes before it.
    """

    pointwise: ClassVar[bool] = False

    @abstractmethod
    def sample(self, rng: np.random.Generator) -> Any:
        """Return the parameters of one sample."""

    @abstractmethod
    def apply(self, pixels: np.ndarray, parameters: Any) -> np.ndarray:
        """Return changed pixels, uint8 RGB [h, w, 3]; those given may be cached and are not to be written to.

        They are the part of the image that is seen, without bars; under a placement with a matrix the whole canvas.
        """


@dataclass(frozen=True)
class HsvJitter(PhotometricStep):
    """Multiply hue, saturation and value by random factors of up to 1 +- their amount, by look-up tables.

    Hue wraps around, the others are clipped. An amount of 0 leaves that channel alone.
    """

    hue: float
    saturation: float
    value: float
    pointwise: ClassVar[bool] = True

    def sample(self, rng: np.random.Generator) -> np.ndarray:
        """Return the factors of hue, saturation and value: float64 [3]."""
        return 1 + rng.uniform(-1, 1, size=3) * (self.hue, self.saturation, self.value)

    def apply(self, pixels: np.ndarray, parameters: np.ndarray) -> np.ndarray:
        levels = np.arange(256)[:, None] * parameters
        tables = np.concatenate([levels[:, :1] % 180, np.clip(levels[:, 1:], 0, 255)], axis=1).astype(np.uint8)
        planes = cv2.split(cv2.cvtColor(pixels, cv2.COLOR_RGB2HSV))
        changed = cv2.merge([cv2.LUT(plane, tables[:, k].copy()) for k, plane in enumerate(planes)])
        return cv2.cvtColor(changed, cv2.COLOR_HSV2RGB)
