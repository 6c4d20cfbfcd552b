"""What networks of two resolutions are made of: blocks, pyramids of means, heads (He et al. 2016; Hong et al. 2021)."""

from typing import NamedTuple

import torch
from torch import nn

from segkit.models.resize import resize


class AuxiliaryOutputs(NamedTuple):
    """What a network with a second head gives in training mode: logits [B, C, h, w], and those of that head."""

    logits: torch.Tensor
    second: torch.Tensor


class Basic(nn.Module):
    """Two 3x3 convolutions and a shortcut (He et al. 2016); `relu` at the end or left to what follows."""

    expansion = 1

    def __init__(self, in_channels: int, channels: int, *, stride: int = 1, relu: bool = True) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv(in_channels, channels, 3, stride), nn.BatchNorm2d(channels)
        self.conv2, self.bn2 = conv(channels, channels, 3), nn.BatchNorm2d(channels)
        self.downsample = shortcut(in_channels, channels, stride)
        self.ends_with_relu = relu

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu())) + (self.downsample(x) if self.downsample else x)
        return y.relu() if self.ends_with_relu else y


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions and a shortcut, to twice the channels."""

    expansion = 2

    def __init__(self, in_channels: int, channels: int, *, stride: int = 1, relu: bool = True) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv(in_channels, channels, 1), nn.BatchNorm2d(channels)
        self.conv2, self.bn2 = conv(channels, channels, 3, stride), nn.BatchNorm2d(channels)
        self.conv3, self.bn3 = conv(channels, 2 * channels, 1), nn.BatchNorm2d(2 * channels)
        self.downsample = shortcut(in_channels, 2 * channels, stride)
        self.ends_with_relu = relu

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu())).relu()
        y = self.bn3(self.conv3(y)) + (self.downsample(x) if self.downsample else x)
        return y.relu() if self.ends_with_relu else y


class Pyramid(nn.Module):
    """Means over ever larger surroundings, beside the features themselves; what is made of them is a subclass's."""

    def __init__(self, in_channels: int, inner: int, out_channels: int) -> None:
        super().__init__()
        pools = (nn.AvgPool2d(5, 2, 2), nn.AvgPool2d(9, 4, 4), nn.AvgPool2d(17, 8, 8), nn.AdaptiveAvgPool2d(1))
        self.scale0 = activated(in_channels, inner)
        for k, pool in enumerate(pools, start=1):
            self.add_module(f"scale{k}", nn.Sequential(pool, *activated(in_channels, inner)))
        self.compression = activated(5 * inner, out_channels)
        self.shortcut = activated(in_channels, out_channels)

    def means(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Return the four means, at the size of the features."""
        return [resize(self.get_submodule(f"scale{k}")(x), x.shape[-2:]) for k in range(1, 5)]


class SerialPyramid(Pyramid):
    """DAPPM (Hong et al. 2021): each mean is convolved with what the smaller one has become."""

    def __init__(self, in_channels: int, inner: int, out_channels: int) -> None:
        super().__init__(in_channels, inner, out_channels)
        for k in range(1, 5):
            self.add_module(f"process{k}", activated(inner, inner, kernel=3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        levels = [self.scale0(x)]
        for k, mean in enumerate(self.means(x), start=1):
            levels.append(self.get_submodule(f"process{k}")(mean + levels[-1]))
        found: torch.Tensor = self.compression(torch.cat(levels, dim=1)) + self.shortcut(x)
        return found


class Head(nn.Module):
    """BatchNorm, 3x3 convolution, BatchNorm, 1x1 convolution to scores."""

    def __init__(self, in_channels: int, inner: int, out_channels: int) -> None:
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(in_channels), conv(in_channels, inner, 3)
        self.bn2, self.conv2 = nn.BatchNorm2d(inner), nn.Conv2d(inner, out_channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.conv2(self.bn2(self.conv1(self.bn1(x).relu())).relu())
        return scores


def build_head(in_channels: int, inner: int, out_channels: int) -> Head:
    """Return a head with He's initial weights."""
    built = Head(in_channels, inner, out_channels)
    for convolution in (built.conv1, built.conv2):
        nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    return built


def conv(in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    """A convolution that keeps the size, but for its stride, without a bias."""
    return nn.Conv2d(in_channels, out_channels, kernel, stride=stride, padding=kernel // 2, bias=False)


def activated(in_channels: int, out_channels: int, *, kernel: int = 1, groups: int = 1) -> nn.Sequential:
    """BatchNorm, ReLU, convolution."""
    convolution = nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2, groups=groups, bias=False)
    return nn.Sequential(nn.BatchNorm2d(in_channels), nn.ReLU(), convolution)


def normalised(in_channels: int, out_channels: int, *, kernel: int = 1) -> nn.Sequential:
    """Convolution, BatchNorm."""
    return nn.Sequential(conv(in_channels, out_channels, kernel), nn.BatchNorm2d(out_channels))


def shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Sequential | None:
    """What takes a block's input to the shape of its output; None where that is its own."""
    if stride == 1 and in_channels == out_channels:
        return None
    return nn.Sequential(conv(in_channels, out_channels, 1, stride), nn.BatchNorm2d(out_channels))


def stage(
    kind: type[Basic] | type[Bottleneck], in_channels: int, channels: int, blocks: int, *, stride: int = 1
) -> nn.Sequential:
    """Blocks in a row; the last of several, and a first bottleneck, leave their ReLU to what follows."""
    first = kind(in_channels, channels, stride=stride, relu=kind is Basic)
    width = channels * kind.expansion
    rest = [kind(width, channels, relu=k < blocks - 1) for k in range(1, blocks)]
    return nn.Sequential(first, *rest)
