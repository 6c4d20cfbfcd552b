"""Which parameters train at which step: train.freeze_epochs for the encoder, train.freeze for any others.

Not here: the rate after a thaw (segkit/training/schedule.py).
"""

from collections.abc import Collection

from torch import nn

from segkit.config.schema import TrainConfig
from segkit.errors import ConfigError
from segkit.models.segmenter import Segmenter
from segkit.training.optim import check_patterns, fits


def check_freeze(config: TrainConfig, segmenter: Segmenter) -> None:
    """Raises ConfigError if a pattern of train.freeze fits no parameter, or nothing would train at first."""
    names = [name for name, _ in segmenter.named_parameters()]
    check_patterns(config.freeze, names, key="train.freeze")
    if len(frozen_at(0, config, segmenter, steps_per_epoch=1)) == len(names):
        raise ConfigError(
            "train.freeze: found patterns that freeze every parameter at first, expected some to train; freeze fewer"
        )


def frozen_at(step: int, config: TrainConfig, segmenter: Segmenter, *, steps_per_epoch: int) -> set[str]:
    """Return the names of the parameters that don't train at a step (from 0)."""
    patterns = [
        pattern for pattern, epochs in config.freeze.items() if epochs == "always" or step < epochs * steps_per_epoch
    ]
    frozen = {name for name, _ in segmenter.named_parameters() if any(fits(name, pattern) for pattern in patterns)}
    if step < config.freeze_epochs * steps_per_epoch:
        in_encoder = {id(parameter) for parameter in segmenter.encoder.parameters()}
        frozen |= {name for name, parameter in segmenter.named_parameters() if id(parameter) in in_encoder}
    return frozen


def set_trained(segmenter: Segmenter, unused: Collection[str], *, frozen: Collection[str]) -> nn.Module:
    """Choose which parameters train, by name: those that no output depends on don't, nor do frozen ones.

    A module whose parameters are all frozen stays in eval mode, so that BatchNorm's statistics are frozen too, and
    nothing is dropped out before it.
    """
    segmenter.train()
    still = set()
    for name, parameter in segmenter.named_parameters():
        parameter.requires_grad_(name not in unused and name not in frozen)
        if name in frozen:
            still.add(id(parameter))
    for module in segmenter.modules():
        parameters = {id(parameter) for parameter in module.parameters()}
        if parameters and parameters <= still:
            module.eval()
    return segmenter
