"""Optimizers, the learning rate as a pure function of the step, and the moving average of weights."""

import torch
from torch import nn
from torch.distributed.tensor import DTensor

from segkit.config.schema import OptimConfig


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
        fused = fused and not isinstance(first, DTensor)  # for tensors that are sharded over ranks there is none
        return torch.optim.SGD(settings, lr=lr, momentum=config.momentum, nesterov=config.momentum > 0, fused=fused)
    kind = torch.optim.AdamW if config.name == "adamw" else torch.optim.Adam
    return kind(settings, lr=lr, fused=fused)
