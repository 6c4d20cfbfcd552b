"""PeleeNet as an encoder (Wang, Li and Ling 2018, Pelee: A Real-Time Object Detection System on Mobile Devices).

A DenseNet of plain convolutions for small machines: a stem that keeps both a pooled and a convolved path, dense layers
of two branches, and transitions that don't shrink the number of channels. Importing this file makes it known to
segmentation-models-pytorch by the name `peleenet`. Tensors bear the names of github.com/Robert-JunWang/PeleeNet.
"""

from collections.abc import Sequence
from typing import Any

import segmentation_models_pytorch as smp
import torch
from segmentation_models_pytorch.encoders._base import EncoderMixin
from torch import nn

_LAYERS = (3, 4, 8, 6)  # per stage
_BOTTLENECKS = (1, 2, 4, 4)  # width of a branch's 1x1 convolution, in growth rates per branch
_GROWTH = 32  # channels that a dense layer adds, half of them by each branch
_STEM = 32


class PeleeNet(nn.Module, EncoderMixin):
    """2.1 M parameters; features at strides 1, 2, 4, 8, 16 and 32, the first being the image itself.

    At stride 2 it is the stem's first convolution, from 4 on each stage's transition, before its pooling.
    """

    def __init__(self, *, depth: int = 5, output_stride: int = 32, out_channels: Sequence[int]) -> None:
        super().__init__()
        if not 1 <= depth <= 5:
            raise ValueError(f"found encoder_depth {depth}, expected 1 to 5")
        self._depth, self._in_channels, self._output_stride = depth, 3, output_stride
        self._out_channels = list(out_channels)
        self.features = nn.Sequential()
        self.features.add_module("stemblock", Stem())
        channels = _STEM
        for stage, (layers, bottleneck) in enumerate(zip(_LAYERS, _BOTTLENECKS, strict=True), start=1):
            block = nn.Sequential()
            for layer in range(1, layers + 1):
                block.add_module(f"denselayer{layer}", DenseLayer(channels, bottleneck))
                channels += _GROWTH
            self.features.add_module(f"denseblock{stage}", block)
            self.features.add_module(f"transition{stage}", Convolution(channels, channels, 1))
        self.pool = nn.AvgPool2d(2)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Return depth + 1 feature maps for images float [B, 3, H, W], sides multiples of 32."""
        stem: Any = self.features.get_submodule("stemblock")
        found = [x, stem.stem1(x)]
        y = stem.finish(found[1])
        for stage in range(1, self._depth):
            y = self.features.get_submodule(f"denseblock{stage}")(y if stage == 1 else self.pool(y))
            y = self.features.get_submodule(f"transition{stage}")(y)
            found.append(y)
        return found[: self._depth + 1]

    def make_dilated(self, output_stride: int) -> None:
        """Raises ValueError: strides come from pooling, which can't be dilated."""
        raise ValueError(f"peleenet has stride 32 alone, found {output_stride}")


class Stem(nn.Module):
    """Two strided convolutions, the second beside a max-pool, for little more than one."""

    def __init__(self) -> None:
        super().__init__()
        self.stem1 = Convolution(3, _STEM, 3, stride=2)
        self.stem2a = Convolution(_STEM, _STEM // 2, 1)
        self.stem2b = Convolution(_STEM // 2, _STEM, 3, stride=2)
        self.stem3 = Convolution(2 * _STEM, _STEM, 1)
        self.pool = nn.MaxPool2d(2)

    def finish(self, x: torch.Tensor) -> torch.Tensor:
        """[B, 32, H/2, W/2], what `stem1` gives -> [B, 32, H/4, W/4]."""
        merged: torch.Tensor = self.stem3(torch.cat([self.pool(x), self.stem2b(self.stem2a(x))], dim=1))
        return merged


class DenseLayer(nn.Module):
    """Two branches, which see 3x3 and 5x5 pixels of their input, beside the input itself."""

    def __init__(self, in_channels: int, bottleneck: int) -> None:
        super().__init__()
        grown = _GROWTH // 2
        width = grown * bottleneck
        if width > in_channels / 2:  # no wider than half the input, or the bottleneck would be none
            width = in_channels // 8 * 4
        self.branch1a = Convolution(in_channels, width, 1)
        self.branch1b = Convolution(width, grown, 3)
        self.branch2a = Convolution(in_channels, width, 1)
        self.branch2b = Convolution(width, grown, 3)
        self.branch2c = Convolution(grown, grown, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, c, h, w] -> [B, c + 32, h, w]."""
        return torch.cat([x, self.branch1b(self.branch1a(x)), self.branch2c(self.branch2b(self.branch2a(x)))], dim=1)


class Convolution(nn.Module):
    """A convolution without bias, BatchNorm, ReLU, in this order, so that they can be merged."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, *, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride=stride, padding=kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)
        self.activation = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, in_channels, h, w] -> [B, out_channels, h / stride, w / stride]."""
        y: torch.Tensor = self.activation(self.norm(self.conv(x)))
        return y


smp.encoders.encoders["peleenet"] = {
    "encoder": PeleeNet,
    "params": {"out_channels": (3, 32, 128, 256, 512, 704)},
    "pretrained_settings": {},
}
