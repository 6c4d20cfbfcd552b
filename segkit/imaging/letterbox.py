"""The letterbox between an image and the network's canvas, and back.

Not here: training augmentation, which is random and need not be inverted (segkit/loading/augment).
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, overload

import cv2
import numpy as np

from segkit.imaging.argmax import resized_argmax
from segkit.imaging.resize import resize_image, resize_mask

if TYPE_CHECKING:
    import torch

BAR_GREY = 128  # what the bars beside a letterboxed image hold; near the mean of most images


@dataclass(frozen=True)
class LetterBox:
    """A source image, scaled with its aspect ratio kept, centred on a canvas. Sizes are (height, width) pixels.

    The inner size is rounded once, in `fit`, and stored: forward and inverse can't disagree by a pixel.
    """

    source_hw: tuple[int, int]
    canvas_hw: tuple[int, int]
    inner_hw: tuple[int, int]
    top: int
    left: int

    @classmethod
    def fit(cls, source_hw: tuple[int, int], canvas_hw: tuple[int, int]) -> "LetterBox":
        """Fit `source_hw` onto `canvas_hw` as large as it goes, without cropping, bars on both sides."""
        scale = min(canvas_hw[0] / source_hw[0], canvas_hw[1] / source_hw[1])
        inner_hw = (
            min(canvas_hw[0], max(1, round(source_hw[0] * scale))),
            min(canvas_hw[1], max(1, round(source_hw[1] * scale))),
        )
        return cls.centred(source_hw, canvas_hw, inner_hw)

    @classmethod
    def centred(cls, source_hw: tuple[int, int], canvas_hw: tuple[int, int], inner_hw: tuple[int, int]) -> "LetterBox":
        """Scale `source_hw` to `inner_hw`, which is no larger than the canvas, and centre it there."""
        return cls(source_hw, canvas_hw, inner_hw, (canvas_hw[0] - inner_hw[0]) // 2, (canvas_hw[1] - inner_hw[1]) // 2)

    @property
    def inner(self) -> tuple[slice, slice]:
        """The rows and columns of the canvas that hold the image."""
        return slice(self.top, self.top + self.inner_hw[0]), slice(self.left, self.left + self.inner_hw[1])

    def apply(self, image: np.ndarray) -> np.ndarray:
        """Return uint8 RGB [h, w, 3] on the canvas [H, W, 3], with grey bars."""
        self._check_source(image)
        if self.inner_hw == self.canvas_hw:
            return resize_image(image, self.inner_hw)
        canvas = np.full((*self.canvas_hw, 3), BAR_GREY, np.uint8)
        resize_image(image, self.inner_hw, out=canvas[self.inner])
        return canvas

    def apply_mask(self, mask: np.ndarray, *, ignore_index: int) -> np.ndarray:
        """Return class ids [h, w] on the canvas [H, W]; the bars hold `ignore_index`, so they are never trained."""
        self._check_source(mask)
        canvas = np.full(self.canvas_hw, ignore_index, mask.dtype)
        resize_mask(mask, self.inner_hw, out=canvas[self.inner])
        return canvas

    @overload
    def invert(self, logits: "torch.Tensor") -> "torch.Tensor": ...

    @overload
    def invert(self, logits: np.ndarray) -> np.ndarray: ...

    def invert(self, logits: "torch.Tensor | np.ndarray") -> "torch.Tensor | np.ndarray":
        """Take scores [C, H, W] on the canvas back to the source [C, h, w]: bars cut off, then bilinear.

        Scores are resized, never class ids; take the argmax afterwards, or call `mask`, which needs less memory.
        """
        assert logits.shape[-2:] == self.canvas_hw, (logits.shape, self.canvas_hw)
        inner = logits[:, *self.inner]
        if self.inner_hw == self.source_hw:
            return inner
        if isinstance(inner, np.ndarray):
            size = self.source_hw[::-1]
            planes = inner.astype(np.float32, copy=False)
            return np.stack([cv2.resize(plane, size, interpolation=cv2.INTER_LINEAR) for plane in planes])
        import torch.nn.functional as F  # the floor below torch: what only letterboxes images starts without it

        return F.interpolate(inner[None].float(), self.source_hw, mode="bilinear", align_corners=False)[0]

    def at(self, logits: "torch.Tensor | np.ndarray", rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Return what `invert` gives at rows [n] and columns [m] of the source: float32 [C, n, m], an array.

        Only those pixels are interpolated, so a few of a large image cost little.
        """
        assert logits.shape[-2:] == self.canvas_hw, (logits.shape, self.canvas_hw)
        inner = logits[:, *self.inner]
        planes = inner if isinstance(inner, np.ndarray) else inner.float().cpu().numpy()
        planes = planes.astype(np.float32, copy=False)
        if self.inner_hw == self.source_hw:
            return planes[:, rows[:, None], columns]
        above, below, down = _neighbours(rows, self.source_hw[0], self.inner_hw[0])
        left, right, across = _neighbours(columns, self.source_hw[1], self.inner_hw[1])
        strips = planes[:, above] * (1 - down)[:, None] + planes[:, below] * down[:, None]
        points: np.ndarray = strips[:, :, left] * (1 - across) + strips[:, :, right] * across
        return points

    def mask(self, logits: "torch.Tensor | np.ndarray") -> np.ndarray:
        """Return the class of the largest of logits [C, H, W] at the source's size: uint8 [h, w].

        As `invert(logits).argmax(0)`, without interpolating what doesn't need it.
        """
        assert logits.shape[-2:] == self.canvas_hw, (logits.shape, self.canvas_hw)
        return resized_argmax(logits, self.source_hw, inner=self.inner)

    def _check_source(self, array: np.ndarray) -> None:
        assert array.shape[:2] == self.source_hw, (array.shape, self.source_hw)


def _neighbours(positions: np.ndarray, source: int, inner: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the two pixels of a side of `inner` between which positions of a side of `source` lie, and how far on."""
    place = np.clip((positions + 0.5) * (inner / source) - 0.5, 0, inner - 1)
    first = place.astype(np.intp)
    return first, np.minimum(first + 1, inner - 1), (place - first).astype(np.float32)
