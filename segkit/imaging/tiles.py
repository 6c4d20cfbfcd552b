"""Windows over an image that is larger than the network's canvas: where they lie, and how much each counts where.

An axis at a time, since windows lie on a grid and weights are products: weight [y, x] = rows [y] * columns [x]. Not
here: pixels and scores (segkit/inference/windows.py).
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Axis:
    """Windows of equal length along one axis of an image, in pixels of the image. The last one ends with the image."""

    length: int
    window: int  # at most `length`
    overlap: int  # of neighbours, at least
    starts: tuple[int, ...]  # ascending

    @classmethod
    def cover(cls, length: int, window: int, *, overlap: int) -> "Axis":
        """Cover an axis with as few windows as can overlap their neighbours by `overlap` pixels, evenly spread.

        So the last one ends with the image, and what it takes for that is shared by all, instead of one window that
        lies almost on the one before it. An axis that is shorter than a window gets one window of its own length.

        Raises:
            ValueError: not 0 <= overlap < window, or an axis without pixels.
        """
        if length < 1 or not 0 <= overlap < window:
            raise ValueError(
                f"found length {length}, window {window}, overlap {overlap}; expected 0 <= overlap < window"
            )
        window = min(window, length)
        steps = -(-(length - window) // max(1, window - overlap))
        starts = [k * (length - window) // steps for k in range(steps)]
        return cls(length, window, overlap, (*starts, length - window))

    @property
    def spans(self) -> list[slice]:
        """The pixels of each window."""
        return [slice(start, start + self.window) for start in self.starts]

    @property
    def new(self) -> list[slice]:
        """The pixels of each window that no window before it has: together the axis, in order."""
        ends = [start + self.window for start in self.starts]
        return [slice(first, last) for first, last in zip([0, *ends], ends, strict=False)]

    @property
    def finished(self) -> list[slice]:
        """The pixels of each window that no window after it has: together the axis, in order."""
        return [slice(first, last) for first, last in zip(self.starts, [*self.starts[1:], self.length], strict=True)]

    @property
    def tallest_overlap(self) -> int:
        """The most pixels that a window shares with the next one."""
        return max((span.stop - done.stop for span, done in zip(self.spans, self.finished, strict=True)), default=0)

    @property
    def margin(self) -> int:
        """The pixels at a window's edge, where another window goes on, that don't count: a quarter of the overlap."""
        return self.overlap // 4

    def weights(self) -> list[np.ndarray]:
        """Return each window's weights, float32 [window]; at each pixel those of all its windows sum to 1.

        Between the margins Hann's window sin^2(pi (i + 1/2) / n), divided by the sum over the windows (Pielawski and
        Wahlby 2020, "Introducing Hann windows for reducing edge-effects in patch-based image segmentation"). It begins
        at 0 with a slope of 0, so neither scores nor their slope jump at a seam; a Gaussian, as nnU-Net has it, begins
        above 0 and needs a width to be chosen. The margins are those pixels around which the network sees least: a
        model that sees no further than a margin gives the scores of the whole image.
        """
        raw = np.zeros((len(self.starts), self.window))
        total = np.zeros(self.length)
        for weights, span in zip(raw, self.spans, strict=True):
            first = self.margin if span.start > 0 else 0
            last = self.window - self.margin if span.stop < self.length else self.window
            weights[first:last] = np.sin(np.pi * (np.arange(last - first) + 0.5) / (last - first)) ** 2
            total[span] += weights
        return [(weights / total[span]).astype(np.float32) for weights, span in zip(raw, self.spans, strict=True)]
