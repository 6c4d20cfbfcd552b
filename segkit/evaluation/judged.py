"""One image, as figures see it: what is true, what was predicted, and how sure the model is."""

import functools
import math
from collections.abc import Callable

import cv2
import numpy as np

from segkit.evaluation.components import Overlap, overlap

MOST_SAMPLES = 2**15  # pixels of an image whose probabilities are looked at


class Judged:
    """Truth and prediction of one image; what several figures need of them is computed once, when first asked for.

    Pixels that are ignored in the truth are ignored in the prediction too: whatever stands there, no figure sees it.
    A predicted id that is no class stays, and is of no class: a miss.
    Class ids are looked at in every pixel, probabilities in a grid of about MOST_SAMPLES pixels at most: the softmax of
    each pixel would cost as much as a small network.
    """

    def __init__(
        self,
        truth: np.ndarray,
        prediction: np.ndarray,
        *,
        num_classes: int,
        ignore_index: int = 255,
        probabilities: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None,
        canvas: Callable[[], tuple[np.ndarray, np.ndarray]] | None = None,
    ) -> None:
        """`truth` and `prediction` are ids uint8 [h, w].

        `probabilities` returns float32 [C, n, m] of rows [n] and columns [m]; `canvas` returns truth and prediction on
        the network's canvas, uint8 [H, W].
        """
        self.truth, self.num_classes, self.ignore_index = truth, num_classes, ignore_index
        self._prediction, self._probabilities, self._canvas = prediction, probabilities, canvas

    @functools.cached_property
    def labelled(self) -> np.ndarray:
        """True where the truth is not ignored: bool [h, w]."""
        known: np.ndarray = self.truth != self.ignore_index
        return known

    @functools.cached_property
    def all_labelled(self) -> bool:
        """True if no pixel is ignored."""
        return bool(self.labelled.all())

    @functools.cached_property
    def prediction(self) -> np.ndarray:
        """Predicted ids uint8 [h, w], ignored where the truth is."""
        if self.all_labelled:
            return self._prediction
        return np.where(self.labelled, self._prediction, np.uint8(self.ignore_index))

    @functools.cached_property
    def present(self) -> list[int]:
        """Classes that are in truth or prediction, ascending."""
        seen = cv2.calcHist([self.truth], [0], None, [256], [0, 256])
        seen = seen + cv2.calcHist([self.prediction], [0], None, [256], [0, 256])
        return [int(k) for k in np.flatnonzero(seen.ravel()[: self.num_classes])]

    @functools.cached_property
    def objects(self) -> list[Overlap]:
        """The objects of each class that is present."""
        return [overlap(self.truth, self.prediction, class_id) for class_id in self.present]

    @functools.cached_property
    def grid(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows [n] and columns [m] of the pixels whose probabilities are looked at, evenly spaced."""
        return sampling_grid(self.truth.shape)

    def sampled(self, pixels: np.ndarray) -> np.ndarray:
        """Return the pixels of the grid, [n, m], of all [h, w]."""
        rows, columns = self.grid
        return pixels[rows[:, None], columns]

    @functools.cached_property
    def probabilities(self) -> np.ndarray:
        """Class probabilities in the grid: float32 [C, n, m]."""
        assert self._probabilities is not None, "a family that needs probabilities was built without them"
        return self._probabilities(*self.grid)

    @functools.cached_property
    def diagonal(self) -> float:
        """The image's diagonal in pixels, of which tolerances are shares."""
        return float(np.hypot(*self.truth.shape))

    @functools.cached_property
    def canvas(self) -> tuple[np.ndarray, np.ndarray]:
        """Truth and prediction on the canvas, uint8 [H, W]."""
        assert self._canvas is not None, "a convention that needs the canvas was asked of masks alone"
        return self._canvas()


def sampling_grid(size_hw: tuple[int, ...], *, most: int = MOST_SAMPLES) -> tuple[np.ndarray, np.ndarray]:
    """Return rows [n] and columns [m], evenly spaced in an image, of about `most` pixels at most."""
    stride = math.ceil(math.sqrt(math.prod(size_hw) / most))
    rows, columns = (np.arange((side - 1) % stride // 2, side, stride) for side in size_hw)
    return rows, columns
