"""From letterboxed pixels to logits on the canvas: the one path of validation, evaluation and prediction."""

import torch

from segkit.inference.ensemble import Ensemble
from segkit.models.segmenter import Segmenter
from segkit.runtime.device import autocast


@torch.inference_mode()
def segment(model: Segmenter | Ensemble, images: torch.Tensor, *, precision: torch.dtype) -> torch.Tensor:
    """Return the logits on the canvas, float32 [B, C, H, W], of letterboxed pictures, uint8 RGB [B, 3, H, W].

    `model` is one that `for_inference` made, or an ensemble of such. The box takes them further: `box.mask(logits[k])`
    to class ids at the picture's own size, `box.invert(logits[k])` to scores.
    """
    device = model.mean.device
    with autocast(device, precision):
        logits: torch.Tensor = model(images.to(device, non_blocking=True))
    return logits.float()
