"""How far softmax probabilities and truth overlap, by image and class, and means over both.

By image, since a sum over images is the same on any number of ranks. Not here: what is made of the sums (dice, tversky,
mcc).
"""

from typing import NamedTuple

import torch

from segkit.losses.pixel import EPS, check_ignore_index

CLASSES_AT_A_TIME = 8


class Overlap(NamedTuple):
    """What prediction and truth have in common by image and class, over labelled pixels: float [B, C] each.

    intersection: sum of p_c t_c. predicted: sum of p_c. truth: sum of t_c. With t in {0, 1}, the predicted part that is
    wrong is predicted - intersection, and what was missed is truth - intersection.
    """

    intersection: torch.Tensor
    predicted: torch.Tensor
    truth: torch.Tensor


def overlap(logits: torch.Tensor, target: torch.Tensor, *, ignore_index: int, squared: bool = False) -> Overlap:
    """Return the overlap of softmax probabilities and truth; with `squared`, `predicted` is the sum of p_c^2.

    logits float [B, C, H, W], target ids [B, H, W] -> float32 [B, C] each.

    Raises:
        ValueError: an ignore_index outside 0..255.
    """
    check_ignore_index(ignore_index)
    labelled = target != ignore_index  # [B, H, W]
    probabilities = logits.float().softmax(dim=1) * labelled[:, None]  # [B, C, H, W]
    sums = sums_by_scatter if target.device.type == "cpu" else sums_by_comparison
    intersection, truth = sums(probabilities, target.where(labelled, 0), labelled)
    predicted = (probabilities.square() if squared else probabilities).sum(dim=(2, 3))
    return Overlap(intersection, predicted, truth)


def mean_over_images(costs: torch.Tensor, counted: torch.Tensor, normalizer: torch.Tensor) -> torch.Tensor:
    """Return the sum over images of each one's mean cost over the classes `counted`, over `normalizer`: a scalar.

    costs float [B, C], finite; counted bool [B, C]. An image without such a class adds 0.
    """
    weight = counted.to(costs.dtype)
    by_image = (costs * weight).sum(dim=1) / weight.sum(dim=1).clamp_min(1)
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
