"""Boundary IoU: IoU of the pixels near the edges of truth and prediction.

Cheng et al. 2021, "Boundary IoU: Improving Object-Centric Image Segmentation Evaluation", CVPR. As in its code, a
pixel is near an edge of its class if, in the square of 2 d + 1 pixels around it, a pixel is of another class or outside
the image; d is 2 % of the image's diagonal, at least 1. Counts of all images are added up before the division, as for
IoU. Ignored pixels are of no class, in truth and prediction.
"""

import cv2
import numpy as np

from segkit.evaluation.confusion import iou_of
from segkit.evaluation.judged import Judged

SHARE_OF_DIAGONAL = 0.02


class BoundaryIoU:
    """boundary_iou by class; an image adds hits, true and predicted pixels near edges: int64 [3, C]."""

    needs_probabilities, per_image = False, True

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes

    def count(self, image: Judged) -> np.ndarray:
        reach = max(1, round(SHARE_OF_DIAGONAL * image.diagonal))
        near_truth, near_prediction = (near_edges(ids, reach) for ids in (image.truth, image.prediction))
        both = near_truth & near_prediction & (image.truth == image.prediction)
        pairs = ((image.truth, both), (image.truth, near_truth), (image.prediction, near_prediction))
        return np.stack([_pixels_by_class(ids, inside, self.num_classes) for ids, inside in pairs])

    def figures(self, total: np.ndarray) -> dict[str, np.ndarray]:
        return {"boundary_iou": iou_of(total)}


def near_edges(ids: np.ndarray, reach: int) -> np.ndarray:
    """True where another id, or the outside of the image, is at most `reach` pixels away in the larger coordinate.

    ids uint8 [h, w] -> bool [h, w]. All classes at once: the largest and the smallest id around a pixel differ.
    """
    kernel = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
    border = cv2.BORDER_REPLICATE
    near: np.ndarray = cv2.dilate(ids, kernel, borderType=border) != cv2.erode(ids, kernel, borderType=border)
    near[:reach] = near[-reach:] = True
    near[:, :reach] = near[:, -reach:] = True
    return near


def _pixels_by_class(ids: np.ndarray, inside: np.ndarray, num_classes: int) -> np.ndarray:
    return np.bincount(ids[inside], minlength=256)[:num_classes]
