"""Our figures beside those of the programs that people publish with."""

import types
import warnings

import numpy as np
import pytest

from segkit.evaluation.calibration import Calibration
from segkit.evaluation.confusion import ConfusionMatrix
from segkit.evaluation.judged import Judged
from segkit.evaluation.precision_recall import STEPS, PrecisionRecall

MISSING = "a judge isn't installed: uv sync --group judges"


def judge(name: str) -> types.ModuleType:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(name, reason=MISSING)


def matrix_of(images: list[Judged]) -> ConfusionMatrix:
    matrix = ConfusionMatrix(images[0].num_classes)
    for image in images:
        matrix.update(image.prediction, image.truth)
    return matrix


def labelled(images: list[Judged]) -> tuple[np.ndarray, np.ndarray]:
    """Truth and prediction of all labelled pixels: [N]."""
    return (
        np.concatenate([image.truth[image.labelled] for image in images]),
        np.concatenate([image.prediction[image.labelled] for image in images]),
    )


def probabilities(images: list[Judged]) -> np.ndarray:
    """Probabilities of all labelled pixels: float32 [N, C]."""
    return np.concatenate([image.probabilities[:, image.labelled].T for image in images])


def test_the_confusion_matrix_is_scikit_learn_s(images: list[Judged]) -> None:
    metrics = judge("sklearn.metrics")
    truth, prediction = labelled(images)
    assert np.array_equal(matrix_of(images).counts, metrics.confusion_matrix(truth, prediction, labels=range(4)))


def test_iou_is_torchmetrics_jaccard_index(images: list[Judged]) -> None:
    torch, classification = judge("torch"), judge("torchmetrics.classification")
    metric = classification.MulticlassJaccardIndex(4, average=None, ignore_index=255)
    for image in images:
        metric.update(torch.from_numpy(image.prediction.astype(int) % 255), torch.from_numpy(image.truth.astype(int)))
    assert metric.compute().numpy() == pytest.approx(matrix_of(images).scores().iou, rel=1e-6)


def test_average_precision_is_torchmetrics_at_the_same_thresholds_and_scikit_learn_s_at_every_one(
    images: list[Judged],
) -> None:
    torch, classification, metrics = judge("torch"), judge("torchmetrics.classification"), judge("sklearn.metrics")
    family = PrecisionRecall(4)
    found = family.figures(np.sum([family.count(image) for image in images], axis=0))["average_precision"]
    truth, probable = labelled(images)[0], probabilities(images)
    thresholds = torch.arange(STEPS) / STEPS
    for k in range(4):
        binned = classification.BinaryAveragePrecision(thresholds=thresholds)
        binned.update(torch.from_numpy(probable[:, k]), torch.from_numpy((truth == k).astype(int)))
        assert found[k] == pytest.approx(float(binned.compute()), abs=1e-4)
        assert found[k] == pytest.approx(metrics.average_precision_score(truth == k, probable[:, k]), abs=2e-3)


def test_ece_is_netcal_s(images: list[Judged]) -> None:
    netcal = judge("netcal.metrics")
    family = Calibration(4)
    found = float(family.figures(np.sum([family.count(image) for image in images], axis=0))["ece"][0])
    truth, probable = labelled(images)[0], probabilities(images)
    assert found == pytest.approx(netcal.ECE(15).measure(probable, truth), abs=1e-5)  # its sums are of float32


def test_iou_is_that_of_cityscapes_own_evaluation(images: list[Judged]) -> None:
    """Pixels that are ignored in the truth count as nothing there too, and absent classes have no figure."""
    evaluation = judge("cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling")
    from cityscapesscripts.helpers.labels import trainId2label

    ids = np.zeros(256, np.int64)  # our class k as its class with trainId k; ignored as its id 0, "unlabeled"
    ids[:4] = [trainId2label[k].id for k in range(4)]
    matrix = evaluation.generateMatrix(evaluation.args)
    for image in images:
        np.add.at(matrix, (ids[image.truth], ids[image.prediction]), 1)
    found = [evaluation.getIouScoreForLabel(int(ids[k]), matrix, evaluation.args) for k in range(4)]
    assert found == pytest.approx(matrix_of(images).scores().iou.tolist(), rel=1e-12)


def test_surface_dice_is_that_of_the_package_surface_distance(image: Judged) -> None:
    from segkit.evaluation.contours import Contours

    package = judge("surface_distance")
    family = Contours(4)
    found = family.figures(family.count(image))["surface_dice"]
    tolerance = int(np.ceil(0.008 * image.diagonal))
    for k in range(4):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            distances = package.compute_surface_distances(image.truth == k, image.prediction == k, (1, 1))
        expected = package.compute_surface_dice_at_tolerance(distances, tolerance)
        assert found[k] == pytest.approx(expected, rel=1e-9)
