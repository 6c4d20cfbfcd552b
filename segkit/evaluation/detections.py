"""Average precision of objects, by the rule of PASCAL VOC (Everingham et al. 2010, IJCV 88, section 4.2).

Each predicted object is a detection, whose confidence is the mean probability of its class over its pixels. In the
order of confidence, it is a hit if its IoU with a true object that no other detection has taken is at least 0.5.
object_ap is the area under the curve of precision, made monotonous, over recall (VOC 2010 and later); object_ap_11 is
the mean of the precision at 11 levels of recall (VOC 2007).

Confidences are counted in steps of 0.001, so memory is bounded; detections of one step count as equally sure.
"""

import math

import numpy as np

from segkit.evaluation.components import Overlap
from segkit.evaluation.judged import Judged

STEPS = 1000
MATCH = 0.5


class Detections:
    """object_ap and object_ap_11 by class; an image adds hits and false alarms by confidence, and the number of true
    objects: int64 [2 STEPS + 1, C].
    """

    needs_probabilities, per_image = True, False

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes

    def count(self, image: Judged) -> np.ndarray:
        counted = np.zeros((2 * STEPS + 1, self.num_classes), np.int64)
        for objects in image.objects:
            counted[-1, objects.class_id] = len(objects.joint) - 1
            if objects.joint.shape[1] == 1:
                continue
            confidence = mean_probability(objects, image)
            step = np.clip((confidence * STEPS).astype(np.int64), 0, STEPS - 1)
            hit = is_hit(objects.iou, confidence)
            np.add.at(counted[:, objects.class_id], np.where(hit, step, STEPS + step), 1)
        return counted

    def figures(self, total: np.ndarray) -> dict[str, np.ndarray]:
        flat = total.reshape(-1, *total.shape[-2:])
        shape = total.shape[:-2] + total.shape[-1:]
        ap = [[average_precision(counts[:, k]) for k in range(self.num_classes)] for counts in flat]
        areas, levels = np.moveaxis(np.array(ap), -1, 0)
        return {"object_ap": areas.reshape(shape), "object_ap_11": levels.reshape(shape)}


def mean_probability(objects: Overlap, image: Judged) -> np.ndarray:
    """Return the mean probability of each predicted object over the pixels of the grid in it, float64 [P].

    Of an object between them it is the probability at the pixel of the grid nearest to the middle of its box.
    """
    probability = image.probabilities[objects.class_id]
    rows, columns = image.grid
    top, left = (part.start for part in objects.inside)
    height, width = objects.predicted.shape
    down, across = ((rows >= top) & (rows < top + height)), ((columns >= left) & (columns < left + width))
    found = objects.predicted[(rows[down] - top)[:, None], columns[across] - left].ravel()
    number = objects.joint.shape[1]
    pixels = np.bincount(found, minlength=number)[1:]
    total = np.bincount(found, weights=probability[np.ix_(down, across)].ravel(), minlength=number)[1:]
    mean = total / np.maximum(pixels, 1)
    for k in np.flatnonzero(pixels == 0):
        y, x = objects.middle(int(k))
        mean[k] = probability[np.abs(rows - y).argmin(), np.abs(columns - x).argmin()]
    return mean


def is_hit(iou: np.ndarray, confidence: np.ndarray) -> np.ndarray:
    """True for detections that match a true object, bool [P]: IoU [T, P], confidence [P]."""
    hit = np.zeros(len(confidence), bool)
    if not iou.size:
        return hit
    taken: set[int] = set()
    best = iou.argmax(axis=0)
    for k in np.argsort(-confidence, kind="stable"):
        if iou[best[k], k] >= MATCH and int(best[k]) not in taken:
            taken.add(int(best[k]))
            hit[k] = True
    return hit


def average_precision(counts: np.ndarray) -> tuple[float, float]:
    """Return the area under the envelope of precision over recall, and the mean at 11 levels, of counts [2 STEPS + 1].

    NaN without a true object and without a detection; 0 without a hit.
    """
    hits, false = (np.cumsum(part[::-1]) for part in (counts[:STEPS], counts[STEPS:-1]))
    num_true, num_found = counts[-1], hits[-1] + false[-1]
    if num_true == 0:
        return (math.nan, math.nan) if num_found == 0 else (0.0, 0.0)
    precision = hits / np.maximum(hits + false, 1)
    recall = hits / num_true
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    area = float(np.sum(np.diff(recall, prepend=0.0) * envelope))
    levels = [float(envelope[recall >= level].max(initial=0)) for level in np.arange(11) / 10]
    return area, float(np.mean(levels))
