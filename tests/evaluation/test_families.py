"""What holds for every family of figures in the table."""

from collections.abc import Callable

import cv2
import numpy as np
import pytest

from segkit.evaluation.families import FAMILIES, build_families
from segkit.evaluation.judged import Judged
from segkit.evaluation.objects import Objects


def drawn(seed: int, *, ignored: bool = True, perfect: bool = False) -> Judged:
    rng = np.random.default_rng(seed)
    smooth = np.stack([cv2.GaussianBlur(p, (0, 0), 5) for p in rng.normal(size=(3, 60, 80)).astype(np.float32)])
    truth = smooth.argmax(axis=0).astype(np.uint8)
    scores = 60 * smooth + (0 if perfect else 1) * rng.normal(size=smooth.shape).astype(np.float32)
    probabilities = np.exp(scores) / np.exp(scores).sum(axis=0)
    if perfect:
        probabilities = (np.arange(3)[:, None, None] == truth).astype(np.float32)
    if ignored:
        truth[:10, :30] = 255
    return Judged(
        truth,
        probabilities.argmax(axis=0).astype(np.uint8),
        num_classes=4,
        probabilities=at(padded(probabilities)),
    )


def at(probabilities: np.ndarray) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    return lambda rows, columns: probabilities[:, rows[:, None], columns]


def padded(probabilities: np.ndarray) -> np.ndarray:
    return np.concatenate([probabilities, np.zeros_like(probabilities[:1])])  # class 3 is never there


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest):  # type: ignore[no-untyped-def]
    return FAMILIES[request.param](4)


def test_a_perfect_prediction_is_perfect_and_a_class_that_is_absent_has_no_figure(family) -> None:  # type: ignore[no-untyped-def]
    figures = family.figures(family.count(drawn(0, perfect=True)))
    assert any(not np.isnan(values[:3]).all() for values in figures.values())
    for name, values in figures.items():
        if name.endswith("ece"):
            assert values[:3] == pytest.approx(0, abs=1e-3)
        else:
            assert np.all((values[:3] == 1) | np.isnan(values[:3]))
            assert np.isnan(values[3])


def test_figures_lie_between_0_and_1(family) -> None:  # type: ignore[no-untyped-def]
    for values in family.figures(family.count(drawn(1))).values():
        known = values[~np.isnan(values)]
        assert ((known >= 0) & (known <= 1)).all()


def test_what_is_predicted_on_ignored_pixels_changes_nothing(family) -> None:  # type: ignore[no-untyped-def]
    image = drawn(2)
    other_ids, other = image.prediction.copy(), image.probabilities.copy()
    other_ids[~image.labelled] = 1
    other[:, ~image.labelled] = np.array([0, 1, 0, 0])[:, None]
    changed = Judged(image.truth, other_ids, num_classes=4, probabilities=at(other))
    assert np.array_equal(family.count(image), family.count(changed))


def test_figures_of_several_sums_at_once_are_those_of_each(family) -> None:  # type: ignore[no-untyped-def]
    totals = np.stack([family.count(drawn(seed)) for seed in range(3)])
    together = family.figures(totals)
    for k in range(3):
        for name, values in family.figures(totals[k]).items():
            assert np.array_equal(together[name][k], values, equal_nan=True)


def test_a_predicted_id_that_is_no_class_is_a_miss(family) -> None:  # type: ignore[no-untyped-def]
    image = drawn(3)
    if family.needs_probabilities:
        pytest.skip("probabilities are of classes")
    missed = image.prediction.copy()
    missed[40:, 40:] = 77
    before = family.figures(family.count(image))
    for name, values in family.figures(family.count(Judged(image.truth, missed, num_classes=4))).items():
        if not name.startswith("iou_"):  # larger objects may fall into another size
            assert np.nanmean(values) < np.nanmean(before[name])


def test_masks_alone_give_the_families_that_need_no_probabilities() -> None:
    assert set(build_families(4, probabilities=False)) == {"boundary", "contours", "objects"}
    assert set(build_families(4, probabilities=True)) == set(FAMILIES)


def test_iou_by_size_takes_hits_by_the_true_and_false_pixels_by_the_predicted_object() -> None:
    truth, prediction = np.zeros((200, 200), np.uint8), np.zeros((200, 200), np.uint8)
    truth[10:20, 10:20] = 1  # small: 100 pixels, of which 60 are hit
    prediction[10:16, 10:20] = 1
    truth[50:100, 50:100] = 1  # medium: 2500 pixels, all hit, with 500 more around
    prediction[50:110, 50:100] = 1
    prediction[150:160, 150:160] = 1  # small, false
    family = Objects(2)
    total = family.count(Judged(truth, prediction, num_classes=2))
    figures = family.figures(total)
    assert figures["iou_small"][1] == pytest.approx(60 / (100 + 100))
    assert figures["iou_medium"][1] == pytest.approx(2500 / (2500 + 500))
    assert np.isnan(figures["iou_large"][1])
    assert {name: numbers[1] for name, numbers in family.num_objects(total).items()} == {
        "truth_objects": 2,
        "predicted_objects": 3,
    }
