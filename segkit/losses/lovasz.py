"""Lovasz-softmax by image: the surrogate of IoU itself."""

import torch

from segkit.losses.overlap import labelled_images
from segkit.losses.pixel import EPS, check_ignore_index


def lovasz(
    logits: torch.Tensor, target: torch.Tensor, *, ignore_index: int = 255, normalizer: torch.Tensor | None = None
) -> torch.Tensor:
    """Return the Lovasz extension of 1 - IoU at the errors |t_c - p_c|, over the classes of an image's truth, then over
    images with labels: means.

    Source: Berman et al. 2018, The Lovasz-Softmax Loss, for classes present in the image. The arithmetic
    is that of segmentation-models-pytorch, given one image with labels at a time: of an image without any, it makes an
    empty tensor.
    logits float [B, C, H, W], target ids [B, H, W] -> float32 scalar.

    Raises:
        ValueError: an ignore_index outside 0..255.
    """
    # here: it takes seconds, and a training has it already, for its model
    from segmentation_models_pytorch.losses import MULTICLASS_MODE, LovaszLoss

    check_ignore_index(ignore_index)
    if normalizer is None:
        normalizer = labelled_images(target, ignore_index=ignore_index)
    of_one = LovaszLoss(MULTICLASS_MODE, ignore_index=ignore_index)
    total = logits[:0].float().sum()  # 0, with a gradient of 0
    for scores, truth in zip(logits.split(1), target.split(1), strict=True):
        if (truth != ignore_index).any():
            total = total + of_one(scores.float(), truth)
    return total / normalizer.clamp_min(EPS)
