"""The learning rate: a pure function of the step (and, for plateau, of how often it has dropped).

To add a schedule: a function here and a line in SCHEDULES, its name in the schema. Not here: the base rates of
parameter groups (segkit/training/optim.py), and when a plateau was noticed (segkit/training/state.py).
"""

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from segkit.config.schema import OptimConfig, RunConfig, TrainConfig

if TYPE_CHECKING:
    import torch


class Position(NamedTuple):
    """Where a run is within a schedule. Steps are those of the run, from 0."""

    t: float  # from 0 to 1 over the schedule's own part of the run
    step: int
    first: int  # the step at which the schedule took over
    steps_per_epoch: int
    drops: int  # of plateau, so far


def scale_lr(config: OptimConfig, batch_size: int) -> float:
    """Return the learning rate for a batch: `config.lr`, or in proportion to `config.reference_batch_size` if that is
    set (linear scaling, Goyal et al. 2017)."""
    if config.reference_batch_size is None:
        return config.lr
    return config.lr * batch_size / config.reference_batch_size


# ---- schedules: what the rate is multiplied by at a position


def constant(config: OptimConfig, at: Position) -> float:
    """Return 1."""
    return 1.0


def linear(config: OptimConfig, at: Position) -> float:
    """Fall from 1 to min_lr on a straight line."""
    return _between(config, 1 - at.t)


def poly(config: OptimConfig, at: Position) -> float:
    """Fall from 1 to min_lr as (1 - t)^power (Chen et al. 2017, DeepLab, section 4.1)."""
    return _between(config, (1 - at.t) ** config.power)


def cosine(config: OptimConfig, at: Position) -> float:
    """Fall from 1 to min_lr as (1 + cos(pi t)) / 2 (Loshchilov and Hutter 2017, SGDR, equation 5).

    With `cycles` above 1 the rate restarts at 1 so many times less one; each cycle is `cycle_factor` times as long as
    the one before it (T_mult of the paper), and together they fill the run.
    """
    t = at.t if config.cycles == 1 else _within_cycle(at.t, config.cycles, config.cycle_factor)
    return _between(config, (1 + math.cos(math.pi * t)) / 2)


def exponential(config: OptimConfig, at: Position) -> float:
    """Fall from 1 to min_lr by the same factor in each step: min_lr^t (ExponentialLR of PyTorch with the gamma that
    ends there)."""
    return float(config.min_lr**at.t)


def step(config: OptimConfig, at: Position) -> float:
    """Return step_factor to the number of drops: after each of step_epochs, or each time after step_every epochs
    (MultiStepLR and StepLR of PyTorch; He et al. 2016, section 3.4, drop by hand)."""
    if config.step_every:
        every = config.step_every * at.steps_per_epoch
        drops = at.step // every - at.first // every
    else:
        drops = sum(at.first < epoch * at.steps_per_epoch <= at.step for epoch in config.step_epochs)
    return float(config.step_factor**drops)


def one_cycle(config: OptimConfig, at: Position) -> float:
    """Rise from start_lr to 1 over the first `rise` of the run, then fall to min_lr, both along half a cosine.

    Smith and Topin 2018, Super-convergence, with the shape of PyTorch's OneCycleLR. Momentum stays as it is.
    """
    if at.t < config.rise:
        return config.start_lr + (1 - config.start_lr) * (1 - math.cos(math.pi * at.t / config.rise)) / 2
    return _between(config, (1 + math.cos(math.pi * (at.t - config.rise) / (1 - config.rise))) / 2)


def plateau(config: OptimConfig, at: Position) -> float:
    """Return step_factor to the number of drops, and at least min_lr (ReduceLROnPlateau of PyTorch, on mIoU)."""
    return float(max(config.min_lr, config.step_factor**at.drops))


SCHEDULES: dict[str, Callable[[OptimConfig, Position], float]] = {
    "poly": poly,
    "cosine": cosine,
    "step": step,
    "constant": constant,
    "linear": linear,
    "exponential": exponential,
    "one_cycle": one_cycle,
    "plateau": plateau,
}


def lr_factor(
    config: OptimConfig,
    *,
    step: int,
    num_steps: int,
    steps_per_epoch: int,
    drops: int = 0,
    thaw_steps: Sequence[int] = (),
) -> float:
    """Return what the learning rate is multiplied by at a step (0-based); a pure function.

    Linear warm-up over the first `config.warmup` of all steps (one_cycle has a rise of its own), then the schedule,
    whose t runs from 0 to 1 over what is left. In a chain each schedule multiplies the factor at which the one before
    it ended, so that the rate never jumps where they meet. `drops` are those of plateau so far. After each of
    `thaw_steps` the rate warms up again, over `config.thaw_warmup` of all steps.
    """
    factor = _scheduled(config, step, num_steps, steps_per_epoch, drops)
    thawing = round(config.thaw_warmup * num_steps)
    last = max((thaw for thaw in thaw_steps if thaw <= step), default=-thawing)
    return factor * (step - last + 1) / (thawing + 1) if step - last < thawing else factor


def _scheduled(config: OptimConfig, step: int, num_steps: int, steps_per_epoch: int, drops: int) -> float:
    """Return the factor without regard to what thaws."""
    warm = round(config.warmup * num_steps) if config.warms_up else 0
    if step < warm:
        return (step + 1) / (warm + 1)
    factor, first = 1.0, 0
    for name, end in config.chain:
        start, last = max(first, warm), round(end * num_steps)
        within = min(step, last)
        t = (within - start) / max(1, last - start)
        factor *= SCHEDULES[name](config, Position(t, within, first, steps_per_epoch, drops))
        if step < last:
            break
        first = last
    return factor


def thaw_steps(config: TrainConfig, *, steps_per_epoch: int) -> Sequence[int]:
    """Return the steps (from 0) at which parameters begin to train that didn't before, in order."""
    epochs = {config.freeze_epochs, *(epochs for epochs in config.freeze.values() if epochs != "always")} - {0}
    return sorted(number * steps_per_epoch for number in epochs)


def planned_rates(config: RunConfig, *, steps_per_epoch: int) -> tuple[list[float], list[float]]:
    """Return epochs (from 0) and the decoder's learning rate there, at each step of a run of so many steps per epoch.

    plateau is drawn as if the first validation had found the best mIoU.
    """
    num_steps = config.train.epochs * steps_per_epoch
    lr = scale_lr(config.optim, config.train.fixed_batch_size) if config.optim.reference_batch_size else config.optim.lr
    rates = []
    for at in range(num_steps):
        worse = max(0, at // steps_per_epoch // config.eval.every - 1)  # validations so far, but for the first
        factor = lr_factor(
            config.optim, step=at, num_steps=num_steps, steps_per_epoch=steps_per_epoch,
            drops=worse // (config.optim.patience + 1),
            thaw_steps=thaw_steps(config.train, steps_per_epoch=steps_per_epoch),
        )  # fmt: skip
        rates.append(lr * factor)
    return [at / steps_per_epoch for at in range(num_steps)], rates


def set_lr(optimizer: "torch.optim.Optimizer", factor: float) -> float:
    """Set each group's learning rate to its base times `factor`; return that of a group without a factor of its own."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor
    return float(optimizer.defaults["lr"] * factor)


def _between(config: OptimConfig, share: float) -> float:
    """Return min_lr for a share of 0, and 1 for one of 1."""
    return config.min_lr + (1 - config.min_lr) * share


def _within_cycle(t: float, cycles: int, growth: float) -> float:
    """Return the position, from 0 to 1, within the cycle that t is in; t = 1 ends the last one."""
    lengths = [growth**k for k in range(cycles)]
    left = t * sum(lengths)
    for length in lengths[:-1]:
        if left < length:
            return left / length
        left -= length
    return min(1.0, left / lengths[-1])
