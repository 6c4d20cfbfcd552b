"""Cross-entropy of an image's hard pixels."""

import math

import torch

from segkit.losses.cross_entropy import pixel_weight
from segkit.losses.overlap import labelled_images
from segkit.losses.pixel import check_ignore_index, pixel_loss


def ohem(
    logits: torch.Tensor,
    target: torch.Tensor,
    *,
    ignore_index: int = 255,
    threshold: float = 0.7,
    min_kept: float = 0.0625,
    class_weights: torch.Tensor | None = None,
    normalizer: torch.Tensor | None = None,
    compiled: bool = False,
) -> torch.Tensor:
    """Return cross-entropy over the hard pixels of each image, a weighted mean, averaged over images with labels.

    A labelled pixel is hard if p_y < `threshold`, or if it is among the `min_kept` (a fraction) of the image's labelled
    pixels with the smallest p_y; pixels of equal p_y are kept or left together. Online hard example mining: Shrivastava
    et al. 2016, with the threshold of Wu et al. 2016, Bridging Category-level and Instance-level Semantic Image
    Segmentation. They choose among a batch's pixels; here each image has its own, since a batch's hardest
    pixels are known only when all micro-batches and ranks are through, and the images' means are exact on any split.
    logits float [B, C, H, W], target ids [B, H, W], class_weights float [C] -> float32 scalar.

    Raises:
        ValueError: an ignore_index outside 0..255.
    """
    check_ignore_index(ignore_index)
    if normalizer is None:
        normalizer = labelled_images(target, ignore_index=ignore_index)
    totals = [logits[:0].float().sum()]  # 0, with a gradient of 0
    for scores, truth in zip(logits.split(1), target.split(1), strict=True):
        hard = _hard(scores.detach(), truth, ignore_index=ignore_index, threshold=threshold, min_kept=min_kept)
        chosen = truth.masked_fill(~hard, ignore_index)
        weight = pixel_weight(chosen, ignore_index=ignore_index, class_weights=class_weights)
        totals.append(
            pixel_loss(
                scores, chosen, weight * normalizer, gamma=0.0, factors=class_weights, ignore_index=ignore_index,
                compiled=compiled,
            )
        )  # fmt: skip
    return torch.stack(totals).sum()


def _hard(
    scores: torch.Tensor, truth: torch.Tensor, *, ignore_index: int, threshold: float, min_kept: float
) -> torch.Tensor:
    """Return which pixels of an image are hard: bool [1, H, W], for scores [1, C, H, W] and ids [1, H, W]."""
    labelled = truth != ignore_index
    ids = truth.long().masked_fill(~labelled, 0)
    p = scores.softmax(dim=1, dtype=torch.float32).gather(1, ids[:, None])[:, 0]
    p = p.masked_fill(~labelled, torch.inf)
    hard = ~(p >= threshold)  # also NaN, which must reach the loss
    if min_kept > 0 and (count := math.ceil(min_kept * int(labelled.sum()))):
        hard = hard | (p <= p.flatten().kthvalue(count).values)
    return hard & labelled
