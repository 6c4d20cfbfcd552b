"""Objects of a class in truth and prediction, and how they overlap. An object is an 8-connected component."""

from dataclasses import dataclass

import cv2
import numpy as np


@dataclass(frozen=True)
class Overlap:
    """The objects of one class in one image: T in the truth, P in the prediction."""

    class_id: int
    joint: np.ndarray  # int64 [T + 1, P + 1]: pixels that two objects share; row and column 0: outside any object
    predicted: np.ndarray  # int32 [h', w']: the number of the predicted object of a pixel, 0 for none
    inside: tuple[slice, slice]  # the part of the image that `predicted` covers

    @property
    def truth_areas(self) -> np.ndarray:
        """Pixels of each true object: int64 [T]."""
        areas: np.ndarray = self.joint[1:].sum(axis=1)
        return areas

    @property
    def predicted_areas(self) -> np.ndarray:
        """Pixels of each predicted object: int64 [P]."""
        areas: np.ndarray = self.joint[:, 1:].sum(axis=0)
        return areas

    def middle(self, k: int) -> tuple[int, int]:
        """Return row and column of the middle of the box of predicted object k, from 0, in the image."""
        x, y, width, height = cv2.boundingRect((self.predicted == k + 1).view(np.uint8))
        return self.inside[0].start + y + height // 2, self.inside[1].start + x + width // 2

    @property
    def iou(self) -> np.ndarray:
        """IoU of each pair of objects: float64 [T, P]."""
        shared = self.joint[1:, 1:]
        ious: np.ndarray = shared / (self.truth_areas[:, None] + self.predicted_areas[None] - shared)
        return ious


def overlap(truth: np.ndarray, prediction: np.ndarray, class_id: int) -> Overlap:
    """Return the objects of a class, which truth or prediction (ids uint8 [h, w]) must show."""
    true, predicted = (truth == class_id).view(np.uint8), (prediction == class_id).view(np.uint8)
    left, top, width, height = cv2.boundingRect(true | predicted)
    inside = slice(top, top + height), slice(left, left + width)
    num_true, true_objects = cv2.connectedComponents(true[inside], connectivity=8)
    num_predicted, predicted_objects = cv2.connectedComponents(predicted[inside], connectivity=8)
    pairs = np.bincount((true_objects * num_predicted + predicted_objects).ravel(), minlength=num_true * num_predicted)
    return Overlap(class_id, pairs.reshape(num_true, num_predicted), predicted_objects, inside)
