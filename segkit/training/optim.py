"""Optimizers: which exist, and which parameter learns at which rate.

To add one: a function here and a line in OPTIMIZERS, its name in the schema. All are of kept packages: torch.optim, and
timm.optim for what PyTorch lacks. Not here: the rate over the run (segkit/training/schedule.py).
"""

from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.distributed.tensor import DTensor

from segkit.config.schema import OptimConfig
from segkit.errors import ConfigError

Groups = list[dict[str, Any]]


def build_optimizer(config: OptimConfig, model: nn.Module, *, encoder: nn.Module, lr: float) -> torch.optim.Optimizer:
    """Build the optimizer over every parameter; biases and normalisation layers are not decayed.

    Each group holds its own `base_lr`: `lr`, times `config.encoder_lr` and `config.layer_decay` for parameters of
    `encoder`, times the factor of `config.groups`. `set_lr` scales them by step.

    Raises:
        ConfigError: a pattern of config.groups fits no parameter, the encoder has no blocks to count for
            config.layer_decay, or the optimizer isn't installed.
    """
    groups = parameter_groups(config, model, encoder=encoder, lr=lr)
    first = next(model.parameters())
    fused = first.device.type in ("cuda", "cpu")
    optimizer = OPTIMIZERS[config.name](groups, config, lr, fused, isinstance(first, DTensor))
    if config.l1:
        optimizer.register_step_post_hook(_shrink)  # after each step that is taken, none that a scaler leaves out
    return optimizer


# ---- optimizers: (groups, config, lr, fused kernels exist for the device, parameters are sharded)


def _adamw(groups: Groups, config: OptimConfig, lr: float, fused: bool, sharded: bool) -> torch.optim.Optimizer:
    """Loshchilov and Hutter 2019, Decoupled weight decay regularization, algorithm 2."""
    return torch.optim.AdamW(groups, lr=lr, fused=fused)


def _adam(groups: Groups, config: OptimConfig, lr: float, fused: bool, sharded: bool) -> torch.optim.Optimizer:
    """Kingma and Ba 2015, algorithm 1; weight decay is part of the gradient."""
    return torch.optim.Adam(groups, lr=lr, fused=fused)


def _sgd(groups: Groups, config: OptimConfig, lr: float, fused: bool, sharded: bool) -> torch.optim.Optimizer:
    """Sutskever et al. 2013 with Nesterov's momentum, which may be switched off."""
    nesterov = config.nesterov and config.momentum > 0
    fused = fused and not sharded  # for tensors that are sharded over ranks there is no fused kernel
    return torch.optim.SGD(groups, lr=lr, momentum=config.momentum, nesterov=nesterov, fused=fused)


def _rmsprop(groups: Groups, config: OptimConfig, lr: float, fused: bool, sharded: bool) -> torch.optim.Optimizer:
    """Tieleman and Hinton 2012, lecture 6.5, with momentum; weight decay is part of the gradient."""
    return torch.optim.RMSprop(groups, lr=lr, momentum=config.momentum)


def _nadam(groups: Groups, config: OptimConfig, lr: float, fused: bool, sharded: bool) -> torch.optim.Optimizer:
    """Dozat 2016, Incorporating Nesterov momentum into Adam, with AdamW's decoupled weight decay."""
    return torch.optim.NAdam(groups, lr=lr, decoupled_weight_decay=True)


def _lion(groups: Groups, config: OptimConfig, lr: float, fused: bool, sharded: bool) -> torch.optim.Optimizer:
    """Chen et al. 2023, Symbolic discovery of optimization algorithms, algorithm 2. Its steps have the size of the
    rate, so it wants a third to a tenth of AdamW's rate and as much more weight decay (section 5)."""
    from timm.optim import Lion

    optimizer: torch.optim.Optimizer = Lion(groups, lr=lr)
    return optimizer


def _muon(groups: Groups, config: OptimConfig, lr: float, fused: bool, sharded: bool) -> torch.optim.Optimizer:
    """Jordan et al. 2024, Muon, whose updates have AdamW's size (Liu et al. 2025, Muon is scalable, equation 4).

    Convolutions are flattened to matrices [out, in * kh * kw]. AdamW trains what is no matrix: see `takes_muon`.
    """
    try:
        from timm.optim import Muon
    except ImportError as error:
        raise ConfigError(
            "optim.name: muon needs a newer timm than the one installed; install it with: pip install -U timm"
        ) from error
    for group in groups:
        if not group["use_muon"]:  # by timm's rule, nesterov would make it NAdamW
            group.update(nesterov=False, betas=(0.9, 0.999), eps=1e-8)
    optimizer: torch.optim.Optimizer = Muon(groups, lr=lr, momentum=config.momentum, nesterov=config.nesterov)
    return optimizer


OPTIMIZERS: dict[str, Callable[[Groups, OptimConfig, float, bool, bool], torch.optim.Optimizer]] = {
    "adamw": _adamw,
    "adam": _adam,
    "sgd": _sgd,
    "rmsprop": _rmsprop,
    "nadam": _nadam,
    "lion": _lion,
    "muon": _muon,
}


def takes_muon(parameter: torch.Tensor) -> bool:
    """True for a matrix worth orthogonalising: [out, in] or a convolution's [out, in, kh, kw], flattened, at least 4x4.

    Biases, norms, depthwise convolutions (one input channel per filter), class tokens and position embeddings aren't.
    """
    if parameter.ndim < 2 or 1 in parameter.shape[:2]:
        return False
    return min(parameter.shape[0], parameter[0].numel()) >= 4


# ---- groups of parameters


class _Kind(NamedTuple):
    """What the parameters of a group share. Two parameters of the same kind belong to the same group."""

    in_encoder: bool
    factor: float
    weight_decay: float
    decayed: bool
    muon: bool


def parameter_groups(config: OptimConfig, model: nn.Module, *, encoder: nn.Module, lr: float) -> Groups:
    """Return the groups that an optimizer is built of, with `base_lr`, `weight_decay` and, where it is used, `l1`.

    Raises:
        ConfigError: as `build_optimizer`.
    """
    named = dict(model.named_parameters())
    check_patterns(config.groups, named, key="optim.groups")
    in_encoder = {id(parameter) for parameter in encoder.parameters()}
    heights: dict[int, int] = {}
    if config.layer_decay < 1:
        inner = dict(encoder.named_parameters())
        heights = dict(zip(map(id, inner.values()), encoder_heights(list(inner)), strict=True))
    groups: dict[_Kind, list[nn.Parameter]] = {}
    for name, parameter in named.items():
        factor = config.layer_decay ** heights.get(id(parameter), 0)
        own = next((values for pattern, values in config.groups.items() if fits(name, pattern)), {})
        decayed = parameter.ndim > 1
        weight_decay = own.get("weight_decay", config.weight_decay) if decayed else 0.0
        muon = config.name == "muon" and takes_muon(parameter)
        kind = _Kind(id(parameter) in in_encoder, factor * own.get("lr", 1.0), weight_decay, decayed, muon)
        groups.setdefault(kind, []).append(parameter)
    return [
        {
            "params": parameters,
            "base_lr": lr * (config.encoder_lr if kind.in_encoder else 1) * kind.factor,
            "weight_decay": kind.weight_decay,
            **({"l1": config.l1 if kind.decayed else 0.0} if config.l1 else {}),
            **({"use_muon": kind.muon} if config.name == "muon" else {}),
        }
        for kind, parameters in groups.items()
    ]


def fits(name: str, pattern: str) -> bool:
    """True if a pattern with * and ? describes a parameter, as in encoder.layer4.*; names are those of a checkpoint,
    without `network.` in front."""
    return fnmatchcase(name.removeprefix("network."), pattern)


def check_patterns(patterns: Iterable[str], names: Iterable[str], *, key: str) -> None:
    """Raises ConfigError if a pattern describes none of the parameters of these names."""
    names = list(names)
    for pattern in patterns:
        if not any(fits(name, pattern) for name in names):
            known = sorted({".".join(name.removeprefix("network.").split(".")[:2]) + ".*" for name in names})
            few = f"{', '.join(known[:8])}{', ...' if len(known) > 8 else ''}"
            raise ConfigError(f"{key}: found '{pattern}', which fits no parameter; expected a pattern such as {few}")


def encoder_heights(names: Sequence[str]) -> list[int]:
    """Return how many blocks below the decoder each parameter of an encoder lies, by its name, in the encoder's order.

    A block is what a name says up to its first number: blocks.3 of a transformer, layer2.1 of a ResNet, blocks.2.1 of a
    MobileNet. What comes before the first block lies below all of them. A parameter without a number belongs to the
    block behind it, and behind the last one to that, as the last norm of a ViT does. So count Clark et al. 2020,
    ELECTRA, Bao et al. 2022, BEiT, and timm's param_groups_layer_decay.

    Raises:
        ConfigError: no name has a number.
    """
    blocks: list[str] = []
    depths: list[int] = []  # from 0 at the input
    for name in names:
        block = _block(name)
        if block and block not in blocks:
            blocks.append(block)
        after = len(blocks) + 1 if blocks else 0
        depths.append(blocks.index(block) + 1 if block else after)
    if names and not blocks:
        raise ConfigError(
            f"optim.layer_decay: found an encoder whose parameters name no blocks by number ({names[0]}, ...), "
            "expected names such as blocks.3 or layer2.1; use optim.groups with a pattern for each part"
        )
    return [len(blocks) + 1 - min(depth, len(blocks)) for depth in depths]


def _block(name: str) -> str | None:
    """Return the part of a parameter's name that names its block; None if it has no number."""
    parts = name.split(".")
    end = next((k for k, part in enumerate(parts) if part.isdecimal()), None)
    if end is None:
        return None
    while parts[end + 1].isdecimal() and end + 3 < len(parts):  # a number right before the last word is a layer's
        end += 1
    return ".".join(parts[: end + 1])


@torch.no_grad()
def _shrink(optimizer: torch.optim.Optimizer, *_: object) -> None:
    """Bring weights nearer to 0 by lr * l1: w = sign(w) max(|w| - lr l1, 0), the proximal step of l1 |w| (Parikh and
    Boyd 2014, Proximal algorithms, section 6.5.2). As AdamW's weight decay, it leaves the gradient alone."""
    for group in optimizer.param_groups:
        if amount := group["lr"] * group["l1"]:
            for parameter in group["params"]:
                if parameter.grad is not None:  # frozen ones stay
                    parameter.copy_(parameter.sign() * (parameter.abs() - amount).clamp(min=0))
