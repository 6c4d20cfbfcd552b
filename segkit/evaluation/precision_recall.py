"""Precision and recall of the pixels of each class over thresholds of its probability; classwise calibration.

Average precision as scikit-learn defines it: the sum over thresholds of (R_n - R_(n-1)) P_n, without interpolation.
classwise_ece (Kull et al. 2019, "Beyond temperature scaling", NeurIPS, the term of one class): as ece, of the
probability that a pixel is of the class, in 15 bins.

Probabilities are counted in steps of 1/1005 (15 bins of 67): memory is bounded, a threshold is off by less than 0.001,
and a bin's mean confidence by less than half a step.
"""

import math

import cv2
import numpy as np

from segkit.evaluation.calibration import BINS
from segkit.evaluation.judged import Judged

STEPS = BINS * 67


class PrecisionRecall:
    """average_precision and classwise_ece by class; an image adds how many pixels, and how many of the class, have each
    probability: int64 [2, STEPS, C].
    """

    needs_probabilities, per_image = True, False

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes

    def count(self, image: Judged) -> np.ndarray:
        counted = np.empty((2, STEPS, self.num_classes), np.int64)
        steps = np.empty(image.probabilities.shape, np.uint16)
        np.multiply(image.probabilities, np.float32(STEPS), out=steps, casting="unsafe")
        labelled = None if image.all_labelled else image.labelled.view(np.uint8)
        for k in range(self.num_classes):
            counted[0, :, k] = _histogram(steps[k], labelled)
        truth = np.where(image.labelled, image.truth, 0)
        of_truth = np.take_along_axis(steps, truth[None].astype(np.intp), axis=0)[0]
        pairs = np.minimum(of_truth, STEPS - 1).astype(np.intp) * self.num_classes + truth
        positive = np.bincount(pairs[image.labelled], minlength=STEPS * self.num_classes)
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


def _histogram(steps: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    """Return how often each step occurs, int64 [STEPS], of steps uint16 [h, w] where the mask isn't 0."""
    counts = np.zeros(STEPS, np.int64)
    for top in range(0, len(steps), max(1, 2**24 // steps.shape[1])):  # OpenCV counts in float32: exact up to 2^24
        part = slice(top, top + max(1, 2**24 // steps.shape[1]))
        pixels = cv2.calcHist([steps[part]], [0], None if mask is None else mask[part], [STEPS + 1], [0, STEPS + 1])
        found: np.ndarray = pixels.ravel().astype(np.int64)
        counts += found[:-1]
        counts[-1] += found[-1]  # a probability of 1
    return counts
