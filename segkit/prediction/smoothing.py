"""Steadier class probabilities along a video: a running mean that moves with what is shown.

The mean of the frame before is warped to the current one by dense optical flow (DIS: Kroeger et al. 2016, Fast optical
flow using dense inverse search; OpenCV's). Where the warped image doesn't look like the current one, something was
uncovered or has changed, and there the mean starts again; at a cut it does everywhere.
"""

from dataclasses import dataclass, field

import cv2
import numpy as np

KEPT = 0.7  # of the mean, where the warp fits; a frame's weight is halved after two more
SIMILAR = 20  # grey levels that a warped pixel may be off
CUT = 0.5  # share of pixels that don't fit, from which on it is another scene


@dataclass
class Smoother:
    """Takes the frames of one video in their order, all of one size."""

    kept: float = KEPT
    _flow: cv2.DISOpticalFlow = field(
        default_factory=lambda: cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
    )
    _grey: np.ndarray | None = None  # uint8 [H, W], of the frame before
    _mean: np.ndarray | None = None  # float32 [C, H, W]
    _raw: np.ndarray | None = None  # class ids uint8 [H, W] of the frame before, without and with smoothing
    _smooth: np.ndarray | None = None
    raw_flicker: list[float] = field(default_factory=list)
    smooth_flicker: list[float] = field(default_factory=list)

    def update(self, canvas: np.ndarray, logits: np.ndarray) -> np.ndarray:
        """Return the logarithm of smoothed probabilities, float32 [C, H, W].

        canvas: uint8 RGB [H, W, 3], as the network saw it; logits: float32 [C, H, W].
        """
        grey = cv2.cvtColor(canvas, cv2.COLOR_RGB2GRAY)
        powers = np.exp(logits - logits.max(axis=0))
        probabilities: np.ndarray = powers / powers.sum(axis=0)
        raw = probabilities.argmax(axis=0).astype(np.uint8)
        mean = probabilities
        if self._grey is not None and self._mean is not None and self._raw is not None and self._smooth is not None:
            where = self._warp(grey, self._grey)
            fits = cv2.absdiff(grey, cv2.remap(self._grey, *where, cv2.INTER_LINEAR)) <= SIMILAR
            fits &= inside(where)
            is_cut = fits.mean() < 1 - CUT
            if not is_cut:
                share = (self.kept * fits).astype(np.float32)
                warped = np.stack([cv2.remap(plane, *where, cv2.INTER_LINEAR) for plane in self._mean])
                mean = probabilities + share * (warped - probabilities)
                smooth = mean.argmax(axis=0).astype(np.uint8)
                self.raw_flicker.append(flicker(self._raw, raw, where))
                self.smooth_flicker.append(flicker(self._smooth, smooth, where))
        self._grey, self._mean, self._raw = grey, mean, raw
        self._smooth = mean.argmax(axis=0).astype(np.uint8)
        return np.log(np.maximum(mean, np.finfo(np.float32).tiny))

    def _warp(self, grey: np.ndarray, previous: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return where each pixel of this frame was in the frame before: x and y, float32 [H, W] each."""
        flow = self._flow.calc(grey, previous, None)  # type: ignore[call-overload]
        rows, columns = np.indices(grey.shape, dtype=np.float32)
        return columns + flow[:, :, 0], rows + flow[:, :, 1]


def flicker(previous: np.ndarray, current: np.ndarray, where: tuple[np.ndarray, np.ndarray]) -> float:
    """Return the share of pixels whose class, uint8 [H, W], isn't the one that the flow brings from the frame before.

    Pixels that come from outside the frame don't count; NaN if all do.
    """
    counted = inside(where)
    warped = cv2.remap(previous, *where, cv2.INTER_NEAREST)
    return float((warped != current)[counted].mean()) if counted.any() else float("nan")


def inside(where: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Return which pixels come from within the frame before: bool [H, W]."""
    x, y = where
    height, width = x.shape
    result: np.ndarray = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    return result
