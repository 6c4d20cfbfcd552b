import math
from dataclasses import replace
from itertools import pairwise
from typing import get_args

import pytest
import torch
from torch import nn

from segkit.config.schema import OptimConfig, ScheduleName
from segkit.models.checkpoint import Progress
from segkit.training.schedule import SCHEDULES, Position, lr_factor
from segkit.training.state import note_plateau

PLAIN = OptimConfig(warmup=0, min_lr=0)
# what a schedule needs beside its name, for a run of 100 steps in epochs of 10
NEEDS = {"step": {"step_epochs": (3, 6)}, "exponential": {"min_lr": 0.01}}


def config_for(name: str) -> OptimConfig:
    return replace(PLAIN, schedule=name, **NEEDS.get(name, {}))  # type: ignore[arg-type]


def factors(config: OptimConfig, num_steps: int = 100, drops: int = 0) -> list[float]:
    return [
        lr_factor(config, step=step, num_steps=num_steps, steps_per_epoch=10, drops=drops) for step in range(num_steps)
    ]


def test_poly_is_its_formula() -> None:
    assert factors(replace(PLAIN, power=0.9)) == pytest.approx([(1 - step / 100) ** 0.9 for step in range(100)])


def test_cosine_is_its_formula() -> None:
    expected = [(1 + math.cos(math.pi * step / 100)) / 2 for step in range(100)]
    assert factors(replace(PLAIN, schedule="cosine")) == pytest.approx(expected)


def test_step_drops_after_its_epochs() -> None:
    values = factors(replace(PLAIN, schedule="step", step_epochs=(3, 6), step_factor=0.5))
    assert [values[k] for k in (0, 29, 30, 59, 60, 99)] == [1, 1, 0.5, 0.5, 0.25, 0.25]


def test_constant_stays() -> None:
    assert set(factors(replace(PLAIN, schedule="constant"))) == {1.0}


@pytest.mark.parametrize("schedule", ["poly", "cosine"])
def test_decay_ends_at_the_least_rate(schedule: str) -> None:
    values = factors(replace(PLAIN, schedule=schedule, min_lr=0.1), num_steps=10_000)  # type: ignore[arg-type]
    assert values[-1] == pytest.approx(0.1, abs=1e-3)
    assert min(values) >= 0.1
    assert values == sorted(values, reverse=True)


@pytest.mark.parametrize("schedule", ["poly", "cosine", "constant"])
def test_warm_up_rises_evenly_to_the_peak(schedule: str) -> None:
    values = factors(replace(PLAIN, schedule=schedule, warmup=0.2))  # type: ignore[arg-type]
    assert values[:20] == pytest.approx([(step + 1) / 21 for step in range(20)])
    assert values[20] == 1
    assert max(values) == 1


def test_warm_up_may_fill_the_whole_run() -> None:
    assert factors(replace(PLAIN, warmup=1.0), num_steps=4) == pytest.approx([0.2, 0.4, 0.6, 0.8])


def test_every_schedule_of_the_config_is_in_the_table() -> None:
    assert tuple(SCHEDULES) == get_args(ScheduleName)


def first_release(config: OptimConfig, *, step: int, num_steps: int, steps_per_epoch: int) -> float:
    """The schedules as they were before there was a table of them: numbers that runs were made with."""
    warm = round(config.warmup * num_steps)
    if step < warm:
        return (step + 1) / (warm + 1)
    t = (step - warm) / max(1, num_steps - warm)
    if config.schedule == "poly":
        return config.min_lr + (1 - config.min_lr) * (1 - t) ** config.power
    if config.schedule == "cosine":
        return config.min_lr + (1 - config.min_lr) * (1 + math.cos(math.pi * t)) / 2
    if config.schedule == "step":
        return float(config.step_factor ** sum(step >= epoch * steps_per_epoch for epoch in config.step_epochs))
    return 1.0


@pytest.mark.parametrize("schedule", ["poly", "cosine", "step", "constant"])
@pytest.mark.parametrize("warmup", [0.0, 0.05, 0.37, 1.0])
def test_the_schedules_of_the_first_release_keep_their_numbers_to_the_bit(schedule: str, warmup: float) -> None:
    config = OptimConfig(schedule=schedule, warmup=warmup, step_epochs=(1, 4, 8), step_factor=0.3)  # type: ignore[arg-type]
    for num_steps in (1, 7, 93, 1000):
        for at in range(num_steps):
            place = {"step": at, "num_steps": num_steps, "steps_per_epoch": max(1, num_steps // 10)}
            assert lr_factor(config, **place) == first_release(config, **place)


def test_linear_and_exponential_are_their_formulas() -> None:
    assert factors(replace(PLAIN, schedule="linear", min_lr=0.2)) == pytest.approx(
        [1 - 0.8 * step / 100 for step in range(100)]
    )
    gamma = 0.01 ** (1 / 100)
    assert factors(config_for("exponential")) == pytest.approx([gamma**step for step in range(100)])


def test_step_every_drops_each_time_after_so_many_epochs() -> None:
    values = factors(replace(PLAIN, schedule="step", step_every=4, step_factor=0.5))
    assert values == [0.5 ** (step // 40) for step in range(100)]


@pytest.mark.parametrize(("growth", "starts"), [(1.0, [0, 25, 50, 75]), (2.0, [0, 20, 60, 140])])
def test_cosine_restarts_at_the_peak_in_cycles_that_fill_the_run(growth: float, starts: list[int]) -> None:
    num_steps = 100 if growth == 1 else 300
    values = factors(replace(PLAIN, schedule="cosine", cycles=4, cycle_factor=growth), num_steps)
    peaks = [step for step, value in enumerate(values) if value == pytest.approx(1, abs=1e-12)]
    assert peaks == starts
    length = num_steps - starts[-1]
    expected = [(1 + math.cos(math.pi * step / length)) / 2 for step in range(length)]
    assert values[starts[-1] :] == pytest.approx(expected)


def test_one_cycle_equals_pytorchs() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    judge = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 1.0, total_steps=101, pct_start=0.3, div_factor=25, final_div_factor=4, cycle_momentum=False
    )
    # PyTorch's first phase ends at step 0.3 * 101 - 1 of the 100 steps between its first and its last
    config = replace(PLAIN, schedule="one_cycle", rise=29.3 / 100, min_lr=0.01)
    for step in range(100):
        expected = optimizer.param_groups[0]["lr"]
        at = Position(step / 100, step, 0, 10, 0)
        assert SCHEDULES["one_cycle"](config, at) == pytest.approx(expected, abs=1e-9)
        optimizer.step()
        judge.step()


def test_one_cycle_takes_no_warm_up() -> None:
    values = factors(OptimConfig(schedule="one_cycle", start_lr=0.1, rise=0.4))
    assert values[0] == pytest.approx(0.1)
    assert max(range(100), key=values.__getitem__) == 40
    assert values[40] == 1


def test_plateau_follows_its_drops_and_stops_at_the_least_rate() -> None:
    config = OptimConfig(schedule="plateau", warmup=0, step_factor=0.5, min_lr=0.2)
    assert [set(factors(config, drops=drops)) for drops in range(4)] == [{1.0}, {0.5}, {0.25}, {0.2}]


@pytest.mark.parametrize("schedule", ["linear", "exponential"])
def test_newer_schedules_fall_all_the_way(schedule: str) -> None:
    values = factors(replace(PLAIN, schedule=schedule, min_lr=0.1), num_steps=10_000)  # type: ignore[arg-type]
    assert values[-1] == pytest.approx(0.1, abs=1e-3)
    assert values == sorted(values, reverse=True)


@pytest.mark.parametrize("name", sorted(SCHEDULES))
def test_factors_lie_between_0_and_1(name: str) -> None:
    assert all(0 < factor <= 1 for factor in factors(config_for(name)))


# ---- chains


@pytest.mark.parametrize("name", sorted({*SCHEDULES} - {"one_cycle", "plateau"}))
def test_a_chain_of_one_is_the_schedule_itself(name: str) -> None:
    config = replace(config_for(name), warmup=0.1)
    assert factors(replace(config, schedule=((name, 1.0),))) == factors(config)  # type: ignore[arg-type]


def test_a_chain_holds_then_falls() -> None:
    values = factors(replace(PLAIN, schedule=(("constant", 0.6), ("linear", 1.0))))
    assert values == pytest.approx([1.0] * 60 + [1 - k / 40 for k in range(40)])


def test_each_part_of_a_chain_takes_over_where_the_one_before_it_ended() -> None:
    values = factors(replace(PLAIN, min_lr=0.1, schedule=(("linear", 0.5), ("constant", 0.8), ("cosine", 1.0))))
    assert values[50:80] == pytest.approx([0.1] * 30)
    assert values[80] == pytest.approx(0.1)
    assert max(abs(b - a) for a, b in pairwise(values)) < 0.05


def test_a_chained_step_counts_the_drops_of_its_own_part() -> None:
    config = replace(PLAIN, step_epochs=(2, 7), step_factor=0.5, schedule=(("constant", 0.5), ("step", 1.0)))
    assert factors(config) == [1.0] * 70 + [0.5] * 30


def test_warm_up_stands_before_a_chain() -> None:
    values = factors(replace(PLAIN, warmup=0.2, schedule=(("constant", 0.6), ("linear", 1.0))))
    assert values[:20] == pytest.approx([(step + 1) / 21 for step in range(20)])
    assert values[20:60] == [1.0] * 40


# ---- the plateau


def drops_after(mious: list[float], patience: int) -> list[int]:
    progress = Progress()
    found = []
    for miou in mious:
        note_plateau(progress, miou, patience=patience)
        found.append(progress.plateau_drops)
    return found


def test_the_rate_drops_after_more_validations_than_patience_without_a_better_miou() -> None:
    assert drops_after([0.5, 0.4, 0.5, 0.45, 0.6, 0.5, 0.5, 0.5], patience=2) == [0, 0, 0, 1, 1, 1, 1, 2]
    assert drops_after([0.5, 0.4, 0.3], patience=0) == [0, 1, 2]


def test_a_hundredth_of_a_point_is_an_improvement_and_less_is_none() -> None:
    assert drops_after([0.5, 0.5002, 0.5004], patience=0) == [0, 0, 0]
    assert drops_after([0.5, 0.50005, 0.50008], patience=0) == [0, 1, 2]


@pytest.mark.parametrize("patience", [0, 1, 3])
def test_drops_are_those_of_pytorch(patience: int) -> None:
    mious = [0.1 + 0.05 * math.sin(k * 1.7) + 0.002 * k for k in range(40)]
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    judge = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, mode="max", factor=0.5, patience=patience, threshold=1e-4, threshold_mode="abs", eps=0
    )
    expected = []
    for miou in mious:
        judge.step(miou)
        expected.append(round(-math.log2(optimizer.param_groups[0]["lr"])))
    assert drops_after(mious, patience) == expected
