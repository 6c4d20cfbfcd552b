"""Our figures beside the formulas of the papers, written down as their code has them, one mask at a time."""

import math
from collections.abc import Callable

import cv2
import numpy as np
import pytest

from segkit.evaluation.boundary import BoundaryIoU
from segkit.evaluation.contours import Contours
from segkit.evaluation.detections import Detections
from segkit.evaluation.judged import Judged


def at(probabilities: np.ndarray) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    return lambda rows, columns: probabilities[:, rows[:, None], columns]


def masks_of(image: Judged, class_id: int) -> tuple[np.ndarray, np.ndarray]:
    """Truth and prediction of one class as uint8 0/1; ignored pixels are 0 in both, as DAVIS has void pixels."""
    return (image.truth == class_id).astype(np.uint8), (image.prediction == class_id).astype(np.uint8)


# ---- Boundary IoU (Cheng et al. 2021; mask_to_boundary of boundary-iou-api)


def mask_to_boundary(mask: np.ndarray, dilation_ratio: float = 0.02) -> np.ndarray:
    height, width = mask.shape
    dilation = max(1, round(dilation_ratio * math.sqrt(height**2 + width**2)))
    padded = cv2.copyMakeBorder(mask, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    eroded = cv2.erode(padded, np.ones((3, 3), np.uint8), iterations=dilation)
    return mask - eroded[1 : height + 1, 1 : width + 1]


def test_boundary_iou_is_the_official_formula(image: Judged) -> None:
    family = BoundaryIoU(4)
    found = family.figures(family.count(image))["boundary_iou"]
    for k in range(4):
        truth, prediction = (mask_to_boundary(mask) for mask in masks_of(image, k))
        assert found[k] == (truth & prediction).sum() / (truth | prediction).sum()


# ---- Boundary F (Perazzi et al. 2016; seg2bmap and f_measure of davis2017-evaluation)


def seg2bmap(seg: np.ndarray) -> np.ndarray:
    e, s, se = np.zeros_like(seg), np.zeros_like(seg), np.zeros_like(seg)
    e[:, :-1], s[:-1, :], se[:-1, :-1] = seg[:, 1:], seg[1:, :], seg[1:, 1:]
    b = seg ^ e | seg ^ s | seg ^ se
    b[-1, :] = seg[-1, :] ^ e[-1, :]
    b[:, -1] = seg[:, -1] ^ s[:, -1]
    b[-1, -1] = 0
    return b


def disk(radius: int) -> np.ndarray:
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    return (x**2 + y**2 <= radius**2).astype(np.uint8)


def f_measure(truth: np.ndarray, prediction: np.ndarray, bound_th: float = 0.008) -> float:
    bound_pix = math.ceil(bound_th * np.linalg.norm(truth.shape))
    fg_boundary, gt_boundary = seg2bmap(prediction), seg2bmap(truth)
    fg_dil, gt_dil = (cv2.dilate(boundary, disk(bound_pix)) for boundary in (fg_boundary, gt_boundary))
    n_fg, n_gt = fg_boundary.sum(), gt_boundary.sum()
    if n_fg == 0 and n_gt > 0:
        precision, recall = 1.0, 0.0
    elif n_fg > 0 and n_gt == 0:
        precision, recall = 0.0, 1.0
    elif n_fg == 0 and n_gt == 0:
        precision, recall = 1.0, 1.0
    else:
        precision, recall = (fg_boundary * gt_dil).sum() / n_fg, (gt_boundary * fg_dil).sum() / n_gt
    return 0.0 if precision + recall == 0 else 2 * precision * recall / (precision + recall)


def test_boundary_f_is_the_official_formula(image: Judged) -> None:
    family = Contours(4)
    found = family.figures(family.count(image))["boundary_f"]
    assert found.tolist() == pytest.approx([f_measure(*masks_of(image, k)) for k in range(4)], rel=1e-12)


def test_boundary_f_of_several_images_is_the_mean_over_those_that_show_the_class(images: list[Judged]) -> None:
    family = Contours(4)
    found = family.figures(np.sum([family.count(image) for image in images], axis=0))["boundary_f"]
    expected = [np.mean([f_measure(*masks_of(image, k)) for image in images]) for k in range(4)]
    assert found.tolist() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("only", ["truth", "prediction", "both"])
def test_boundary_f_where_a_class_is_on_one_side_alone(only: str) -> None:
    square, nothing = np.zeros((40, 40), np.uint8), np.zeros((40, 40), np.uint8)
    square[10:30, 10:30] = 1
    truth, prediction = {"truth": (square, nothing), "prediction": (nothing, square), "both": (square, square)}[only]
    family = Contours(2)
    found = family.figures(family.count(Judged(truth, prediction, num_classes=2)))["boundary_f"]
    assert found[1] == f_measure(truth, prediction) == (1 if only == "both" else 0)


# ---- normalised surface distance, by hand


# of a square of 20 px: 19 straight pieces a side, and 4 corners. Shifted by 5 px, with a tolerance of 1 px, near the
# other are: 16 straight pieces and a corner of the upper and of the lower side, and 2 more pieces beside those corners
WHOLE = 4 * 19 + 4 * math.sqrt(0.5)


@pytest.mark.parametrize(("shift", "within"), [(0, WHOLE), (1, WHOLE), (5, 2 * 16 + 2 * math.sqrt(0.5) + 2)])
def test_surface_dice_of_a_square_that_is_shifted(shift: int, within: float) -> None:
    truth, prediction = np.zeros((60, 60), np.uint8), np.zeros((60, 60), np.uint8)
    truth[20:40, 20:40] = prediction[20:40, 20 + shift : 40 + shift] = 1
    family = Contours(2)
    found = family.figures(family.count(Judged(truth, prediction, num_classes=2)))["surface_dice"][1]
    assert found == pytest.approx(within / WHOLE)


# ---- objects, by VOC's rule, by hand


def detected(found: list[tuple[float, bool]], *, num_true: int) -> tuple[float, float]:
    """AP of one class, where detections (confidence, whether on a true object) lie apart from one another."""
    size = 12 * max(len(found), num_true)
    truth, prediction = np.zeros((12, size), np.uint8), np.zeros((12, size), np.uint8)
    probability = np.full((2, 12, size), 0.0, np.float32)
    hits = iter(range(num_true))
    for k, (confidence, is_hit) in enumerate(found):
        top = slice(1, 5) if is_hit else slice(7, 11)
        left = 12 * (next(hits) if is_hit else k)
        prediction[top, left : left + 8] = 1
        probability[1, top, left : left + 8] = confidence
    for k in range(num_true):
        truth[1:5, 12 * k : 12 * k + 8] = 1
    family = Detections(2)
    figures = family.figures(
        family.count(
            Judged(
                truth,
                prediction,
                num_classes=2,
                probabilities=at(probability),
            )
        )
    )
    return float(figures["object_ap"][1]), float(figures["object_ap_11"][1])


def test_average_precision_of_objects_is_voc_s() -> None:
    """Ranked hit, miss, hit of 3 true objects: precision 1, 1/2, 2/3 at recall 1/3, 1/3, 2/3.

    Area: 1/3 x 1 + 1/3 x 2/3 = 5/9. At 11 levels: 1 at 0, 0.1, 0.2, 0.3, 2/3 at 0.4, 0.5, 0.6, 0 at the rest: 6/11.
    """
    area, levels = detected([(0.9, True), (0.8, False), (0.7, True)], num_true=3)
    assert area == pytest.approx(5 / 9)
    assert levels == pytest.approx(6 / 11)


def test_a_surer_false_alarm_costs_more() -> None:
    assert detected([(0.9, True), (0.8, False)], num_true=1)[0] == 1.0
    assert detected([(0.8, True), (0.9, False)], num_true=1)[0] == 0.5


def test_a_second_detection_of_an_object_is_a_false_alarm() -> None:
    truth, prediction = np.zeros((10, 20), np.uint8), np.zeros((10, 20), np.uint8)
    truth[1:9, 2:18] = 1
    prediction[1:9, 2:10] = 1  # half of it: IoU 0.5, a hit
    prediction[1:9, 10:18] = 1
    prediction[1:9, 9:11] = 0  # the other half, a gap between them
    truth[1:9, 9:11] = 255  # which is ignored, so that both halves have IoU 0.5 with what is left: one object in two
    probability = np.stack([1 - prediction, prediction]).astype(np.float32) * 0.9
    family = Detections(2)
    total = family.count(Judged(truth, prediction, num_classes=2, probabilities=at(probability)))
    assert family.figures(total)["object_ap"][1] == 1.0  # the gap has made two true objects, each found

    truth[1:9, 9:11] = 1
    truth[0], prediction[0] = 0, 0
    joined = family.count(Judged(truth, prediction, num_classes=2, probabilities=at(probability)))
    assert family.figures(joined)["object_ap"][1] == 0.0  # IoU 7 / 16 each: no hit
