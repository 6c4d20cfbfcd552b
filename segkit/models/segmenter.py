"""The wrapper around every network: normalise, pad to the stride, run, align, crop.

Not here: the letterbox and the way back to the original size (segkit/imaging/letterbox.py), and precision
(segkit/inference/backend.py).
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from segkit.models.depthwise import speed_up_depthwise
from segkit.models.origin import Origin
from segkit.models.resize import make_upsampling_deterministic, resize


class Segmenter(nn.Module):
    """A network from pixels to logits of the same size.

    `network` takes normalised float images [B, 3, H, W], both sides multiples of `stride`, and returns scores
    [B, C, H', W'] of any size; one with a criterion of its own may return other things in training mode. `mean` and
    `std` are RGB in 0..1; as buffers they travel with the weights.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, network: nn.Module, *, stride: int, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.network = network
        self.stride = stride
        self.memory_format = torch.contiguous_format
        self.origin: Origin | None = None  # of the weights it started from; None: random ones
        self.register_buffer("mean", 255 * torch.tensor(mean, dtype=torch.float32).view(1, 3, 1, 1))
        self.register_buffer("std", 255 * torch.tensor(std, dtype=torch.float32).view(1, 3, 1, 1))

    @property
    def encoder(self) -> nn.Module:
        """The pretrained part, which can be frozen or trained at its own rate."""
        encoder: nn.Module = self.network.encoder  # type: ignore[assignment]
        return encoder

    def set_normalization(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """Set mean and std, RGB in 0..1, to what weights from elsewhere expect."""
        for buffer, values in ((self.mean, mean), (self.std, std)):
            buffer.copy_(255 * torch.tensor(values, dtype=torch.float32).view(1, 3, 1, 1))

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.mean.device

    def to_device(self, device: torch.device, *, channels_last: bool) -> "Segmenter":
        """Move to a device and switch on what makes it fast there; results stay the same up to rounding.

        channels_last keeps weights and activations in NHWC order, which convolutions run fastest in.
        """
        self.to(device)
        if device.type != "cpu":
            make_upsampling_deterministic(self)
        if channels_last:
            self.memory_format = torch.channels_last
            self.to(memory_format=torch.channels_last)
            if device.type == "cpu":
                speed_up_depthwise(self)
        return self

    def normalise(self, images: torch.Tensor) -> torch.Tensor:
        """Return (images - mean) / std in float [B, 3, H, W], in the memory order that the network runs fastest in."""
        images = images.contiguous(memory_format=self.memory_format)
        if self.memory_format == torch.contiguous_format:
            return images.sub(self.mean).div_(self.std)
        # Rows of W * 3 values: broadcasting along an innermost axis of 3 takes three times as long.
        width = images.shape[3]
        rows = images.permute(0, 2, 3, 1).flatten(2)
        rows = rows.sub(self.mean.flatten().repeat(width)).div_(self.std.flatten().repeat(width))
        return rows.unflatten(2, (width, 3)).permute(0, 3, 1, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits [B, C, H, W] for RGB images [B, 3, H, W], uint8 or float, in 0..255; any H and W.

        In training mode, what isn't a tensor is for the model's own criterion and returned as it is.
        """
        height, width = images.shape[-2:]
        x = self.normalise(images)
        beyond = (0, -width % self.stride, 0, -height % self.stride)
        if any(beyond):  # padding by nothing would copy
            x = F.pad(x, beyond)  # 0 is the mean colour
        logits: torch.Tensor = self.network(x)
        if self.training and not isinstance(logits, torch.Tensor):
            return logits
        if logits.shape[-2:] != x.shape[-2:]:  # in height or in width
            logits = resize(logits, x.shape[-2:])
        return logits[..., :height, :width] if any(beyond) else logits  # [B, C, H, W]
