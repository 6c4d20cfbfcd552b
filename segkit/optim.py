"""Optimizers, the learning rate as a pure function of the step, and the moving average of weights."""

import copy
import math
from collections.abc import Iterable
from typing import Generic, TypeVar

import torch
from torch import nn
from torch.distributed.tensor import DTensor

from segkit.config.schema import OptimConfig
from segkit.runtime.sharding import local

Model = TypeVar("Model", bound=nn.Module)


def build_optimizer(config: OptimConfig, model: nn.Module, *, encoder: nn.Module, lr: float) -> torch.optim.Optimizer:
    """Build the optimizer over every parameter; biases and normalisation layers are not decayed.

    Each group holds its own `base_lr`: `lr`, times `config.encoder_lr` for parameters of `encoder`. `set_lr` scales
    them by step.
    """
    in_encoder = {id(parameter) for parameter in encoder.parameters()}
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for parameter in model.parameters():
        groups.setdefault((id(parameter) in in_encoder, parameter.ndim > 1), []).append(parameter)
    settings = [
        {
            "params": parameters,
            "base_lr": lr * (config.encoder_lr if encoder else 1),
            "weight_decay": config.weight_decay if decayed else 0.0,
        }
        for (encoder, decayed), parameters in groups.items()
    ]
    first = next(model.parameters())
    fused = first.device.type in ("cuda", "cpu")
    if config.name == "sgd":
        fused = fused and not isinstance(first, DTensor)  # for tensors that are spread over ranks there is none
        return torch.optim.SGD(settings, lr=lr, momentum=config.momentum, nesterov=config.momentum > 0, fused=fused)
    kind = torch.optim.AdamW if config.name == "adamw" else torch.optim.Adam
    return kind(settings, lr=lr, fused=fused)


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


class MovingAverage(Generic[Model]):
    """An exponential moving average (EMA) of a model's weights: e = d e + (1 - d) w after each step.

    The decay d warms up as min(decay, (1 + n) / (10 + n)) over the updates n, so that the random start is soon
    forgotten. Buffers (BatchNorm statistics) are averaged like weights; integers are copied.
    """

    def __init__(self, model: Model, *, decay: float) -> None:
        self.model: Model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay
        self.updates = 0

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        averages, values = (_split(local(each.state_dict().values())) for each in (self.model, model))
        torch._foreach_lerp_(averages[0], values[0], 1 - decay)
        for average, value in zip(averages[1], values[1], strict=True):
            average.copy_(value)


def _split(tensors: Iterable[torch.Tensor]) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Separate floating-point tensors from the others."""
    floats: list[torch.Tensor] = []
    others: list[torch.Tensor] = []
    for tensor in tensors:
        (floats if tensor.is_floating_point() else others).append(tensor)
    return floats, others
