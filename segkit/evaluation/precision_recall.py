"""Precision and recall of the pixels of each class over thresholds of its probability; classwise calibration.

Average precision as scikit-learn defines it: the sum over thresholds of (R_n - R_(n-1)) P_n, without interpolation.
classwise_ece (Kull et al. 2019, "Beyond temperature scaling", NeurIPS, the term of one class): as ece, of the
probability that a pixel is of the class, in 15 bins.

Probabilities are counted in steps of 1/1005 (15 bins of 67): memory is bounded, a threshold is off by less than 0.001,
and a bin's mean confidence by less than half a step.
"""

import math

import numpy as np

from segkit.evaluation.calibration import BINS
from segkit.evaluation.judged import Judged

STEPS = BINS * 67


class PrecisionRecall:
    """average_precision and classwise_ece by class; an image adds how many pixels of `Judged.grid`, and how many of the
    class, have each probability: int64 [2, STEPS, C].
    """

    needs_probabilities, per_image = True, False

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes

    def count(self, image: Judged) -> np.ndarray:
        counted = np.empty((2, STEPS, self.num_classes), np.int64)
        known = image.sampled(image.labelled)
        truth = image.sampled(image.truth)[known].astype(np.intp)
        steps = np.minimum(image.probabilities[:, known] * STEPS, STEPS - 1).astype(np.uint16)  # [C, N]
        for k in range(self.num_classes):
            counted[0, :, k] = np.bincount(steps[k], minlength=STEPS)
        of_truth = steps[truth, np.arange(len(truth))].astype(np.intp)
        positive = np.bincount(of_truth * self.num_classes + truth, minlength=STEPS * self.num_classes)
        counted[1] = positive.reshape(STEPS, self.num_classes)
        return counted

    def figures(self, total: np.ndarray) -> dict[str, np.ndarray]:
        pixels, positive = np.moveaxis(np.asarray(total, np.float64), -3, 0)  # [..., STEPS, C]
        precision, recall = curves(total)
        ap = np.sum(np.diff(recall, prepend=0.0, axis=-2) * precision, axis=-2)
        middle = ((np.arange(STEPS) + 0.5) / STEPS)[:, None]
        shape = (*pixels.shape[:-2], BINS, STEPS // BINS, self.num_classes)
        gap = np.abs((positive - pixels * middle).reshape(shape).sum(axis=-2)).sum(axis=-2)
        labelled = pixels.sum(axis=-2)
        ece = np.divide(gap, labelled, out=np.full(gap.shape, math.nan), where=labelled > 0)
        return {"average_precision": ap, "classwise_ece": ece}


def curves(total: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return precision and recall of the pixels at or above each threshold, highest first: float64 [..., STEPS, C].

    Recall of a class without true pixels is NaN; precision where nothing is that probable is 1.
    """
    pixels, positive = (np.cumsum(part[..., ::-1, :], axis=-2) for part in np.moveaxis(np.asarray(total), -3, 0))
    precision = np.divide(positive, pixels, out=np.ones(pixels.shape), where=pixels > 0)
    true = positive[..., -1:, :]
    recall = np.divide(positive, true, out=np.full(pixels.shape, math.nan), where=true > 0)
    return precision, recall
