"""Depthwise convolutions whose backward pass is fast on CPUs.

oneDNN (in torch 2.15) computes two gradients of depthwise convolutions on slow reference paths, 20 to 70 times the cost
of the forward pass: that of the weights for kernels other than 3x3, and that of the input at stride 2. The same
gradients are composed here of convolutions it is fast at. Training EfficientNet-Lite and its kin gains about 2x.
Without gradients the original forward runs, so evaluation is untouched to the last bit.
"""

from typing import Any, cast

import torch
import torch.nn.functional as F
from timm.layers import Conv2dSame
from torch import nn


def speed_up_depthwise(model: nn.Module) -> int:
    """Give every depthwise convolution of `model` that can have it the fast backward; return their number.

    Those are 3x3 and 5x5, of stride 1 or 2, without bias or dilation. Weights, names and results stay the same.
    """
    count = 0
    for layer in model.modules():
        if type(layer) not in _FAST or not isinstance(layer, nn.Conv2d):
            continue
        depthwise = layer.groups == layer.in_channels == layer.out_channels > 1
        plain = layer.bias is None and layer.dilation == (1, 1) and layer.padding_mode == "zeros"
        size = layer.kernel_size in ((3, 3), (5, 5)) and layer.stride in ((1, 1), (2, 2))
        if depthwise and plain and size and not isinstance(layer.padding, str):
            layer.__class__ = _FAST[type(layer)]
            count += 1
    return count


class _FastDepthwise(nn.Conv2d):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.bias is not None or not torch.is_grad_enabled() or x.device.type != "cpu":
            return super().forward(x)
        weight = self.weight
        if torch.is_autocast_enabled("cpu"):
            dtype = torch.get_autocast_dtype("cpu")
            x, weight = x.to(dtype), weight.to(dtype)
        result: torch.Tensor = _Depthwise.apply(F.pad(x, self._padding(x)), weight, self.stride[0])
        return result

    def _padding(self, x: torch.Tensor) -> list[int]:
        """Return what F.pad adds: left, right, top, bottom."""
        rows, columns = cast(tuple[int, int], self.padding)  # speed_up_depthwise ruled out a str
        return [columns, columns, rows, rows]


class _FastDepthwiseSame(_FastDepthwise, Conv2dSame):
    def _padding(self, x: torch.Tensor) -> list[int]:
        """TensorFlow's SAME: what the output of ceil(size / stride) needs, the odd pixel at the end."""
        height, width = (
            max((-(-size // step) - 1) * step + kernel - size, 0)
            for size, step, kernel in zip(x.shape[-2:], self.stride, self.kernel_size, strict=True)
        )
        return [width // 2, width - width // 2, height // 2, height - height // 2]


_FAST: dict[type[nn.Module], type[nn.Conv2d]] = {nn.Conv2d: _FastDepthwise, Conv2dSame: _FastDepthwiseSame}


class _Depthwise(torch.autograd.Function):
    """y = depthwise convolution of a padded x [B, C, H, W] with w [C, 1, k, k], k in (3, 5), stride in (1, 2)."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, w: torch.Tensor, stride: int) -> torch.Tensor:
        ctx.save_for_backward(x, w)
        ctx.stride = stride
        return F.conv2d(x, w, None, stride, 0, 1, len(w))

    @staticmethod
    def backward(ctx: Any, *grad_outputs: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None, None]:
        x, w = ctx.saved_tensors
        grad = grad_outputs[0].contiguous(memory_format=torch.channels_last)
        grad_x = _input_gradient(grad, x, w, ctx.stride) if ctx.needs_input_grad[0] else None
        grad_w = _weight_gradient(grad, x, w, ctx.stride) if ctx.needs_input_grad[1] else None
        return grad_x, grad_w, None


def _input_gradient(grad: torch.Tensor, x: torch.Tensor, w: torch.Tensor, stride: int) -> torch.Tensor:
    """Convolve the output's gradient with the flipped kernel; at stride 2, pixels of x of each parity by themselves.

    Rows (columns) of x with parity a meet only the kernel's rows (columns) a, a + 2, ... Their 1 to 3 taps are filled
    up with zeros to a 3x3 kernel, the size with a fast path.
    """
    channels, kernel = len(w), w.shape[-1]
    if stride == 1:
        return F.conv2d(grad, w.flip(2, 3), None, 1, kernel - 1, 1, channels)
    grad_x = torch.zeros_like(x)
    for a, b in ((0, 0), (0, 1), (1, 0), (1, 1)):
        taps = w[:, :, a::2, b::2].flip(2, 3)
        rows, columns = taps.shape[-2:]
        taps = F.pad(taps, (0, 3 - columns, 0, 3 - rows))
        full = F.conv2d(F.pad(grad, (columns - 1, 2, rows - 1, 2)), taps, None, 1, 0, 1, channels)
        part = grad_x[:, :, a::2, b::2]
        height, width = min(full.shape[-2], part.shape[-2]), min(full.shape[-1], part.shape[-1])
        part[:, :, :height, :width] = full[:, :, :height, :width]
    return grad_x


def _weight_gradient(grad: torch.Tensor, x: torch.Tensor, w: torch.Tensor, stride: int) -> torch.Tensor:
    """Return d/dw; of a 5x5 kernel as the gradients of its four overlapping 3x3 corners, the size with a fast path."""
    if w.shape[-1] == 3:
        return _gradient_3x3(grad, x, w, stride)
    grad_w = torch.empty_like(w)
    height, width = ((size - 1) * stride + 3 for size in grad.shape[-2:])
    for i, j in ((0, 0), (0, 2), (2, 0), (2, 2)):
        part = x[:, :, i : i + height, j : j + width].contiguous(memory_format=torch.channels_last)
        grad_w[:, :, i : i + 3, j : j + 3] = _gradient_3x3(grad, part, w[:, :, :3, :3].contiguous(), stride)
    return grad_w


def _gradient_3x3(grad: torch.Tensor, x: torch.Tensor, w: torch.Tensor, stride: int) -> torch.Tensor:
    gradients = torch.ops.aten.convolution_backward(
        grad, x, w, None, [stride, stride], [0, 0], [1, 1], False, [0, 0], len(w), [False, True, False]
    )
    result: torch.Tensor = gradients[1]
    return result
