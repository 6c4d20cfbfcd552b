"""One image, as figures see it: what is true, what was predicted, and how sure the model is."""

import functools
from collections.abc import Callable

import numpy as np

from segkit.evaluation.components import Overlap, overlap


class Judged:
    """Truth and prediction of one image; what several figures need of them is computed once, when first asked for.

    Pixels that are ignored in the truth are ignored in the prediction too: whatever stands there, no figure sees it.
    A predicted id that is no class stays, and is of no class: a miss.
    """

    def __init__(
        self,
        truth: np.ndarray,
        prediction: np.ndarray,
        *,
        num_classes: int,
        ignore_index: int = 255,
        probabilities: Callable[[], np.ndarray] | None = None,
        canvas: Callable[[], tuple[np.ndarray, np.ndarray]] | None = None,
    ) -> None:
        """`truth` and `prediction` are ids uint8 [h, w].

        `probabilities` returns float32 [C, h, w]; `canvas` returns truth and prediction on the network's canvas
        (height, width), uint8 [H, W].
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
        seen = np.bincount(self.truth.ravel(), minlength=256) + np.bincount(self.prediction.ravel(), minlength=256)
        return [int(k) for k in np.flatnonzero(seen[: self.num_classes])]

    @functools.cached_property
    def objects(self) -> list[Overlap]:
        """The objects of each class that is present."""
        return [overlap(self.truth, self.prediction, class_id) for class_id in self.present]

    @functools.cached_property
    def probabilities(self) -> np.ndarray:
        """Class probabilities float32 [C, h, w]."""
        assert self._probabilities is not None, "a family that needs probabilities was built without them"
        return self._probabilities()

    @functools.cached_property
    def diagonal(self) -> float:
        """The image's diagonal in pixels, of which tolerances are shares."""
        return float(np.hypot(*self.truth.shape))

    @functools.cached_property
    def canvas(self) -> tuple[np.ndarray, np.ndarray]:
        """Truth and prediction on the canvas, uint8 [H, W]."""
        assert self._canvas is not None, "a convention that needs the canvas was asked of masks alone"
        return self._canvas()
