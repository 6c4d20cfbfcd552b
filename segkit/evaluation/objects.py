"""Figures of objects: how many there are, and IoU by the size of what is segmented.

An object is an 8-connected component of a class. Sizes are COCO's (Lin et al. 2014, cocodataset.org/#detection-eval):
small below 32 x 32 pixels, medium below 96 x 96, large from there on, at the image's own resolution.
IoU of a size is hits / (true + false) over all images: hits and true pixels are those of true objects of that size,
false ones are predicted pixels outside any true object of the class, by the size of the predicted object.
"""

import math

import numpy as np

from segkit.evaluation.judged import Judged

SIZES = {"small": 0, "medium": 32**2, "large": 96**2}  # name -> pixels from which an object is of this size


class Objects:
    """iou_small, iou_medium, iou_large by class, and counts of objects.

    An image adds int64 [3 S + 2, C]: hits, true and false pixels of each of S sizes; objects in truth and prediction.
    """

    needs_probabilities, per_image = False, True

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes

    def count(self, image: Judged) -> np.ndarray:
        counted = np.zeros((3 * len(SIZES) + 2, self.num_classes), np.int64)
        for objects in image.objects:
            hits = objects.joint[1:, 1:].sum(axis=1)
            true_size, predicted_size = size_of(objects.truth_areas), size_of(objects.predicted_areas)
            sizes = counted[:-2, objects.class_id].reshape(3, len(SIZES))
            np.add.at(sizes[0], true_size, hits)
            np.add.at(sizes[1], true_size, objects.truth_areas)
            np.add.at(sizes[2], predicted_size, objects.joint[0, 1:])
            counted[:-2, objects.class_id] = sizes.ravel()
            counted[-2:, objects.class_id] = len(true_size), len(predicted_size)
        return counted

    def figures(self, total: np.ndarray) -> dict[str, np.ndarray]:
        hits, truth, false = np.moveaxis(self._by_size(total), -3, 0)
        union = truth + false
        iou = np.divide(hits, union, out=np.full(union.shape, math.nan), where=union > 0)
        return {f"iou_{name}": iou[..., k, :] for k, name in enumerate(SIZES)}

    def num_objects(self, total: np.ndarray) -> dict[str, np.ndarray]:
        """Return the number of objects by class, int64 [C], of the sum over all images."""
        return {"truth_objects": total[-2].astype(np.int64), "predicted_objects": total[-1].astype(np.int64)}

    def _by_size(self, total: np.ndarray) -> np.ndarray:
        return np.asarray(total[..., :-2, :], np.float64).reshape(*total.shape[:-2], 3, len(SIZES), self.num_classes)


def size_of(areas: np.ndarray) -> np.ndarray:
    """Return the index into SIZES of each area in pixels."""
    return np.searchsorted(list(SIZES.values()), areas, side="right") - 1
