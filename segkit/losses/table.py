"""The losses by name, and weighted sums of them over NCHW logits and class ids. Masks needn't be one-hot.

Every loss divides by what it summed over (weights of labelled pixels, or images), so padding and ignored pixels add
nothing, and a batch without a label gives 0 and zero gradient. `normalizer` replaces the divisor of the given batch by
that of the whole batch, of which it is a part: so micro-batches and ranks add up to exactly the whole.

To add a loss: a function, one line in `LOSSES`, and the weight's key, `loss.NAME` (config/learning_sections.py, with a
test that compares). Settings of its own are fields of LossConfig too, which its line turns into arguments.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol, Self

import torch

from segkit.config.schema import LossConfig
from segkit.errors import ConfigError
from segkit.losses.boundary import boundary
from segkit.losses.cross_entropy import cross_entropy, focal, pixel_weight
from segkit.losses.dice import dice
from segkit.losses.lovasz import lovasz
from segkit.losses.mcc import mcc
from segkit.losses.ohem import ohem
from segkit.losses.overlap import labelled_images
from segkit.losses.pixel import EPS
from segkit.losses.rmi import rmi
from segkit.losses.tversky import focal_tversky, jaccard, tversky


@dataclass(frozen=True)
class Given:
    """What a loss may need beside its config: class_weights float [C] or None; alpha float [C] or None."""

    class_weights: torch.Tensor | None = None
    alpha: torch.Tensor | None = None
    compiled: bool = False


@dataclass(frozen=True)
class Loss:
    """One kind of loss.

    function: (logits float [B, C, H, W], target ids [B, H, W], ignore_index=, normalizer=, **options) -> scalar.
    divisor: (target, ignore_index=, class_weights=) -> what the function divides by, a scalar.
    options: the function's further arguments, from the config and what comes with it.
    """

    function: Callable[..., torch.Tensor]
    divisor: Callable[..., torch.Tensor]
    options: Callable[[LossConfig, Given], Mapping[str, Any]] = lambda config, given: {}


def _by_pixel(config: LossConfig, given: Given) -> dict[str, Any]:
    return {"class_weights": given.class_weights, "compiled": given.compiled}


def _cross_entropy(config: LossConfig, given: Given) -> dict[str, Any]:
    return {**_by_pixel(config, given), "label_smoothing": config.label_smoothing}


def _focal(config: LossConfig, given: Given) -> dict[str, Any]:
    return {**_by_pixel(config, given), "gamma": config.gamma, "alpha": given.alpha}


def _dice(config: LossConfig, given: Given) -> dict[str, Any]:
    return {"form": config.dice_form}


def _tversky(config: LossConfig, given: Given) -> dict[str, Any]:
    return {"alpha": config.tversky_alpha, "beta": config.tversky_beta}


def _focal_tversky(config: LossConfig, given: Given) -> dict[str, Any]:
    return {**_tversky(config, given), "gamma": config.focal_tversky_gamma}


def _ohem(config: LossConfig, given: Given) -> dict[str, Any]:
    return {**_by_pixel(config, given), "threshold": config.ohem_threshold, "min_kept": config.ohem_min_kept}


def _rmi(config: LossConfig, given: Given) -> dict[str, Any]:
    return {"radius": config.rmi_radius, "pool": config.rmi_pool}


LOSSES: dict[str, Loss] = {
    "cross_entropy": Loss(cross_entropy, pixel_weight, _cross_entropy),
    "focal": Loss(focal, pixel_weight, _focal),
    "dice": Loss(dice, labelled_images, _dice),
    "jaccard": Loss(jaccard, labelled_images),
    "tversky": Loss(tversky, labelled_images, _tversky),
    "focal_tversky": Loss(focal_tversky, labelled_images, _focal_tversky),
    "mcc": Loss(mcc, labelled_images),
    "lovasz": Loss(lovasz, labelled_images),
    "ohem": Loss(ohem, labelled_images, _ohem),
    "boundary": Loss(boundary, labelled_images),
    "rmi": Loss(rmi, labelled_images, _rmi),
}


class LossValue(NamedTuple):
    """The loss of a batch: its total, a scalar to go backward from, and each term, unweighted and detached, float [T].

    Both are shares of a whole where divisors of a whole were given: they add up over micro-batches and ranks.
    """

    total: torch.Tensor
    terms: torch.Tensor


class Criterion(Protocol):
    """What training minimises: the sum of losses below, or what a model brings for outputs that aren't logits."""

    @property
    def names(self) -> tuple[str, ...]:
        """The name of each of the T terms, for logs."""

    def at(self, progress: float) -> "Criterion":
        """Return what is minimised when `progress` of the run, in [0, 1), is over; the same T terms."""

    def normalizers(self, target: torch.Tensor) -> torch.Tensor:
        """Return each term's divisor for ids [B, H, W]: float [T]. They are added up over micro-batches and ranks."""

    def __call__(self, outputs: Any, target: torch.Tensor, normalizers: torch.Tensor | None = None) -> LossValue:
        """Return the loss of what the network returned in training mode, for ids [B, H, W], over `normalizers`."""


@dataclass(frozen=True)
class LossTerm:
    """One loss of a sum, with its weight in it and the options it is called with.

    factors: what the weight is multiplied by at the start and at the end of the run, where it is scheduled.
    """

    name: str
    weight: float
    options: Mapping[str, Any] = field(default_factory=dict)
    factors: tuple[float, float] | None = None

    def at(self, progress: float) -> "LossTerm":
        """Return the term with its weight when `progress` of the run, in [0, 1), is over; a pure function."""
        if self.factors is None:
            return self
        first, last = self.factors
        return replace(self, weight=self.weight * (first + (last - first) * progress), factors=None)


@dataclass(frozen=True)
class WeightedLoss:
    """A weighted sum of losses, in two halves: sums, and what divides them. Both add up over batches and ranks."""

    terms: tuple[LossTerm, ...]
    ignore_index: int = 255
    class_weights: torch.Tensor | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The name of each term, as in `LOSSES`."""
        return tuple(term.name for term in self.terms)

    def at(self, progress: float) -> Self:
        """Return the sum with the weights it has when `progress` of the run, in [0, 1), is over."""
        if all(term.factors is None for term in self.terms):
            return self
        return replace(self, terms=tuple(term.at(progress) for term in self.terms))

    def normalizers(self, target: torch.Tensor) -> torch.Tensor:
        """Return each term's divisor for ids [B, H, W]: float [number of terms]."""
        settings = {"ignore_index": self.ignore_index, "class_weights": self.class_weights}
        return torch.stack([LOSSES[name].divisor(target, **settings) for name in self.names])

    def sums(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return each term, undivided, for logits float [B, C, H, W] and ids [B, H, W]: float [number of terms]."""
        one = torch.ones((), device=logits.device)
        return torch.stack([self._term(term, logits, target, one) for term in self.terms])

    def combine(self, sums: torch.Tensor, normalizers: torch.Tensor) -> torch.Tensor:
        """Divide the sums, and add the terms with their weights: a scalar; 0 where nothing was labelled."""
        weights = torch.tensor([term.weight for term in self.terms], device=sums.device)
        return (weights * sums / normalizers.clamp_min(EPS)).sum()

    def __call__(
        self, outputs: torch.Tensor, target: torch.Tensor, normalizers: torch.Tensor | None = None
    ) -> LossValue:
        """Return the loss of a batch, for logits float [B, C, H, W] and ids [B, H, W].

        `normalizers` are those of the whole that the batch is a part of.
        """
        if normalizers is None:
            normalizers = self.normalizers(target)
        values = [
            self._term(term, outputs, target, normalizer)
            for term, normalizer in zip(self.terms, normalizers, strict=True)
        ]
        total = torch.stack([term.weight * value for term, value in zip(self.terms, values, strict=True)]).sum()
        return LossValue(total, torch.stack([value.detach() for value in values]))

    def _term(
        self, term: LossTerm, logits: torch.Tensor, target: torch.Tensor, normalizer: torch.Tensor
    ) -> torch.Tensor:
        function = LOSSES[term.name].function
        return function(logits, target, ignore_index=self.ignore_index, normalizer=normalizer, **term.options)


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
    given = Given(weights, alpha, compiled)
    terms = tuple(
        LossTerm(name, weight, loss.options(config, given), config.schedule.get(name))
        for name, loss in LOSSES.items()
        if (weight := getattr(config, name)) > 0
    )
    return WeightedLoss(terms, ignore_index, weights)


def build_criterion(loss: WeightedLoss, own: Callable[[WeightedLoss], Criterion] | None) -> Criterion:
    """Return what training minimises: the model's own criterion, made from the configured loss; else that loss.

    `own` is `MODELS[name].criterion`. The configured loss holds ignore_index and class_weights, which it may use.
    Validation reports the configured loss in any case: in eval mode every model returns per-pixel logits.
    """
    return loss if own is None else own(loss)
