"""The classic UNet with VGG16 or ResNet50: the network of github.com/bubbliiiing/unet-pytorch, whose files it loads.

UNet (Ronneberger et al. 2015) with a pretrained encoder, bilinear upsampling (corners aligned) and two 3x3 convolutions
with ReLU per level, without BatchNorm. Its tensors bear the names of that repository's .pth files, which expect RGB in
0..1 without mean and std.
"""

from collections.abc import Collection
from typing import Any

import segmentation_models_pytorch as smp
import torch
from torch import nn

# encoder -> (the name of its tensors, channels that go into the decoder's levels 1..4: skip and what comes from below)
ENCODERS = {"vgg16": ("vgg", (192, 384, 768, 1024)), "resnet50": ("resnet", (192, 512, 1024, 3072))}
_WIDTHS = (64, 128, 256, 512)  # of the decoder's levels 1..4


class ClassicUnet(nn.Module):
    """24.9 M parameters with VGG16 and 43.9 M with ResNet50, at 21 classes.

    VGG16 gives features at strides 1 to 16, ResNet50 at 2 to 32; above the latter, `up_conv` returns to full size.
    """

    def __init__(self, encoder_name: str, encoder_weights: Any, in_channels: int, classes: int) -> None:
        super().__init__()
        if encoder_name not in ENCODERS:
            raise ValueError(f"found encoder {encoder_name}, expected {' or '.join(ENCODERS)}")
        self._encoder_name, into = ENCODERS[encoder_name]
        is_vgg = encoder_name == "vgg16"
        encoder = smp.encoders.get_encoder(
            encoder_name, in_channels=in_channels, depth=4 if is_vgg else 5, weights=encoder_weights
        )
        if not is_vgg:
            # As in that repository, not as in torchvision: with it shifted by a pixel its files would be as well.
            encoder.maxpool = nn.MaxPool2d(3, stride=2, padding=0, ceil_mode=True)
        self.add_module(self._encoder_name, encoder)
        for level in (4, 3, 2, 1):
            self.add_module(f"up_concat{level}", Up(into[level - 1], _WIDTHS[level - 1]))
        self.up_conv = (
            nn.Identity()
            if is_vgg
            else nn.Sequential(
                nn.UpsamplingBilinear2d(scale_factor=2),
                nn.Conv2d(_WIDTHS[0], _WIDTHS[0], 3, padding=1),
                nn.ReLU(inplace=True),
                nn.Conv2d(_WIDTHS[0], _WIDTHS[0], 3, padding=1),
                nn.ReLU(inplace=True),
            )
        )
        self.final = nn.Conv2d(_WIDTHS[0], classes, 1)

    @property
    def encoder(self) -> nn.Module:
        """VGG16 or ResNet50, under the name that files give it."""
        return self.get_submodule(self._encoder_name)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits [B, C, H, W] for normalised images [B, 3, H, W], sides multiples of 32."""
        skips = self.encoder(x)[-5:]  # VGG16: strides 1, 2, 4, 8, 16; ResNet50: 2, 4, 8, 16, 32
        y = skips[4]
        for level in (4, 3, 2, 1):
            y = self.get_submodule(f"up_concat{level}")(skips[level - 1], y)
        logits: torch.Tensor = self.final(self.up_conv(y))
        return logits


class Up(nn.Module):
    """One level of the decoder: enlarge, concatenate the skip, convolve twice."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.up = nn.UpsamplingBilinear2d(scale_factor=2)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, skip: torch.Tensor, below: torch.Tensor) -> torch.Tensor:
        """[B, c, h, w] and [B, d, h / 2, w / 2] -> [B, out_channels, h, w]."""
        y = self.relu(self.conv1(torch.cat([skip, self.up(below)], dim=1)))
        y = self.relu(self.conv2(y))
        return y


def is_classic_file(names: Collection[str]) -> bool:
    """True for the tensor names of that repository's files: a whole network's, without segkit's mean and std."""
    encoders = ("vgg.features.0.weight", "resnet.conv1.weight")
    return "up_concat1.conv1.weight" in names and any(name in names for name in encoders) and "mean" not in names
