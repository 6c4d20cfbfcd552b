"""Soft Dice loss by image, in three forms."""

import torch

from segkit.config.schema import DiceForm
from segkit.losses.overlap import labelled_images, mean_over_images, overlap
from segkit.losses.pixel import EPS


def dice(
    logits: torch.Tensor,
    target: torch.Tensor,
    *,
    ignore_index: int = 255,
    form: DiceForm = "plain",
    normalizer: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return 1 - soft Dice, averaged over the classes that an image's truth holds, then over images with labels.

    - plain: Dice_c = 2 sum(p_c t_c) / (sum(p_c) + sum(t_c)) over labelled pixels (Drozdzal et al. 2016)
    - squared: with sum(p_c^2) + sum(t_c^2) in the denominator (Milletari et al. 2016, V-Net)
    - log_cosh: log cosh(1 - Dice_c), of the plain one (Jadon 2020): flatter where little is wrong

    logits float [B, C, H, W], target ids [B, H, W] -> float32 scalar.

    Raises:
        ValueError: an ignore_index outside 0..255.
    """
    if normalizer is None:
        normalizer = labelled_images(target, ignore_index=ignore_index)
    intersection, predicted, truth = overlap(logits, target, ignore_index=ignore_index, squared=form == "squared")
    cost = 1 - 2 * intersection / (predicted + truth).clamp_min(EPS)  # [B, C]; t^2 = t
    if form == "log_cosh":
        cost = cost.cosh().log()
    return mean_over_images(cost, truth > 0, normalizer)
