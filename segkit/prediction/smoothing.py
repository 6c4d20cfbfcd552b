"""Steadier class probabilities along a video: a running mean that moves with what is shown.

The mean of the frame before is warped to the current one by dense optical flow (DIS: Kroeger et al. 2016, Fast optical
flow using dense inverse search; OpenCV's). The less the warped image looks like the current one, the less of the mean
is kept: something was uncovered there, or the flow is wrong. At a cut nothing is kept. All of it happens on the canvas.

On drawn videos of known truth, over models from nearly right to poor, a weight that falls with the difference gave
fewer errors than a threshold. To keep more than 0.6 made good models worse: the mean lags at edges that move. Finer
presets of DIS changed little (`tools/benchmark.py video` has the figures).
"""

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import cv2
import numpy as np

from segkit.imaging.argmax import argmax

if TYPE_CHECKING:
    import torch

KEPT = 0.6  # of the mean, where the images agree; a frame's weight is halved within two more
SIMILAR = 10  # grey levels between both images, once blurred, at which exp(-1) of that is kept
BLUR = 1.5  # pixels, the sigma: noise of a camera shall not look like a change
# The share of pixels that differ by more than half of the image's standard deviation, from which on it is another
# scene: 0.34 and more between images of VOC, also at a quarter of their light; 0.12 and less between frames of CamVid a
# second apart.
CUT = 0.3
FLAT = 100.0  # grey levels squared, added to the variance: the noise of an image that shows nothing is no cut
SMALLEST = 32  # pixels a side; OpenCV's DIS raises errors or crashes on thinner images
AGREEMENT = np.exp(-((np.arange(256) / SIMILAR) ** 2)).astype(np.float32)  # by the difference in grey levels


@dataclass(frozen=True)
class Smoothed:
    """Smoothed scores, and the flicker (see `flicker`) of the class ids before and after; NaN where a scene begins."""

    logits: np.ndarray  # the logarithm of probabilities, float32 [C, H, W]; 0 in the bars of the letterbox
    raw_flicker: float
    smooth_flicker: float


@dataclass(frozen=True)
class _Previous:
    """The frame before, without the bars."""

    grey: np.ndarray  # uint8 [h, w]
    mean: np.ndarray  # float32 [C, h, w]
    raw: np.ndarray  # class ids uint8 [h, w], without and with smoothing
    smooth: np.ndarray


@dataclass
class Smoother:
    """Takes the frames of one video in their order."""

    kept: float = KEPT
    _flow: cv2.DISOpticalFlow = field(
        default_factory=lambda: cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
    )
    _previous: _Previous | None = None

    def update(
        self,
        canvas: np.ndarray,
        logits: "torch.Tensor | np.ndarray",
        inner: tuple[slice, slice] = (slice(None), slice(None)),
    ) -> Smoothed:
        """Smooth the scores of the next frame.

        canvas: uint8 RGB [H, W, 3], as the network saw it; logits: float [C, H, W]; inner: the rows and columns that
        hold the image (`LetterBox.inner`). The bars beside it neither move nor count.
        """
        grey = cv2.cvtColor(np.ascontiguousarray(canvas[inner]), cv2.COLOR_RGB2GRAY)
        mean = _softmax(logits, inner)
        raw = smooth = argmax(mean)
        flickers = (float("nan"), float("nan"))
        before = self._previous
        if before is not None and before.grey.shape == grey.shape:
            where = self._where(grey, before.grey)
            seen, change = inside(where), _change(grey, before.grey, where)
            if not _is_cut(grey, change, seen):
                share = self.kept * cv2.LUT(change, AGREEMENT) * seen
                for plane, earlier in zip(mean, before.mean, strict=True):
                    plane += share * (cv2.remap(earlier, *where, cv2.INTER_LINEAR) - plane)
                smooth = argmax(mean)
                flickers = flicker(before.raw, raw, where), flicker(before.smooth, smooth, where)
        self._previous = _Previous(grey, mean, raw, smooth)
        result = np.zeros(logits.shape, np.float32)
        for plane, probabilities in zip(result, np.maximum(mean, np.finfo(np.float32).tiny), strict=True):
            plane[inner] = cv2.log(probabilities)
        return Smoothed(result, *flickers)

    def _where(self, grey: np.ndarray, previous: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return where each pixel of this frame was in the frame before: x and y, float32 [h, w] each."""
        height, width = grey.shape
        missing = max(0, SMALLEST - height), max(0, SMALLEST - width)
        grey, previous = (
            cv2.copyMakeBorder(image, 0, missing[0], 0, missing[1], cv2.BORDER_REPLICATE) for image in (grey, previous)
        )
        flow = self._flow.calc(grey, previous, None)  # type: ignore[call-overload]
        rows, columns = np.indices((height, width), dtype=np.float32)
        return columns + flow[:height, :width, 0], rows + flow[:height, :width, 1]


def flicker(previous: np.ndarray, current: np.ndarray, where: tuple[np.ndarray, np.ndarray]) -> float:
    """Return the share of pixels whose class, uint8 [h, w], isn't the one that the flow brings from the frame before.

    Pixels that come from outside the frame don't count; NaN if all do.
    """
    counted = inside(where)
    warped = cv2.remap(previous, *where, cv2.INTER_NEAREST)
    return float((warped != current)[counted].mean()) if counted.any() else float("nan")


def inside(where: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Return which pixels come from within the frame before: bool [h, w]."""
    x, y = where
    height, width = x.shape
    result: np.ndarray = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    return result


def _change(grey: np.ndarray, previous: np.ndarray, where: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Return by how many grey levels pixels differ from where they come from, without noise: uint8 [h, w]."""
    grey, previous = (cv2.GaussianBlur(image, (0, 0), BLUR) for image in (grey, previous))
    return cv2.absdiff(grey, cv2.remap(previous, *where, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))


def _is_cut(grey: np.ndarray, change: np.ndarray, seen: np.ndarray) -> bool:
    if not seen.any():
        return True
    variance = cv2.GaussianBlur(grey, (0, 0), BLUR)[seen].astype(np.float32).var()
    return bool((change[seen] > math.sqrt(variance + FLAT) / 2).mean() > CUT)


def _softmax(logits: "torch.Tensor | np.ndarray", inner: tuple[slice, slice]) -> np.ndarray:
    """Return float32 [C, h, w] of the caller's own; in one thread OpenCV is faster than torch over the first axis."""
    scores = logits[:, *inner] if isinstance(logits, np.ndarray) else logits[:, *inner].float().cpu().numpy()
    planes = np.array(scores, np.float32, order="C")
    planes -= planes.max(axis=0)
    for plane in planes:
        plane[:] = cv2.exp(plane)
    planes *= 1 / planes.sum(axis=0)
    return planes
