"""Cross-entropy and focal loss: means over labelled pixels, weighted by class.

Not here: the arithmetic and its gradient (segkit/losses/pixel.py), and which classes weigh how much (class_weights).
"""

import torch

from segkit.losses.pixel import check_ignore_index, pixel_loss


def cross_entropy(
    logits: torch.Tensor,
    target: torch.Tensor,
    *,
    ignore_index: int = 255,
    class_weights: torch.Tensor | None = None,
    label_smoothing: float = 0.0,
    normalizer: torch.Tensor | None = None,
    compiled: bool = False,
) -> torch.Tensor:
    """Return weighted cross-entropy: sum of -w_y log p_y over labelled pixels, over the sum of their w_y.

    With label smoothing e in [0, 1), log p_y becomes the sum over classes of q_c log p_c, q_c = (1 - e) [c = y] + e / C
    (Szegedy et al. 2016, Rethinking the Inception Architecture, section 7). A pixel is weighed by its true class w_y as
    a whole; PyTorch weighs each log p_c by w_c instead, which draws every pixel towards the classes that weigh much.
    logits float [B, C, H, W], target ids [B, H, W], class_weights float [C] -> float32 scalar.

    Raises:
        ValueError: an ignore_index outside 0..255.
    """
    check_ignore_index(ignore_index)
    if normalizer is None:
        normalizer = pixel_weight(target, ignore_index=ignore_index, class_weights=class_weights)
    return pixel_loss(
        logits, target, normalizer, gamma=0.0, factors=class_weights, ignore_index=ignore_index,
        smoothing=label_smoothing, compiled=compiled,
    )  # fmt: skip


def focal(
    logits: torch.Tensor,
    target: torch.Tensor,
    *,
    ignore_index: int = 255,
    gamma: float = 2.0,
    alpha: torch.Tensor | None = None,
    class_weights: torch.Tensor | None = None,
    normalizer: torch.Tensor | None = None,
    compiled: bool = False,
) -> torch.Tensor:
    """Return focal loss: w_y * -alpha_y (1 - p_y)^gamma log p_y over labelled pixels, over the sum of their w_y.

    p_y is the unweighted softmax: weights multiply outside, they don't enter the modulating factor (a common mistake).
    Source: Lin et al. 2017, Focal Loss for Dense Object Detection, equation 5, for the softmax over C classes.
    logits float [B, C, H, W], target ids [B, H, W], alpha and class_weights float [C] -> float32 scalar.

    Raises:
        ValueError: an ignore_index outside 0..255.
    """
    check_ignore_index(ignore_index)
    if normalizer is None:
        normalizer = pixel_weight(target, ignore_index=ignore_index, class_weights=class_weights)
    factors = [tensor for tensor in (alpha, class_weights) if tensor is not None]
    product = torch.stack(factors).prod(dim=0) if factors else None
    return pixel_loss(
        logits, target, normalizer, gamma=gamma, factors=product, ignore_index=ignore_index, compiled=compiled
    )


def pixel_weight(
    target: torch.Tensor, *, ignore_index: int = 255, class_weights: torch.Tensor | None = None
) -> torch.Tensor:
    """Return the sum of class weights over labelled pixels (their number, without weights): float scalar.

    target ids [B, H, W], class_weights float [C].

    Raises:
        ValueError: an ignore_index outside 0..255.
    """
    check_ignore_index(ignore_index)
    if class_weights is None:
        return (target != ignore_index).sum().float()
    if target.device.type != "cpu":
        return weight_by_lookup(target, ignore_index=ignore_index, class_weights=class_weights)
    counts = torch.bincount(target.flatten(), minlength=256)
    counts[ignore_index] = 0
    return (counts[: len(class_weights)] * class_weights).sum()


def weight_by_lookup(target: torch.Tensor, *, ignore_index: int, class_weights: torch.Tensor) -> torch.Tensor:
    """Return what `pixel_weight` does, for which the host needn't wait for a GPU, as it does for bincount.

    It adds up pixel by pixel, so it may differ in the last digits: a CPU keeps to counts. Unproven on GPUs.
    """
    table = class_weights.new_zeros(256)
    table[: len(class_weights)] = class_weights
    table[ignore_index] = 0
    return table.index_select(0, target.flatten().int()).sum()
