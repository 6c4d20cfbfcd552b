import math

import numpy as np
import pytest

from segkit.evaluation.bootstrap import miou_gain_interval, miou_interval
from segkit.evaluation.confusion import ConfusionMatrix


def scored(num_pictures: int, num_classes: int = 4, *, repeats: int = 1, seed: int = 0) -> list[list[ConfusionMatrix]]:
    """Images of which each shows some of the classes, predicted more or less well: [repeat][image]."""
    rng = np.random.default_rng(seed)
    truths = [rng.choice(rng.permutation(num_classes)[:2], 60) for _ in range(num_pictures)]
    made = []
    for _ in range(repeats):
        row = []
        for truth in truths:
            noisy = rng.random(60) < rng.random()
            matrix = ConfusionMatrix(num_classes)
            matrix.update(np.where(noisy, rng.integers(0, num_classes, 60), truth), truth)
            row.append(matrix)
        made.append(row)
    return made


def counts(matrices: list[list[ConfusionMatrix]]) -> np.ndarray:
    return np.array([[matrix.marginals for matrix in row] for row in matrices])


@pytest.mark.parametrize("repeats", [1, 3])
def test_the_interval_is_that_of_a_plain_loop(repeats: int) -> None:
    matrices = scored(12, repeats=repeats)
    rng = np.random.default_rng(5)
    figures = []
    for _ in range(1500):
        drawn = rng.integers(0, 12, 12)
        totals = [sum((row[k] for k in drawn), ConfusionMatrix(4)) for row in matrices]
        figures.append(np.mean([total.scores().miou for total in totals]))  # every class is in every draw
    low, high = np.quantile(figures, [0.025, 0.975])
    found = miou_interval(counts(matrices), resamples=8000)
    spread = high - low
    assert spread > 0.05
    assert found == pytest.approx((low, high), abs=0.08 * spread)


def test_images_that_are_all_alike_leave_no_doubt() -> None:
    one = scored(1)[0]
    low, high = miou_interval(counts([one * 20]))
    assert low == high == pytest.approx(one[0].scores().miou)


def test_a_seed_gives_the_same_interval_in_blocks_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    images = counts(scored(30))
    first = miou_interval(images, seed=3)
    assert miou_interval(images, seed=3) == first
    assert miou_interval(images, seed=4) != first
    monkeypatch.setattr("segkit.evaluation.bootstrap.NUMBERS_AT_A_TIME", 1000)
    assert miou_interval(images, seed=3) == first


def test_a_class_that_few_draws_hold_is_left_out_of_the_others() -> None:
    matrices = scored(10, 3)[0]
    rare = ConfusionMatrix(4)
    rare.update(np.zeros(60, int), np.full(60, 3))  # missed altogether
    widened = [ConfusionMatrix.from_counts(np.pad(m.counts, (0, 1)), num_images=1) for m in matrices]
    low, high = miou_interval(counts([[*widened, rare]]))
    without = miou_interval(counts([widened]))
    assert high == pytest.approx(without[1], abs=0.1)  # a third of the draws doesn't hold it
    assert low < 0.8 * without[0]


def test_more_images_narrow_the_interval_as_their_root() -> None:
    few, many = (miou_interval(counts(scored(number))) for number in (40, 640))
    assert (few[1] - few[0]) / (many[1] - many[0]) == pytest.approx(4, rel=0.35)


def test_images_without_labels_have_no_interval() -> None:
    assert all(math.isnan(end) for end in miou_interval(np.zeros((1, 5, 3, 4), np.int64)))


# ---- of a gain


def test_the_interval_of_a_gain_is_that_of_a_plain_loop_over_pairs() -> None:
    before, after = scored(12)[0], scored(12, seed=3)[0]
    rng = np.random.default_rng(5)
    gains = []
    for _ in range(1500):
        drawn = rng.integers(0, 12, 12)
        first, second = (sum((row[k] for k in drawn), ConfusionMatrix(4)) for row in (before, after))
        gains.append(second.scores().miou - first.scores().miou)
    low, high = np.quantile(gains, [0.025, 0.975])
    found = miou_gain_interval(counts([before])[0], counts([after])[0], resamples=8000)
    assert found == pytest.approx((low, high), abs=0.08 * (high - low))


def test_the_same_counts_gain_nothing_for_certain() -> None:
    same = counts(scored(9))[0]
    assert miou_gain_interval(same, same) == (0, 0)
