"""Matthews correlation of probabilities and truth, by image."""

import torch

from segkit.losses.overlap import labelled_images, mean_over_images, overlap

SMALLEST_VARIANCE = 1e-10  # of a class's probability; the root below it has no gradient


def mcc(
    logits: torch.Tensor, target: torch.Tensor, *, ignore_index: int = 255, normalizer: torch.Tensor | None = None
) -> torch.Tensor:
    """Return 1 - soft Matthews correlation coefficient, averaged over classes, then over images with labels.

    MCC_c = (TP TN - FP FN) / sqrt((TP + FP) (TP + FN) (TN + FP) (TN + FN)) of class c against the rest, over labelled
    pixels (Abhishek and Hamarneh 2021). Averaged over the classes that an image's truth holds; where all labelled
    pixels are of one class, it is undefined, and the image adds 0.
    logits float [B, C, H, W], target ids [B, H, W] -> float32 scalar.

    Raises:
        ValueError: an ignore_index outside 0..255.
    """
    if normalizer is None:
        normalizer = labelled_images(target, ignore_index=ignore_index)
    sums = overlap(logits, target, ignore_index=ignore_index)
    num_pixels = sums.truth.sum(dim=1, keepdim=True)
    # TP TN - FP FN = N TP - (TP + FP) (TP + FN); by shares of the N pixels, or the products would lose their digits
    both, predicted, truth = (total / num_pixels.clamp_min(1) for total in sums)
    variances = (predicted * (1 - predicted)).clamp_min(SMALLEST_VARIANCE) * truth * (1 - truth)
    counted = (sums.truth > 0) & (sums.truth < num_pixels)
    correlation = (both - predicted * truth) / variances.where(counted, 1).sqrt()
    return mean_over_images(1 - correlation, counted, normalizer)
