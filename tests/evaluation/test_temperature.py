import math

import numpy as np
import pytest

from segkit.evaluation.temperature import HIGHEST, LOWEST, fit_of, fit_temperature

rng = np.random.default_rng(0)


def drawn(temperature: float, *, pixels: int = 40_000) -> tuple[np.ndarray, np.ndarray]:
    """Scores [N, 5], and truth that is drawn by their softmax at a temperature."""
    scores = rng.normal(0, 3, (pixels, 5))
    noise = rng.gumbel(size=scores.shape)  # argmax(z / T + Gumbel) is a draw of softmax(z / T)
    return scores.astype(np.float32), (scores / temperature + noise).argmax(axis=1)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_the_temperature_that_the_truth_was_drawn_with_is_found(temperature: float) -> None:
    assert fit_temperature(*drawn(temperature)) == pytest.approx(temperature, rel=0.03)


def test_no_other_temperature_has_a_lower_nll() -> None:
    scores, truth = drawn(2.0, pixels=2000)
    found = fit_temperature(scores, truth)
    best = fit_of(scores, truth, temperature=found).nll
    grid = np.geomspace(LOWEST, HIGHEST, 400)
    assert best <= min(fit_of(scores, truth, temperature=float(each)).nll for each in grid) + 1e-12


def test_a_shift_of_all_scores_of_a_pixel_changes_nothing() -> None:
    scores, truth = drawn(1.7, pixels=1000)
    shifted = scores.astype(np.float64) + rng.normal(0, 50, (1000, 1))
    assert fit_temperature(shifted, truth) == pytest.approx(fit_temperature(scores, truth), rel=1e-4)


def test_a_model_that_is_never_wrong_ends_at_the_lowest_and_one_that_knows_nothing_at_the_highest() -> None:
    scores = rng.normal(size=(500, 3))
    assert fit_temperature(scores, scores.argmax(axis=1)) == pytest.approx(LOWEST, rel=1e-6)
    assert fit_temperature(scores, scores.argmin(axis=1)) == pytest.approx(HIGHEST, rel=1e-6)


def test_nll_and_ece_are_those_of_their_formulas() -> None:
    scores, truth = np.log([[0.9, 0.1], [0.6, 0.4]]), np.array([0, 1])
    fit = fit_of(scores, truth)
    assert fit.nll == pytest.approx(-(math.log(0.9) + math.log(0.4)) / 2)
    assert fit.ece == pytest.approx((abs(1 - 0.9) + abs(0 - 0.6)) / 2)


def test_without_a_pixel_it_is_refused() -> None:
    with pytest.raises(ValueError, match="found no labelled pixel"):
        fit_temperature(np.zeros((0, 3)), np.zeros(0, int))
