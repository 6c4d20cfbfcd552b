"""Boundary loss by image: probability far from its class's region costs in proportion to the distance."""

import cv2
import numpy as np
import torch

from segkit.losses.overlap import labelled_images
from segkit.losses.pixel import EPS, check_ignore_index

FARTHEST = np.float32(512)  # pixels; what is farther away counts as that


def boundary(
    logits: torch.Tensor, target: torch.Tensor, *, ignore_index: int = 255, normalizer: torch.Tensor | None = None
) -> torch.Tensor:
    """Return the mean over an image's labelled pixels of phi_c (p_c - t_c), in pixels, averaged over the classes of its
    truth, then over images with labels.

    phi_c is the signed distance to the region of class c, see `signed_distances`. Source: Kervadec et al. 2019,
    Boundary loss for highly unbalanced segmentation; subtracting phi_c t_c, a constant, leaves the gradient, and makes
    it 0 where the prediction is the truth. Meant to be added to another loss, with a growing weight (loss.schedule):
    alone, an empty prediction is good enough for a small class. The distances are computed on the CPU.
    logits float [B, C, H, W], target ids [B, H, W] -> float32 scalar.

    Raises:
        ValueError: an ignore_index outside 0..255.
    """
    check_ignore_index(ignore_index)
    if normalizer is None:
        normalizer = labelled_images(target, ignore_index=ignore_index)
    total = logits[:0].float().sum()  # 0, with a gradient of 0
    for scores, truth in zip(logits.split(1), target.cpu().numpy(), strict=True):
        labelled = truth != ignore_index
        if not labelled.any():
            continue
        classes = np.unique(truth[labelled])
        weights = torch.from_numpy(signed_distances(truth, classes, ignore_index=ignore_index)).to(logits.device)
        at_truth = (weights * torch.from_numpy(truth == classes[:, None, None]).to(logits.device)).sum()
        p = scores[0].float().softmax(dim=0)[classes.tolist()]  # [K, H, W]
        total = total + ((weights * p).sum() - at_truth) / (len(classes) * int(labelled.sum()))
    return total / normalizer.clamp_min(EPS)


def signed_distances(truth: np.ndarray, classes: np.ndarray, *, ignore_index: int) -> np.ndarray:
    """Return how far each pixel is from the edge of each class's region, Euclidean, in pixels: float32 [K, H, W].

    Outside, the distance to the nearest pixel of the class; inside, 1 - the distance to the nearest labelled pixel of
    another, so the last pixel inside has 0 and the first outside 1, as in the authors' code. Distances end at 512. 0
    where `truth` (ids [H, W]) isn't labelled, and for a class that all labelled pixels are of: it has no edge.
    """
    labelled = truth != ignore_index
    distances = np.zeros((len(classes), *truth.shape), np.float32)
    for distance, class_id in zip(distances, classes, strict=True):
        inside = truth == class_id
        other = labelled & ~inside
        if other.any():
            outward = _distance_to(inside)
            inward = _distance_to(other)
            distance[:] = np.where(inside, 1 - inward, np.where(other, outward, 0))
    return distances


def _distance_to(region: np.ndarray) -> np.ndarray:
    """Return each pixel's distance to the nearest one of `region`, at most FARTHEST: float32, exactly rounded.

    OpenCV's last digits depend on where in memory a mask lies (the square roots of IPP). Squares of distances are whole
    numbers, though, and rounding finds them again, up to about 700 pixels.
    """
    distance = cv2.distanceTransform((~region).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    exact: np.ndarray = np.sqrt(np.rint(np.square(np.minimum(distance, FARTHEST))))
    return exact
