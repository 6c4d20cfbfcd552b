"""Soft Dice loss by image."""

import torch

from segkit.losses.pixel import EPS, check_ignore_index

CLASSES_AT_A_TIME = 8


def dice(
    logits: torch.Tensor, target: torch.Tensor, *, ignore_index: int = 255, normalizer: torch.Tensor | None = None
) -> torch.Tensor:
    """Return 1 - soft Dice, averaged over the classes that an image's truth holds, then over images with labels.

    Dice_c = 2 sum(p_c t_c) / (sum(p_c) + sum(t_c)) over labelled pixels (Milletari et al. 2016, with plain sums in the
    denominator as in Drozdzal et al. 2016). By image, since a sum over images is the same on any number of ranks.
    logits float [B, C, H, W], target ids [B, H, W] -> float32 scalar.

    Raises:
        ValueError: an ignore_index outside 0..255.
    """
    check_ignore_index(ignore_index)
    labelled = target != ignore_index  # [B, H, W]
    if normalizer is None:
        normalizer = labelled_images(target, ignore_index=ignore_index)
    probabilities = logits.float().softmax(dim=1) * labelled[:, None]  # [B, C, H, W]
    sums = sums_by_scatter if target.device.type == "cpu" else sums_by_comparison
    intersection, truth = sums(probabilities, target.where(labelled, 0), labelled)
    predicted = probabilities.sum(dim=(2, 3))
    score = 2 * intersection / (predicted + truth).clamp_min(EPS)  # [B, C]
    present = (truth > 0).to(score.dtype)
    by_image = ((1 - score) * present).sum(dim=1) / present.sum(dim=1).clamp_min(1)
    return by_image.sum() / normalizer.clamp_min(EPS)


def labelled_images(
    target: torch.Tensor, *, ignore_index: int = 255, class_weights: torch.Tensor | None = None
) -> torch.Tensor:
    """Return how many images of the batch have at least one labelled pixel: float scalar.

    target ids [B, H, W]. `class_weights` are those of pixels; every image weighs the same.

    Raises:
        ValueError: an ignore_index outside 0..255.
    """
    check_ignore_index(ignore_index)
    return (target != ignore_index).flatten(1).any(dim=1).sum().float()


def sums_by_scatter(
    probabilities: torch.Tensor, ids: torch.Tensor, labelled: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return, by image and class, the probability of the true class summed over pixels, and the number of pixels.

    probabilities float [B, C, H, W], 0 where not labelled; ids [B, H, W]; labelled bool [B, H, W] -> float [B, C] each.
    """
    ids = ids.long()
    of_truth = probabilities.gather(1, ids[:, None]).flatten(1)  # [B, HW], 0 where ignored
    intersection = of_truth.new_zeros(probabilities.shape[:2]).scatter_add(1, ids.flatten(1), of_truth)
    truth = torch.zeros_like(intersection).scatter_add(1, ids.flatten(1), labelled.flatten(1).to(intersection.dtype))
    return intersection, truth


def sums_by_comparison(
    probabilities: torch.Tensor, ids: torch.Tensor, labelled: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what `sums_by_scatter` does, by comparing every pixel with every class, a few classes at a time.

    For GPUs, where all pixels of an image would be added to a handful of addresses, one after the other, and in an
    order that changes from run to run. Autograd keeps the comparisons, a byte per logit. Unproven on GPUs.
    """
    intersection, truth = [], []
    for first in range(0, probabilities.shape[1], CLASSES_AT_A_TIME):
        part = probabilities[:, first : first + CLASSES_AT_A_TIME]
        classes = torch.arange(first, first + part.shape[1], device=ids.device)
        is_truth = (ids[:, None] == classes[:, None, None]) & labelled[:, None]  # [B, K, H, W]
        intersection.append((part * is_truth).sum(dim=(2, 3)))
        truth.append(is_truth.sum(dim=(2, 3), dtype=probabilities.dtype))
    return torch.cat(intersection, dim=1), torch.cat(truth, dim=1)
