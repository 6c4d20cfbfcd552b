"""The moving average of weights, and of BatchNorm's statistics."""

import copy
from collections.abc import Iterable
from typing import Generic, TypeVar

import torch
from torch import nn

from segkit.runtime.sharding import local

Model = TypeVar("Model", bound=nn.Module)


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
