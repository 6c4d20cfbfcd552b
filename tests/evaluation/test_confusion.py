import csv
import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from segkit.classes import Classes
from segkit.evaluation.confusion import ConfusionMatrix
from segkit.runtime.ranks import Ranks

Shared = Callable[[str], Path]


def read(path: Path) -> np.ndarray:
    return np.array(Image.open(path))


def matrix(truth: list[int], predicted: list[int], num_classes: int = 3) -> ConfusionMatrix:
    result = ConfusionMatrix(num_classes)
    result.update(np.array([predicted]), np.array([truth]))
    return result


def compare(folder: Path, predictions: Path, num_classes: int) -> ConfusionMatrix:
    result = ConfusionMatrix(num_classes)
    for path in sorted(predictions.glob("*.png")):
        result.update(read(path), read(folder / path.name))
    return result


# ---- counting


def test_rows_are_truth_and_columns_are_predictions() -> None:
    counts = matrix([0, 0, 1, 2, 2, 2], [0, 1, 1, 0, 2, 2]).counts
    assert counts.tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 2]]
    assert counts.dtype == np.int64


def test_ignored_pixels_are_not_counted_whatever_was_predicted() -> None:
    assert matrix([0, 255, 255], [0, 1, 255]).counts.sum() == 1


@pytest.mark.parametrize("outside", [3, 200, 255])
def test_a_prediction_that_is_no_class_is_a_miss(outside: int) -> None:
    result = matrix([0, 0, 1], [0, outside, 1])
    assert result.missed.tolist() == [1, 0, 0]
    assert result.scores().iou[:2].tolist() == [0.5, 1.0]
    assert result.scores().pixel_accuracy == 2 / 3


def test_a_negative_prediction_is_a_miss() -> None:
    assert matrix([0, 1], [-1, 1]).missed.tolist() == [1, 0, 0]


@pytest.mark.parametrize("wrong", [3, 254, -1])
def test_a_target_that_is_no_class_is_refused(wrong: int) -> None:
    with pytest.raises(ValueError, match=rf"target holds {wrong}"):
        matrix([0, wrong], [0, 0])


def test_an_ignored_id_among_the_classes_is_refused() -> None:
    for ignore_index in (-1, 2, 256):
        with pytest.raises(ValueError, match="ignore_index"):
            ConfusionMatrix(3, ignore_index=ignore_index)


def test_different_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="same shape"):
        ConfusionMatrix(2).update(np.zeros((2, 3)), np.zeros((3, 2)))


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64])
def test_counts_equal_those_of_a_plain_loop(dtype: type) -> None:
    rng = np.random.default_rng(0)
    truth = rng.choice([0, 1, 2, 3, 4, 255], (50, 60)).astype(dtype)
    predicted = rng.integers(0, 5, (50, 60)).astype(dtype)
    result = ConfusionMatrix(5)
    result.update(predicted, truth)
    expected = np.zeros((5, 5), int)
    for t, p in zip(truth.ravel(), predicted.ravel(), strict=True):
        if t != 255:
            expected[t, p] += 1
    assert np.array_equal(result.counts, expected)


@pytest.mark.parametrize(("truth", "predicted", "hits"), [(1, 1, 1), (1, 2, 0), (255, 1, 0)])
def test_an_image_of_one_pixel_counts(truth: int, predicted: int, hits: int) -> None:
    counted = ConfusionMatrix(3)
    counted.update(np.array([[predicted]], np.uint8), np.array([[truth]], np.uint8))
    assert counted.counts.trace() == hits
    assert counted.counts.sum() == (truth != 255)


def test_matrices_add_up() -> None:
    total = matrix([0, 1], [0, 0]) + matrix([2], [2])
    assert total.counts.tolist() == [[1, 0, 0], [1, 0, 0], [0, 0, 1]]
    assert total.num_images == 2


def test_one_rank_alone_reduces_to_itself() -> None:
    one = matrix([0, 1, 2], [0, 9, 1])
    total = one.reduce(Ranks(), torch.device("cpu"))
    assert np.array_equal(total.counts, one.counts)
    assert np.array_equal(total.missed, one.missed)
    assert total.num_images == 1


# ---- scores


def test_figures_follow_their_formulas() -> None:
    scores = ConfusionMatrix.from_counts([[50, 10], [5, 35]], num_images=2).scores()
    assert scores.iou.tolist() == pytest.approx([50 / 65, 35 / 50])
    assert scores.accuracy.tolist() == pytest.approx([50 / 60, 35 / 40])
    assert scores.precision.tolist() == pytest.approx([50 / 55, 35 / 45])
    assert scores.dice.tolist() == pytest.approx([100 / 115, 70 / 85])
    assert scores.miou == pytest.approx((50 / 65 + 35 / 50) / 2)
    assert scores.pixel_accuracy == pytest.approx(0.85)
    assert scores.fw_iou == pytest.approx(0.6 * 50 / 65 + 0.4 * 35 / 50)


def test_a_class_absent_from_truth_and_prediction_is_left_out_of_the_mean() -> None:
    scores = matrix([0, 1], [0, 1]).scores()
    assert math.isnan(scores.iou[2])
    assert scores.miou == scores.mean_accuracy == scores.mean_precision == scores.mean_dice == 1


def test_a_class_that_is_only_predicted_scores_0_and_counts() -> None:
    scores = matrix([0, 0], [0, 2]).scores()
    assert scores.iou.tolist()[::2] == [0.5, 0.0]
    assert scores.miou == 0.25
    assert math.isnan(scores.accuracy[2])


def test_a_class_that_is_never_predicted_has_precision_0_and_counts() -> None:
    scores = matrix([0, 1], [0, 0]).scores()
    assert scores.precision[1] == 0
    assert scores.mean_precision == 0.25


def test_a_matrix_without_pixels_has_no_score() -> None:
    scores = ConfusionMatrix(2).scores()
    assert math.isnan(scores.miou)
    assert math.isnan(scores.pixel_accuracy)


def test_metrics_are_plain_json_with_stable_names_and_null_for_nan() -> None:
    plain = matrix([0, 1], [0, 1]).scores().to_dict(Classes.build(["a", "b", "c"]))
    plain = json.loads(json.dumps(plain, allow_nan=False))
    assert list(plain) == [
        "miou", "pixel_accuracy", "mean_accuracy", "mean_precision", "mean_dice", "fw_iou", "num_images", "classes",
        "confusion",
    ]  # fmt: skip
    assert list(plain["classes"][2]) == [
        "name", "iou", "accuracy", "precision", "dice", "truth_pixels", "predicted_pixels",
    ]  # fmt: skip
    assert plain["classes"][2]["iou"] is None
    assert plain["confusion"] == [[1, 0, 0], [0, 1, 0], [0, 0, 0]]


# ---- published figures


def test_espnet_on_camvid(shared_data: Shared) -> None:
    folder = shared_data("camvid_espnet_pred")
    expected = json.loads((folder / "expected.json").read_text())
    labels = shared_data("camvid") / "SegmentationClass"
    result = compare(labels, folder / "SegmentationClass", 11)
    scores = result.scores()
    assert scores.num_images == 233
    assert round(scores.miou, 6) == 0.571748
    assert round(100 * scores.mean_accuracy, 2) == 68.30
    published = np.array(expected["confusion_12_rows_label_columns_prediction"])
    assert np.array_equal(result.counts, published[:11, :11])
    assert np.array_equal(result.missed, published[:11, 11])  # predictions of void on labelled pixels


def test_dropping_predictions_of_void_would_give_a_wrong_and_better_figure(shared_data: Shared) -> None:
    folder = shared_data("camvid_espnet_pred")
    labels = shared_data("camvid") / "SegmentationClass"
    kept = compare(labels, folder / "SegmentationClass", 11).counts
    assert round(ConfusionMatrix.from_counts(kept, num_images=233).scores().miou, 4) == 0.5975


def test_grape_leaves_agree_in_all_nine_cells(shared_data: Shared) -> None:
    folder = shared_data("leaf_black_rot")
    result = compare(folder / "SegmentationClass", folder / "Predictions", 3)
    with (folder / "published_confusion_matrix.csv").open() as file:
        published = [[int(float(cell)) for cell in row[1:]] for row in list(csv.reader(file))[1:]]
    assert result.counts.tolist() == published
    assert round(100 * result.scores().miou, 2) == 90.98


def test_binary_masks_agree_in_all_four_cells(shared_data: Shared) -> None:
    folder = shared_data("metric_binary189")
    result = compare(folder / "SegmentationClass", folder / "Predictions", 2)
    assert result.counts.tolist() == [[9862220, 3060], [2840, 2518184]]
    assert round(result.scores().miou, 6) == 0.998532
