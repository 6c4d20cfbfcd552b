"""Test-time augmentation: a model sees several views of each image, and its class probabilities are averaged.

It wraps any backend: a model, an ensemble, another runtime, whose arrays it averages without torch.
"""

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np

from segkit.classes import Classes
from segkit.config.reading import override_config
from segkit.config.schema import RunConfig, View
from segkit.imaging.resize import resize_image
from segkit.inference.backend import Array, Backend

if TYPE_CHECKING:
    import torch


class Look(NamedTuple):
    """One view of a canvas: turned over left-right, turned over up-down, and its size relative to the canvas."""

    flip: bool
    vflip: bool
    scale: float

    @property
    def axes(self) -> tuple[int, ...]:
        """The axes of [B, C, H, W] that are turned over."""
        return (*((2,) if self.vflip else ()), *((3,) if self.flip else ()))


@dataclass(frozen=True)
class TestTimeAugmentation:
    """A backend that looks at each image in every combination of flips and scales, each with the same weight.

    `views` are those of `eval.tta`. A view is resized like any image (by area when it shrinks, else bilinear), its
    scores are resized back bilinearly and turned back. Scores are the logarithm of the mean probability, as those of an
    ensemble are: their softmax is the mean of the views' probabilities. The order of `views` makes no difference, not
    a bit. The backend must take canvases of other sizes where there are scales: PyTorch does.
    """

    backend: Backend
    views: tuple[View, ...]

    @property
    def classes(self) -> Classes:
        """Those of the backend."""
        return self.backend.classes

    @property
    def canvas_hw(self) -> tuple[int, int]:
        """That of the backend."""
        return self.backend.canvas_hw

    @property
    def device(self) -> "torch.device | None":
        """That of the backend."""
        return self.backend.device

    @functools.cached_property
    def looks(self) -> tuple[Look, ...]:
        """Every combination of flips and scales; the image as it is comes first."""
        scales = [1.0, *sorted(float(view) for view in self.views if not isinstance(view, str))]
        flips, vflips = ((False, True) if name in self.views else (False,) for name in ("flip", "vflip"))
        return tuple(Look(flip, vflip, scale) for scale, vflip, flip in itertools.product(scales, vflips, flips))

    def __call__(self, images: Array) -> Array:
        """Return scores float32 [B, C, H, W] on the canvas, for letterboxed images, uint8 RGB [B, 3, H, W].

        One view at a time: beside the sum, the scores of one view are in memory.
        """
        total: Array | None = None
        for look in self.looks:
            seen = self.backend(_turned(_scaled(images, look.scale), look.axes))
            vote = _log_softmax(_resized(_turned(seen, look.axes), (images.shape[2], images.shape[3])))
            total = vote if total is None else _logaddexp(total, vote)
        assert total is not None  # there is always the image as it is
        return total - math.log(len(self.looks))


def with_tta(backend: Backend, views: Sequence[View]) -> Backend:
    """Return a backend with test-time augmentation; without any views as it is."""
    return TestTimeAugmentation(backend, tuple(views)) if views else backend


def parse_tta(text: str, *, where: str = "--tta") -> tuple[View, ...]:
    """Return the views that a command line asks for, `flip,0.75,1.25`, in the grammar of the key `eval.tta`.

    Raises:
        ConfigError: a word or a number that is no view, one that is given twice, or scale 1; the message starts with
            `where` and names what was found.
    """
    return override_config(RunConfig(), [f"eval.tta=[{text}]"], where=where).eval.tta


# ---- of arrays and of tensors


def _scaled(images: Array, scale: float) -> Array:
    """Resize uint8 RGB [B, 3, H, W] by a factor, in the caller's memory: the same pixels for every runtime."""
    if scale == 1:
        return images
    given = images if isinstance(images, np.ndarray) else images.cpu().numpy()
    size_hw = (max(1, round(given.shape[2] * scale)), max(1, round(given.shape[3] * scale)))
    resized = np.stack([resize_image(np.ascontiguousarray(image.transpose(1, 2, 0)), size_hw) for image in given])
    turned = resized.transpose(0, 3, 1, 2)
    if isinstance(images, np.ndarray):
        return turned
    import torch

    return torch.from_numpy(turned)


def _turned(array: Array, axes: tuple[int, ...]) -> Array:
    if not axes:
        return array
    return np.ascontiguousarray(np.flip(array, axes)) if isinstance(array, np.ndarray) else array.flip(axes)


def _resized(logits: Array, size_hw: tuple[int, int]) -> Array:
    if tuple(logits.shape[2:]) == size_hw:
        return logits
    if isinstance(logits, np.ndarray):
        planes = logits.reshape(-1, *logits.shape[2:]).astype(np.float32, copy=False)
        resized = [cv2.resize(plane, size_hw[::-1], interpolation=cv2.INTER_LINEAR) for plane in planes]
        return np.stack(resized).reshape(*logits.shape[:2], *size_hw)
    import torch

    from segkit.models.resize import resize

    with torch.no_grad():
        return resize(logits, size_hw)


def _log_softmax(logits: Array) -> Array:
    if not isinstance(logits, np.ndarray):
        return logits.float().log_softmax(dim=1)
    below_largest = logits.astype(np.float32, copy=False) - logits.max(axis=1, keepdims=True)
    return below_largest - np.log(np.exp(below_largest).sum(axis=1, keepdims=True))


def _logaddexp(first: Array, second: Array) -> Array:
    if isinstance(first, np.ndarray):
        return np.logaddexp(first, second)
    import torch

    return torch.logaddexp(first, torch.as_tensor(second))
