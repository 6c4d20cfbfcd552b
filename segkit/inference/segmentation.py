"""What a model says of one image, at the image's own size: class ids, probabilities, confidence."""

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from segkit.imaging.letterbox import LetterBox

if TYPE_CHECKING:
    import torch

    from segkit.inference.postprocess import Postprocess


@dataclass(frozen=True)
class Segmentation:
    """Scores of one image, and what follows from them; each figure is computed when it is first asked for.

    Class ids come from the scores alone, without enlarging them all (segkit/imaging/argmax.py); probabilities cost
    C float32 planes of the image's size, so nothing here makes them unless a rule or a caller needs them.
    """

    logits: "torch.Tensor | np.ndarray"  # float [C, H, W] on the canvas, on the CPU or a GPU
    box: LetterBox
    postprocess: "Postprocess | None" = None
    min_confidence: float = 0.0  # pixels whose class is less probable become `ignore_index`
    ignore_index: int = 255

    @functools.cached_property
    def mask(self) -> np.ndarray:
        """Class ids uint8 [h, w], after post-processing; `ignore_index` where the model is less than sure enough."""
        ids = self.raw_mask
        if self.postprocess is not None:
            confidence = self.confidence if self.postprocess.needs_confidence else None
            ids = self.postprocess(ids, confidence)
        if self.min_confidence > 0:
            ids = np.where(self.confidence < self.min_confidence, np.uint8(self.ignore_index), ids)
        return ids

    @functools.cached_property
    def raw_mask(self) -> np.ndarray:
        """The class of the largest score, uint8 [h, w]: the mask before post-processing."""
        return self.box.mask(self.logits)

    @functools.cached_property
    def probabilities(self) -> np.ndarray:
        """The softmax of the scores at the image's size: float32 [C, h, w], sums to 1 for each pixel."""
        probabilities = softmax(self.box.invert(self.logits))
        return probabilities if isinstance(probabilities, np.ndarray) else probabilities.cpu().numpy()

    def probabilities_at(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Return `probabilities` at rows [n] and columns [m] of the image: float32 [C, n, m]."""
        found = softmax(self.scores_at(rows, columns))
        assert isinstance(found, np.ndarray)
        return found

    def scores_at(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Return the scores at rows [n] and columns [m] of the image: float32 [C, n, m]."""
        return self.box.at(self.logits, rows, columns)

    @functools.cached_property
    def confidence(self) -> np.ndarray:
        """The largest class probability: float32 [h, w]."""
        largest: np.ndarray = self.probabilities.max(axis=0)
        return largest


def softmax(scores: "torch.Tensor | np.ndarray") -> "torch.Tensor | np.ndarray":
    """Return probabilities float32 [C, ...] of scores [C, ...], in memory of their own; of a tensor on its device."""
    if isinstance(scores, np.ndarray):
        powers: np.ndarray = np.exp(scores - scores.max(axis=0))
        powers /= powers.sum(axis=0)
        return powers
    return scores.float().softmax(dim=0)
