"""PyTorch as a backend: a Segmenter that `for_inference` made, in its precision."""

from dataclasses import dataclass

import torch

from segkit.classes import Classes
from segkit.inference.backend import Array
from segkit.models.segmenter import Segmenter
from segkit.runtime.device import autocast, native_kernels


@dataclass(frozen=True)
class TorchBackend:
    """A Segmenter in eval mode that computes in `precision`, on the device that it is on."""

    model: Segmenter
    classes: Classes
    canvas_hw: tuple[int, int]
    precision: torch.dtype

    @property
    def device(self) -> torch.device:
        """Where the model is, and its logits."""
        return self.model.device

    @torch.inference_mode()
    def __call__(self, images: Array) -> torch.Tensor:
        """Return logits float32 [B, C, H, W] on the canvas, for letterboxed images, uint8 RGB [B, 3, H, W]."""
        inputs = torch.as_tensor(images).to(self.device, non_blocking=True)
        with native_kernels(), autocast(self.device, self.precision):
            logits: torch.Tensor = self.model(inputs)
        return logits.float()
