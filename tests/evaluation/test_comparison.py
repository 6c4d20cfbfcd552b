import math

import numpy as np
import pytest

from segkit.evaluation.comparison import Difference, compare, holm
from segkit.evaluation.confusion import iou_of, mean_where_known


def counts(seed: int, *, images: int = 60, trainings: int = 1, better: float = 0.0, noise: float = 0.0) -> np.ndarray:
    """Counts [R, N, 3, C] of 4 classes: images that are hard for all models, and for each in its own way besides.

    `noise` is the standard deviation of what a whole training is better or worse than another.
    """
    hard = np.random.default_rng(0).beta(5, 2, (images, 4))  # the same for every model
    rng = np.random.default_rng(seed)
    truth = np.random.default_rng(1).integers(50, 500, (images, 4))
    found = []
    for _ in range(trainings):
        share = np.clip(hard + better + noise * rng.normal() + 0.1 * rng.normal(size=hard.shape), 0.01, 0.99)
        hits = np.round(truth * share).astype(np.int64)
        false = np.round(truth * (1 - share) * rng.uniform(0.5, 1.5, hard.shape)).astype(np.int64)
        found.append(np.stack([hits, truth, hits + false], axis=1))
    return np.stack(found)


def test_the_difference_is_that_of_the_pooled_figures() -> None:
    first, second = counts(1), counts(2, better=0.05)
    expected = mean_where_known(iou_of(second[0].sum(axis=0))) - mean_where_known(iou_of(first[0].sum(axis=0)))
    found = compare(first, second, resamples=500)
    assert found.miou.value == pytest.approx(float(expected))
    assert found.miou.low < found.miou.value < found.miou.high


def test_a_model_that_is_better_on_every_image_is_found_and_the_other_way_round() -> None:
    found = compare(counts(1), counts(2, better=0.05), resamples=2000)
    assert found.miou.is_significant
    assert found.miou.low > 0
    turned = compare(counts(2, better=0.05), counts(1), resamples=2000)
    assert turned.miou.value == -found.miou.value
    assert turned.miou.high < 0


def test_a_model_against_itself_is_no_difference() -> None:
    found = compare(counts(1), counts(1), resamples=200)
    assert (found.miou.value, found.miou.low, found.miou.high, found.miou.p) == (0, 0, 0, 1)


def test_equal_models_are_called_different_in_5_percent_of_cases() -> None:
    pairs = [[counts(2 * k + side, images=120) for side in (1, 2)] for k in range(200)]
    significant = [compare(*pair, resamples=1000).miou.is_significant for pair in pairs]
    assert 0.02 <= np.mean(significant) <= 0.08


def test_the_noise_of_training_counts_where_there_are_several_trainings() -> None:
    """Equal recipes whose trainings scatter: one each are told apart by their images alone, several are not."""
    noisy = {"trainings": 4, "noise": 0.03}
    one, several = [], []
    for k in range(60):
        first, second = counts(2 * k + 1, **noisy), counts(2 * k + 2, **noisy)  # type: ignore[arg-type]
        one.append(compare(first[:1], second[:1], resamples=400).miou.is_significant)
        several.append(compare(first, second, resamples=400).miou.is_significant)
    assert np.mean(one) > 0.3
    assert np.mean(several) < 0.2


def test_a_class_that_neither_shows_has_no_difference() -> None:
    first, second = counts(1), counts(2)
    first[..., 3] = second[..., 3] = 0
    found = compare(first, second, resamples=200).classes[3]
    assert math.isnan(found.value)
    assert math.isnan(found.p)


def test_holm_multiplies_the_smallest_p_by_the_number_of_classes() -> None:
    """Holm 1979: p (1), (2), (3) times 3, 2, 1, and never below the one before."""
    found = holm([Difference(0, 0, 0, p) for p in (0.04, 0.01, 0.03, math.nan)])
    assert [each.p for each in found[:3]] == pytest.approx([0.06, 0.03, 0.06])
    assert math.isnan(found[3].p)
