"""PIDNet: three branches for detail (P), context (I) and edges (D), for real time.

Xu et al. 2023, "PIDNet: A Real-time Semantic Segmentation Network Inspired by PID Controllers", CVPR. Tensors of the
encoder bear the names of the authors' files, which load as pretrained weights. Its loss: pidnet_loss.py.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import nn

from segkit.models.resize import resize
from segkit.models.two_resolutions import (
    Basic,
    Bottleneck,
    Pyramid,
    SerialPyramid,
    activated,
    build_head,
    normalised,
    stage,
)

STRIDE = 64  # of the deepest features


@dataclass(frozen=True)
class Size:
    """Widths and depths: blocks of the early and of the late stages, channels of stem, pyramid and head."""

    early: int
    late: int
    width: int
    pyramid: int
    head: int

    @property
    def is_large(self) -> bool:
        """True for L, whose edge branch, pyramid and fusion are heavier."""
        return self.early > 2


SIZES = {"pidnet_s": Size(2, 3, 32, 96, 128), "pidnet_m": Size(2, 3, 64, 96, 128), "pidnet_l": Size(3, 4, 64, 112, 256)}


class PidOutputs(NamedTuple):
    """What PIDNet gives in training mode, at stride 8: logits [B, C, h, w], those of the P branch alone, and the
    logits of an edge [B, 1, h, w].
    """

    logits: torch.Tensor
    detail: torch.Tensor
    edges: torch.Tensor


class PidNet(nn.Module):
    """PIDNet-S, -M or -L, by the name of its encoder; the heads of the P and D branches are used in training alone."""

    def __init__(self, encoder_name: str, encoder_weights: Any, in_channels: int, classes: int) -> None:
        super().__init__()
        size = SIZES[encoder_name]
        self.encoder = PidEncoder(size, in_channels)
        self.seghead_p = build_head(2 * size.width, size.head, classes)
        self.seghead_d = build_head(2 * size.width, size.width, 1)
        self.final_layer = build_head(4 * size.width, size.head, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor | PidOutputs:
        """Return logits [B, C, H/8, W/8] for normalised images [B, 3, H, W]; in training mode all three heads."""
        fused, detail, edges = self.encoder(x)
        logits: torch.Tensor = self.final_layer(fused)
        return PidOutputs(logits, self.seghead_p(detail), self.seghead_d(edges)) if self.training else logits


class PidEncoder(nn.Module):
    """The three branches and their fusion."""

    output_stride = STRIDE

    def __init__(self, size: Size, in_channels: int) -> None:
        super().__init__()
        w, large = size.width, size.is_large
        self.conv1 = nn.Sequential(
            nn.Conv2d(in_channels, w, 3, stride=2, padding=1), nn.BatchNorm2d(w), nn.ReLU(),
            nn.Conv2d(w, w, 3, stride=2, padding=1), nn.BatchNorm2d(w), nn.ReLU(),
        )  # fmt: skip
        self.layer1 = stage(Basic, w, w, size.early)
        self.layer2 = stage(Basic, w, 2 * w, size.early, stride=2)
        self.layer3 = stage(Basic, 2 * w, 4 * w, size.late, stride=2)
        self.layer4 = stage(Basic, 4 * w, 8 * w, size.late, stride=2)
        self.layer5 = stage(Bottleneck, 8 * w, 8 * w, 2, stride=2)

        self.compression3, self.compression4 = normalised(4 * w, 2 * w), normalised(8 * w, 2 * w)
        self.pag3, self.pag4 = AttentionGuided(2 * w, w), AttentionGuided(2 * w, w)
        self.layer3_ = stage(Basic, 2 * w, 2 * w, size.early)
        self.layer4_ = stage(Basic, 2 * w, 2 * w, size.early)
        self.layer5_ = stage(Bottleneck, 2 * w, 2 * w, 1)

        edge = 2 * w if large else w
        self.layer3_d = Basic(2 * w, edge, relu=False)
        self.layer4_d = Basic(edge, 2 * w, relu=False) if large else stage(Bottleneck, w, w, 1)
        self.layer5_d = stage(Bottleneck, 2 * w, 2 * w, 1)
        self.diff3, self.diff4 = normalised(4 * w, edge, kernel=3), normalised(8 * w, 2 * w, kernel=3)

        self.spp = SerialPyramid(16 * w, size.pyramid, 4 * w) if large else ParallelPyramid(16 * w, size.pyramid, 4 * w)
        self.dfm = EdgeGuided(4 * w) if large else LightEdgeGuided(4 * w)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the fused features [B, 4 w, h, w], and those of P and D that are supervised, all at stride 8."""
        i = self.layer2(self.layer1(self.conv1(x)).relu()).relu()  # stride 8
        p, d = self.layer3_(i), self.layer3_d(i)
        size = d.shape[-2:]
        i = self.layer3(i).relu()  # 16
        p = self.pag3(p, self.compression3(i))
        d = d + resize(self.diff3(i), size)
        detail = p
        i = self.layer4(i).relu()  # 32
        p, d = self.layer4_(p.relu()), self.layer4_d(d.relu())
        p = self.pag4(p, self.compression4(i))
        d = d + resize(self.diff4(i), size)
        edges = d
        p, d = self.layer5_(p.relu()), self.layer5_d(d.relu())
        i = resize(self.spp(self.layer5(i)), size)  # 64
        return self.dfm(p, i, d), detail, edges


class AttentionGuided(nn.Module):
    """Pag: context is let into the detail where the two agree (section 4.1, equation 2)."""

    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.f_x, self.f_y = normalised(channels, inner), normalised(channels, inner)

    def forward(self, detail: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        size = detail.shape[-2:]
        agreement = (self.f_x(detail) * resize(self.f_y(context), size)).sum(dim=1, keepdim=True).sigmoid()
        return (1 - agreement) * detail + agreement * resize(context, size)


class LightEdgeGuided(nn.Module):
    """Light-Bag: edges take the detail, the rest the context (section 4.3)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv_p, self.conv_i = normalised(channels, channels), normalised(channels, channels)

    def forward(self, p: torch.Tensor, i: torch.Tensor, d: torch.Tensor) -> torch.Tensor:
        edge = d.sigmoid()
        fused: torch.Tensor = self.conv_p((1 - edge) * i + p) + self.conv_i(i + edge * p)
        return fused


class EdgeGuided(nn.Module):
    """Bag: the same, by a 3x3 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = activated(channels, channels, kernel=3)

    def forward(self, p: torch.Tensor, i: torch.Tensor, d: torch.Tensor) -> torch.Tensor:
        edge = d.sigmoid()
        fused: torch.Tensor = self.conv(edge * p + (1 - edge) * i)
        return fused


class ParallelPyramid(Pyramid):
    """PAPPM (section 4.2): each mean is added to the features and convolved in a group of its own."""

    def __init__(self, in_channels: int, inner: int, out_channels: int) -> None:
        super().__init__(in_channels, inner, out_channels)
        self.scale_process = activated(4 * inner, 4 * inner, kernel=3, groups=4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        own = self.scale0(x)
        processed = self.scale_process(torch.cat([mean + own for mean in self.means(x)], dim=1))
        found: torch.Tensor = self.compression(torch.cat([own, processed], dim=1)) + self.shortcut(x)
        return found
