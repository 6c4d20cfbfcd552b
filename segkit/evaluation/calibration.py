"""Calibration: whether a model that is 80 % sure is right in 80 % of the cases.

ece: expected calibration error of the most probable class (Naeini et al. 2015, AAAI; Guo et al. 2017, "On Calibration
of Modern Neural Networks", ICML, equation 3): over 15 bins of equal width, the mean of |accuracy - confidence|,
weighted by pixels. By class, of every class's own probability: see precision_recall.py.
"""

import math

import numpy as np

from segkit.evaluation.judged import Judged

BINS = 15


class Calibration:
    """ece of the labelled pixels of `Judged.grid`; an image adds [3, BINS]: pixels, hits and the sum of confidences."""

    needs_probabilities, per_image = True, True

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes

    def count(self, image: Judged) -> np.ndarray:
        known = image.sampled(image.labelled)
        confidence = image.probabilities.max(axis=0)[known]
        correct = image.sampled(image.prediction == image.truth)[known]
        return binned(confidence, correct)

    def figures(self, total: np.ndarray) -> dict[str, np.ndarray]:
        return {"ece": expected_calibration_error(total)[..., None]}


def binned(confidence: np.ndarray, correct: np.ndarray) -> np.ndarray:
    """Return pixels, hits and the sum of confidences of each bin, float64 [3, BINS], for pixels float [N], bool [N]."""
    index = np.minimum((confidence * BINS).astype(np.intp), BINS - 1)
    return np.stack(
        [
            np.bincount(index, minlength=BINS),
            np.bincount(index, weights=correct, minlength=BINS),
            np.bincount(index, weights=confidence, minlength=BINS),
        ]
    )


def expected_calibration_error(total: np.ndarray) -> np.ndarray:
    """Return the ECE in 0..1 of sums [..., 3, BINS], NaN of no pixel: float64 [...]."""
    pixels, hits, confidence = np.moveaxis(np.asarray(total, np.float64), -2, 0)
    gap, labelled = np.abs(hits - confidence).sum(axis=-1), pixels.sum(axis=-1)
    return np.divide(gap, labelled, out=np.full(gap.shape, math.nan), where=labelled > 0)


def reliability(total: np.ndarray) -> list[tuple[int, float, float]]:
    """Return pixels, mean confidence and accuracy of each bin that holds pixels, of the sum [3, BINS]."""
    return [(int(n), float(conf / n), float(hits / n)) for n, hits, conf in total.T if n > 0]
