import math

import pytest

from segkit.training.range_test import FEWEST, RangeTest


def filled(losses: list[float], num_steps: int | None = None) -> tuple[RangeTest, list[bool]]:
    test = RangeTest(lowest=1e-5, highest=1.0, num_steps=num_steps or len(losses), base_lr=0.01)
    return test, [test.add(0.01 * test.factor(step), loss) for step, loss in enumerate(losses)]


def test_rates_rise_by_the_same_factor_from_the_lowest_to_the_highest() -> None:
    test, _ = filled([1.0] * 6)
    assert test.rates == pytest.approx([1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0])


def test_the_smoothed_loss_begins_at_the_first_and_stays_at_a_constant() -> None:
    test, _ = filled([3.0] * 20)
    assert test.smoothed == pytest.approx([3.0] * 20)


def test_the_suggestion_is_a_tenth_of_the_rate_with_the_lowest_smoothed_loss() -> None:
    losses = [abs(k - 60) / 30 + 1 for k in range(100)]
    test, _ = filled(losses)
    assert test.lowest_at == min(range(100), key=test.smoothed.__getitem__)
    assert 60 <= test.lowest_at <= 72  # the average lags by some steps
    assert test.suggestion == pytest.approx(1e-5 ** (1 - test.lowest_at / 99) / 10)
    assert not test.still_falling


def test_losses_that_only_rise_give_no_suggestion() -> None:
    test, _ = filled([1 + k / 10 for k in range(30)])
    assert test.suggestion is None


def test_losses_that_only_fall_are_said_to() -> None:
    test, _ = filled([2 - k / 100 for k in range(100)])
    assert test.still_falling


def test_the_test_ends_where_the_loss_explodes_but_not_in_the_first_steps() -> None:
    _, over = filled([1.0] * 20 + [100.0], num_steps=50)
    assert over == [False] * 20 + [True]
    _, over = filled([1.0] + [100.0] * FEWEST, num_steps=50)
    assert over == [False] * FEWEST + [True]


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_non_finite_ends_it_and_is_not_kept(loss: float) -> None:
    test, over = filled([1.0, 0.9, loss], num_steps=50)
    assert over == [False, False, True]
    assert len(test.rates) == len(test.losses) == len(test.smoothed) == 2
