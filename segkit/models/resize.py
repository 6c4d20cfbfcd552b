"""Bilinear resizing of feature maps that adds up in the same order every time, and is fast at it.

On GPUs the gradient of F.interpolate adds atomically, in another order each time; with deterministic algorithms on,
PyTorch composes it of index_put instead, which is many times slower. Two matrix products by small interpolation
matrices, one per axis, are deterministic in both directions and fast. CPUs keep F.interpolate, and so their bits; so
does everything without gradient. Compared on CPUs; unproven on GPUs, in speed as well.

Not here: functional F.interpolate calls inside segmentation-models-pytorch (FPN, PSPNet, PAN, UPerNet, SegFormer, DPT),
which could only be replaced by patching that package. They take PyTorch's path.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn


def resize(x: torch.Tensor, size_hw: Sequence[int], *, align_corners: bool = False) -> torch.Tensor:
    """Resize feature maps float [B, C, H, W] bilinearly to [B, C, h, w], as F.interpolate does."""
    exact = torch.is_grad_enabled() and torch.are_deterministic_algorithms_enabled()
    if x.device.type != "cpu" and exact:
        return resize_by_matrices(x, size_hw, align_corners=align_corners)
    return F.interpolate(x, size_hw, mode="bilinear", align_corners=align_corners)


def resize_by_matrices(x: torch.Tensor, size_hw: Sequence[int], *, align_corners: bool = False) -> torch.Tensor:
    """Return what `resize` does as rows @ x @ columns^T, in the dtype and memory order of x."""
    batch, channels, height, width = x.shape
    with torch.autocast(x.device.type, enabled=False):  # the dtype is that of x, as with F.interpolate
        rows, columns = (
            _interpolation_matrix(length, given, align_corners=align_corners, device=x.device).to(x.dtype)
            for length, given in zip(size_hw, (height, width), strict=True)
        )
        if x.stride(1) != 1 or channels == 1:
            return rows @ (x @ columns.T)
        by_pixel = x.permute(0, 2, 3, 1)  # channels_last: the axis of channels stays innermost
        tall = (rows @ by_pixel.reshape(batch, height, width * channels)).view(batch * size_hw[0], width, channels)
        return (columns @ tall).view(batch, *size_hw, channels).permute(0, 3, 1, 2)


def make_upsampling_deterministic(model: nn.Module) -> int:
    """Let every bilinear nn.Upsample of `model` go through `resize`; return their number. Nothing else changes.

    These are the heads of segmentation-models-pytorch, which enlarge logits to the input's size.
    """
    layers = [layer for layer in model.modules() if type(layer) in (nn.Upsample, nn.UpsamplingBilinear2d)]
    bilinear = [layer for layer in layers if isinstance(layer, nn.Upsample) and layer.mode == "bilinear"]
    for layer in bilinear:
        layer.__class__ = _Upsample
    return len(bilinear)


class _Upsample(nn.Upsample):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        factor = self.scale_factor
        if self.size is not None or not isinstance(factor, float) or not factor.is_integer():
            return super().forward(x)
        size_hw = (x.shape[2] * int(factor), x.shape[3] * int(factor))
        return resize(x, size_hw, align_corners=bool(self.align_corners))


def _interpolation_matrix(length: int, given: int, *, align_corners: bool, device: torch.device) -> torch.Tensor:
    """Return float32 [length, given]: row k holds the shares of the two given pixels that output pixel k lies between.

    The source coordinate is F.interpolate's, in float32; a share falls off linearly with the distance from it.
    """
    position = torch.arange(length, dtype=torch.float32, device=device)
    if align_corners:
        source = position * ((given - 1) / max(length - 1, 1))
    else:
        source = (position + 0.5) * (given / length) - 0.5
    source = source.clamp(0, given - 1)
    pixels = torch.arange(given, dtype=torch.float32, device=device)
    return (1 - (source[:, None] - pixels).abs()).clamp_min(0)
