"""The learning rate: a pure function of the step."""

import math

import torch

from segkit.config.schema import OptimConfig


def scale_lr(config: OptimConfig, batch_size: int) -> float:
    """Return the learning rate for a batch: `config.lr`, or in proportion to `config.reference_batch_size` if that is
    set (linear scaling, Goyal et al. 2017)."""
    if config.reference_batch_size is None:
        return config.lr
    return config.lr * batch_size / config.reference_batch_size


def lr_factor(config: OptimConfig, *, step: int, num_steps: int, steps_per_epoch: int) -> float:
    """Return what the learning rate is multiplied by at a step (0-based); a pure function.

    Linear warm-up over the first `config.warmup` of all steps, then with t running from 0 to 1:

    - poly: (1 - t)^power (Chen et al. 2017, DeepLab), from 1 down to min_lr
    - cosine: (1 + cos(pi t)) / 2 (Loshchilov and Hutter 2017), from 1 down to min_lr
    - step: step_factor to the number of step_epochs that are over
    - constant: 1
    """
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


def set_lr(optimizer: torch.optim.Optimizer, factor: float) -> float:
    """Set each group's learning rate to its base times `factor`; return that of the last group (the decoder)."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor
    return float(optimizer.param_groups[-1]["lr"])
