"""Losses over NCHW logits and class ids, and sums of them. One-hot masks are never needed.

Every loss divides by what it summed over (weights of labelled pixels, or pictures), so padding and ignored pixels add
nothing, and a batch without a label gives 0 and zero gradient. `normalizer` replaces the divisor of the given batch by
that of the whole batch, of which it is a part: so micro-batches and ranks add up to exactly the whole.

To add a loss, write a function and give it a line in `LOSSES` and in `NORMALIZERS`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from segkit.config.schema import LossConfig
from segkit.errors import ConfigError
from segkit.losses.pixel import EPS, pixel_loss


def cross_entropy(
    logits: torch.Tensor,
    target: torch.Tensor,
    *,
    ignore_index: int = 255,
    class_weights: torch.Tensor | None = None,
    normalizer: torch.Tensor | None = None,
    compiled: bool = False,
) -> torch.Tensor:
    """Return weighted cross-entropy: sum of -w_y log p_y over labelled pixels, over the sum of their w_y.

    logits float [B, C, H, W], target ids [B, H, W], class_weights float [C] -> scalar.
    """
    if normalizer is None:
        normalizer = pixel_weight(target, ignore_index=ignore_index, class_weights=class_weights)
    return pixel_loss(
        logits, target, normalizer, gamma=0.0, factors=class_weights, ignore_index=ignore_index, compiled=compiled
    )


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
    logits float [B, C, H, W], target ids [B, H, W], alpha and class_weights float [C] -> scalar.
    """
    if normalizer is None:
        normalizer = pixel_weight(target, ignore_index=ignore_index, class_weights=class_weights)
    factors = [tensor for tensor in (alpha, class_weights) if tensor is not None]
    product = torch.stack(factors).prod(dim=0) if factors else None
    return pixel_loss(
        logits, target, normalizer, gamma=gamma, factors=product, ignore_index=ignore_index, compiled=compiled
    )


def dice(
    logits: torch.Tensor, target: torch.Tensor, *, ignore_index: int = 255, normalizer: torch.Tensor | None = None
) -> torch.Tensor:
    """Return 1 - soft Dice, averaged over the classes that a picture's truth holds, then over pictures with labels.

    Dice_c = 2 sum(p_c t_c) / (sum(p_c) + sum(t_c)) over labelled pixels (Milletari et al. 2016, with plain sums in the
    denominator as in Drozdzal et al. 2016). By picture, since a sum over pictures is the same on any number of ranks.
    logits float [B, C, H, W], target ids [B, H, W] -> scalar.
    """
    num_classes = logits.shape[1]
    labelled = target != ignore_index  # [B, H, W]
    if normalizer is None:
        normalizer = labelled_images(target, ignore_index=ignore_index)
    probabilities = logits.float().softmax(dim=1) * labelled[:, None]  # [B, C, H, W]
    ids = target.where(labelled, 0).long()
    of_truth = probabilities.gather(1, ids[:, None]).flatten(1)  # [B, HW], 0 where ignored
    intersection = of_truth.new_zeros(len(target), num_classes).scatter_add(1, ids.flatten(1), of_truth)
    truth = torch.zeros_like(intersection).scatter_add(1, ids.flatten(1), labelled.flatten(1).to(intersection.dtype))
    predicted = probabilities.sum(dim=(2, 3))
    score = 2 * intersection / (predicted + truth).clamp_min(EPS)  # [B, C]
    present = (truth > 0).to(score.dtype)
    by_image = ((1 - score) * present).sum(dim=1) / present.sum(dim=1).clamp_min(1)
    return by_image.sum() / normalizer.clamp_min(EPS)


def pixel_weight(
    target: torch.Tensor, *, ignore_index: int = 255, class_weights: torch.Tensor | None = None
) -> torch.Tensor:
    """Return the sum of class weights over labelled pixels (their number, without weights): float scalar."""
    if class_weights is None:
        return (target != ignore_index).sum().float()
    counts = torch.bincount(target.flatten(), minlength=256)[: len(class_weights)]
    return (counts * class_weights).sum()


def labelled_images(target: torch.Tensor, *, ignore_index: int = 255) -> torch.Tensor:
    """Return how many pictures of the batch have at least one labelled pixel: float scalar."""
    return (target != ignore_index).flatten(1).any(dim=1).sum().float()


LOSSES: dict[str, Callable[..., torch.Tensor]] = {"cross_entropy": cross_entropy, "focal": focal, "dice": dice}
NORMALIZERS = {"cross_entropy": pixel_weight, "focal": pixel_weight, "dice": labelled_images}


@dataclass(frozen=True)
class LossTerm:
    """One loss of a sum, with the options it is called with."""

    name: str
    weight: float
    options: dict[str, Any]
    normalizer_options: dict[str, Any]


@dataclass(frozen=True)
class WeightedLoss:
    """A weighted sum of losses, in two halves: sums, and what divides them. Both add up over batches and ranks."""

    terms: tuple[LossTerm, ...]

    def normalizers(self, target: torch.Tensor) -> torch.Tensor:
        """Return each term's divisor for ids [B, H, W]: float [number of terms]."""
        return torch.stack([NORMALIZERS[term.name](target, **term.normalizer_options) for term in self.terms])

    def sums(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return each term, undivided, for logits float [B, C, H, W] and ids [B, H, W]: float [number of terms]."""
        one = torch.ones((), device=logits.device)
        return torch.stack([LOSSES[term.name](logits, target, **term.options, normalizer=one) for term in self.terms])

    def combine(self, sums: torch.Tensor, normalizers: torch.Tensor) -> torch.Tensor:
        """Divide the sums, and add the terms with their weights: a scalar; 0 where nothing was labelled."""
        weights = torch.tensor([term.weight for term in self.terms], device=sums.device)
        return (weights * sums / normalizers.clamp_min(EPS)).sum()

    def __call__(
        self, logits: torch.Tensor, target: torch.Tensor, normalizers: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return the loss of a batch: a scalar. `normalizers` are those of the whole that the batch is a part of."""
        if normalizers is None:
            normalizers = self.normalizers(target)
        losses = [
            term.weight * LOSSES[term.name](logits, target, **term.options, normalizer=normalizer)
            for term, normalizer in zip(self.terms, normalizers, strict=True)
        ]
        return torch.stack(losses).sum()


def build_loss(
    config: LossConfig,
    *,
    num_classes: int,
    ignore_index: int,
    class_weights: Sequence[float] | None,
    device: torch.device,
    compiled: bool = False,
) -> WeightedLoss:
    """Build the sum of the losses whose weight in `config` is not 0.

    Raises:
        ConfigError: loss.alpha has not one number per class.
    """
    if config.alpha is not None and len(config.alpha) != num_classes:
        raise ConfigError(
            f"loss.alpha: found {len(config.alpha)} numbers, expected {num_classes}, one per class; for two classes "
            "with alpha 0.25 of the second, write [0.75, 0.25]"
        )
    weights = None if class_weights is None else torch.tensor(class_weights, dtype=torch.float32, device=device)
    alpha = None if config.alpha is None else torch.tensor(config.alpha, dtype=torch.float32, device=device)
    common: dict[str, Any] = {"ignore_index": ignore_index}
    weighted = {**common, "class_weights": weights}
    by_pixel = {**weighted, "compiled": compiled}
    options = {
        "cross_entropy": (by_pixel, weighted),
        "focal": ({**by_pixel, "gamma": config.gamma, "alpha": alpha}, weighted),
        "dice": (common, common),
    }
    return WeightedLoss(
        tuple(LossTerm(name, weight, *options[name]) for name in LOSSES if (weight := getattr(config, name)) > 0)
    )
