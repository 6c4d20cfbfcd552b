"""Losses by the Tversky index, by image: wrong and missed pixels weighed apart. Jaccard is one of them."""

import torch

from segkit.losses.overlap import labelled_images, mean_over_images, overlap
from segkit.losses.pixel import EPS


def tversky(
    logits: torch.Tensor,
    target: torch.Tensor,
    *,
    ignore_index: int = 255,
    alpha: float = 0.3,
    beta: float = 0.7,
    normalizer: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return 1 - Tversky index, averaged over the classes that an image's truth holds, then over images with labels.

    T_c = TP / (TP + alpha FP + beta FN) over labelled pixels, with TP = sum(p_c t_c), FP = sum(p_c (1 - t_c)) and
    FN = sum((1 - p_c) t_c) (Salehi et al. 2017). 1/2, 1/2 is Dice; 1, 1 is Jaccard; a large beta finds more.
    logits float [B, C, H, W], target ids [B, H, W] -> float32 scalar.

    Raises:
        ValueError: an ignore_index outside 0..255.
    """
    return _tversky(
        logits, target, ignore_index=ignore_index, alpha=alpha, beta=beta, exponent=1.0, normalizer=normalizer
    )


def focal_tversky(
    logits: torch.Tensor,
    target: torch.Tensor,
    *,
    ignore_index: int = 255,
    alpha: float = 0.3,
    beta: float = 0.7,
    gamma: float = 4 / 3,
    normalizer: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return (1 - Tversky index)^(1 / gamma) for each class, averaged as `tversky` does.

    Source: Abraham and Khan 2019, A Novel Focal Tversky Loss Function, where gamma is 4/3: above 1, a class
    that is almost right keeps a gradient. Below 1 - T_c = 1e-6, where it would grow beyond bounds, it is a straight
    line. Their alpha weighs what was missed, which is beta here, as in `tversky`.
    logits float [B, C, H, W], target ids [B, H, W] -> float32 scalar.

    Raises:
        ValueError: an ignore_index outside 0..255.
    """
    return _tversky(
        logits, target, ignore_index=ignore_index, alpha=alpha, beta=beta, exponent=1 / gamma, normalizer=normalizer
    )


def jaccard(
    logits: torch.Tensor, target: torch.Tensor, *, ignore_index: int = 255, normalizer: torch.Tensor | None = None
) -> torch.Tensor:
    """Return 1 - soft IoU, averaged over the classes that an image's truth holds, then over images with labels.

    IoU_c = sum(p_c t_c) / (sum(p_c) + sum(t_c) - sum(p_c t_c)) over labelled pixels (Rahman and Wang 2016).
    logits float [B, C, H, W], target ids [B, H, W] -> float32 scalar.

    Raises:
        ValueError: an ignore_index outside 0..255.
    """
    return tversky(logits, target, ignore_index=ignore_index, alpha=1.0, beta=1.0, normalizer=normalizer)


def _tversky(
    logits: torch.Tensor,
    target: torch.Tensor,
    *,
    ignore_index: int,
    alpha: float,
    beta: float,
    exponent: float,
    normalizer: torch.Tensor | None,
) -> torch.Tensor:
    if normalizer is None:
        normalizer = labelled_images(target, ignore_index=ignore_index)
    intersection, predicted, truth = overlap(logits, target, ignore_index=ignore_index)
    wrong, missed = predicted - intersection, truth - intersection
    cost = 1 - intersection / (intersection + alpha * wrong + beta * missed).clamp_min(EPS)  # [B, C]
    if exponent != 1:
        cost = torch.where(cost > EPS, cost.clamp_min(EPS) ** exponent, cost * EPS ** (exponent - 1))
    return mean_over_images(cost, truth > 0, normalizer)
