"""DDRNet: two resolutions that exchange what they see, for real time.

Hong et al. 2021, "Deep Dual-resolution Networks for Real-time and Accurate Semantic Segmentation of Road Scenes".
Tensors of the encoder bear the names of the authors' files, which load as pretrained weights. Its loss: main logits and
those of the fine branch (auxiliary_loss.py).
"""

from typing import Any, NamedTuple

import torch
from torch import nn

from segkit.models.resize import resize
from segkit.models.two_resolutions import (
    AuxiliaryOutputs,
    Basic,
    Bottleneck,
    SerialPyramid,
    build_head,
    conv,
    normalised,
    stage,
)


class Size(NamedTuple):
    """Channels of the stem, the pyramid and the heads."""

    width: int
    pyramid: int
    head: int


SIZES = {"ddrnet_23_slim": Size(32, 128, 64), "ddrnet_23": Size(64, 128, 128)}


class DdrNet(nn.Module):
    """DDRNet-23-slim or -23, by the name of its encoder; the head of the fine branch is used in training alone."""

    def __init__(self, encoder_name: str, encoder_weights: Any, in_channels: int, classes: int) -> None:
        super().__init__()
        size = SIZES[encoder_name]
        self.encoder = DdrEncoder(size, in_channels)
        self.seghead_extra = build_head(2 * size.width, size.head, classes)
        self.final_layer = build_head(4 * size.width, size.head, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor | AuxiliaryOutputs:
        """Return logits [B, C, H/8, W/8] for normalised images [B, 3, H, W]; in training mode those of both heads."""
        fused, fine = self.encoder(x)
        logits: torch.Tensor = self.final_layer(fused)
        return AuxiliaryOutputs(logits, self.seghead_extra(fine)) if self.training else logits


class DdrEncoder(nn.Module):
    """The coarse branch to stride 64, the fine one at stride 8, and their sum."""

    output_stride = 64

    def __init__(self, size: Size, in_channels: int) -> None:
        super().__init__()
        w = size.width
        self.conv1 = nn.Sequential(
            nn.Conv2d(in_channels, w, 3, stride=2, padding=1), nn.BatchNorm2d(w), nn.ReLU(),
            nn.Conv2d(w, w, 3, stride=2, padding=1), nn.BatchNorm2d(w), nn.ReLU(),
        )  # fmt: skip
        self.layer1 = stage(Basic, w, w, 2)
        self.layer2 = stage(Basic, w, 2 * w, 2, stride=2)
        self.layer3 = stage(Basic, 2 * w, 4 * w, 2, stride=2)
        self.layer4 = stage(Basic, 4 * w, 8 * w, 2, stride=2)
        self.layer5 = stage(Bottleneck, 8 * w, 8 * w, 1, stride=2)
        self.layer3_, self.layer4_ = stage(Basic, 2 * w, 2 * w, 2), stage(Basic, 2 * w, 2 * w, 2)
        self.layer5_ = stage(Bottleneck, 2 * w, 2 * w, 1)
        self.compression3, self.compression4 = normalised(4 * w, 2 * w), normalised(8 * w, 2 * w)
        self.down3 = nn.Sequential(conv(2 * w, 4 * w, 3, 2), nn.BatchNorm2d(4 * w))
        self.down4 = nn.Sequential(
            conv(2 * w, 4 * w, 3, 2), nn.BatchNorm2d(4 * w), nn.ReLU(), conv(4 * w, 8 * w, 3, 2), nn.BatchNorm2d(8 * w)
        )
        self.spp = SerialPyramid(16 * w, size.pyramid, 4 * w)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the fused features [B, 4 w, h, w] and the supervised ones of the fine branch, both at stride 8."""
        x = self.layer2(self.layer1(self.conv1(x)).relu())  # stride 8
        size = x.shape[-2:]
        coarse, fine = self.layer3(x.relu()), self.layer3_(x.relu())
        coarse, fine = (
            coarse + self.down3(fine.relu()),
            fine + resize(self.compression3(coarse.relu()), size),
        )
        supervised = fine
        coarse, fine = self.layer4(coarse.relu()), self.layer4_(fine.relu())
        coarse, fine = (
            coarse + self.down4(fine.relu()),
            fine + resize(self.compression4(coarse.relu()), size),
        )
        coarse = resize(self.spp(self.layer5(coarse.relu())), size)
        return coarse + self.layer5_(fine.relu()), supervised
