"""GroupNorm in place of BatchNorm: for batches of a few images per process, whose statistics are too rough.

Wu and He 2018, Group normalization. Each image is normalised by its own statistics, so nothing depends on how a batch
is split, and training and evaluation compute the same.
"""

import torch
from torch import nn

MOST_GROUPS, FEWEST_CHANNELS = 32, 4  # the paper's groups; a group of one channel would be InstanceNorm


class GroupNormAct(nn.GroupNorm):
    """GroupNorm with what timm's BatchNorm layers carry behind them: dropout and an activation."""

    def __init__(self, num_groups: int, num_channels: int, *, eps: float, drop: nn.Module, act: nn.Module) -> None:
        super().__init__(num_groups, num_channels, eps=eps)
        self.drop, self.act = drop, act

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, C, h, w] -> [B, C, h, w]."""
        y: torch.Tensor = self.act(self.drop(super().forward(x)))
        return y


def use_group_norm(module: nn.Module) -> int:
    """Replace every BatchNorm2d inside a module by GroupNorm with its weight and bias; return how many there were.

    Running statistics are dropped. Names of parameters stay, so that patterns fit as before.
    """
    count = 0
    for name, child in list(module.named_children()):
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, _group_norm(child))
            count += 1
        else:
            count += use_group_norm(child)
    return count


def num_groups(channels: int) -> int:
    """Return the most groups, up to 32, that divide the channels into equal parts of at least 4; else 1."""
    most = min(MOST_GROUPS, channels // FEWEST_CHANNELS)
    return next((groups for groups in range(most, 1, -1) if channels % groups == 0), 1)


def _group_norm(batch_norm: nn.BatchNorm2d) -> nn.GroupNorm:
    channels = batch_norm.num_features
    drop, act = (getattr(batch_norm, name, None) for name in ("drop", "act"))  # of timm's BatchNormAct2d
    norm = (
        GroupNormAct(
            num_groups(channels), channels, eps=batch_norm.eps, drop=drop or nn.Identity(), act=act or nn.Identity()
        )
        if drop is not None or act is not None
        else nn.GroupNorm(num_groups(channels), channels, eps=batch_norm.eps)
    )
    if batch_norm.affine:
        norm.load_state_dict({"weight": batch_norm.weight.data, "bias": batch_norm.bias.data})
    return norm
