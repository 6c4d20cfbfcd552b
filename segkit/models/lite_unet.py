"""lite_unet: a UNet for CPUs and other small machines, with a decoder that costs a fraction of its encoder.

The decoder climbs from stride 32 to stride 2, since thin things (poles, signs) are lost above that. It begins with
pyramid pooling (Zhao et al. 2017, PSPNet) for context, and its convolutions are depthwise-separable (Howard et al.
2017, MobileNets). Logits come out at half the input's size; the Segmenter aligns them.
"""

from collections.abc import Sequence
from typing import Any

import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from torch import nn

from segkit.models.resize import resize


class LiteUnet(nn.Module):
    """Any encoder of segmentation-models-pytorch with features at strides 2, 4, 8, 16 and 32, and a light decoder.

    `decoder_channels` are those at strides 32, 16, 8, 4 and 2.
    """

    def __init__(
        self,
        encoder_name: str,
        encoder_weights: Any,
        in_channels: int,
        classes: int,
        *,
        decoder_channels: Sequence[int] = (128, 96, 64, 48, 32),
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        if len(decoder_channels) != 5:
            raise ValueError(f"decoder_channels holds {len(decoder_channels)} numbers, expected 5")
        self.encoder = smp.encoders.get_encoder(encoder_name, in_channels=in_channels, weights=encoder_weights)
        of_encoder = list(self.encoder.out_channels)  # input, then strides 2, 4, 8, 16, 32
        self.context = PyramidPooling(of_encoder[5], decoder_channels[0])
        self.blocks = nn.ModuleList(
            _separable(below + skip, channels)
            for below, skip, channels in zip(
                decoder_channels[:-1], of_encoder[4:0:-1], decoder_channels[1:], strict=True
            )
        )
        self.dropout = nn.Dropout2d(dropout)
        self.head = nn.Conv2d(decoder_channels[-1], classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits [B, C, H/2, W/2] for normalised images [B, 3, H, W], sides multiples of 32."""
        features = self.encoder(x)  # strides 1, 2, 4, 8, 16, 32
        y = self.context(features[5])
        for block, skip in zip(self.blocks, features[4:0:-1], strict=True):
            y = block(torch.cat([resize(y, skip.shape[-2:]), skip], dim=1))
        logits: torch.Tensor = self.head(self.dropout(y))
        return logits


class PyramidPooling(nn.Module):
    """Means over the whole image, and over grids of 2x2 and 4x4, beside the features themselves."""

    def __init__(
        self, in_channels: int, out_channels: int, *, grids: Sequence[int] = (1, 2, 4), width: int = 64
    ) -> None:
        super().__init__()
        self.grids = grids
        # no BatchNorm here: one value per image is too few to normalise by
        self.branches = nn.ModuleList(
            nn.Sequential(nn.Conv2d(in_channels, width, 1), nn.ReLU(inplace=True)) for _ in grids
        )
        self.merge = _convolution(in_channels + width * len(grids), out_channels, kernel=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, in_channels, h, w] -> [B, out_channels, h, w]."""
        pooled = [
            resize(branch(F.adaptive_avg_pool2d(x, grid)), x.shape[-2:])
            for grid, branch in zip(self.grids, self.branches, strict=True)
        ]
        merged: torch.Tensor = self.merge(torch.cat([x, *pooled], dim=1))
        return merged


def _convolution(in_channels: int, out_channels: int, *, kernel: int, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


def _separable(in_channels: int, out_channels: int) -> nn.Sequential:
    """A 3x3 depthwise convolution, then a 1x1 convolution across channels."""
    return nn.Sequential(
        _convolution(in_channels, in_channels, kernel=3, groups=in_channels),
        _convolution(in_channels, out_channels, kernel=1),
    )
