"""The sections of the schema that say what is minimised, and how: loss and optim."""
# ruff: noqa: RUF009 (key returns a dataclass field)

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt

from segkit.config.fields import Count, Fraction, NonNegative, PartOfRun, Positive, key

ClassWeighting = Literal["none", "balanced", "median_frequency", "log", "sqrt", "effective_number"]
DiceForm = Literal["plain", "squared", "log_cosh"]
ScheduleName = Literal["poly", "cosine", "step", "constant", "linear", "exponential", "one_cycle", "plateau"]


@dataclass(frozen=True)
class LossConfig:
    cross_entropy: NonNegative = key(1.0, "weight of cross-entropy")
    focal: NonNegative = key(0.0, "weight of focal loss (Lin et al. 2017)")
    dice: NonNegative = key(0.0, "weight of soft Dice loss, computed per image")
    jaccard: NonNegative = key(0.0, "weight of soft IoU loss, computed per image")
    tversky: NonNegative = key(0.0, "weight of Tversky loss (Salehi et al. 2017), computed per image")
    focal_tversky: NonNegative = key(0.0, "weight of focal Tversky loss (Abraham and Khan 2019), computed per image")
    mcc: NonNegative = key(0.0, "weight of Matthews correlation loss, computed per image")
    lovasz: NonNegative = key(0.0, "weight of Lovasz-softmax (Berman et al. 2018), computed per image")
    ohem: NonNegative = key(0.0, "weight of cross-entropy over each image's hard pixels")
    boundary: NonNegative = key(
        0.0, "weight of boundary loss (Kervadec et al. 2019), in pixels: a small one, as 0.01, beside another loss"
    )
    rmi: NonNegative = key(
        0.0, "weight of region mutual information (Zhao et al. 2019), computed per image, beside another loss"
    )
    label_smoothing: Annotated[float, Ge(0), Lt(1)] = key(
        0.0, "cross_entropy: the part of the truth that goes to all classes alike, as in 0.1"
    )
    gamma: NonNegative = key(2.0, "focal: how strongly easy pixels are down-weighted")
    alpha: tuple[NonNegative, ...] | None = key(None, "focal: a factor per class, as in [0.75, 0.25]")
    class_weights: ClassWeighting | tuple[NonNegative, ...] = key(
        "none",
        "none, balanced, median_frequency, log, sqrt (from pixel counts), effective_number (from the number of images "
        "that show a class), or a list; for cross_entropy, focal and ohem",
    )
    dice_form: DiceForm = key(
        "plain", "dice: plain; squared (probabilities, in the denominator: V-Net); log_cosh (of the plain loss)"
    )
    tversky_alpha: NonNegative = key(0.3, "tversky, focal_tversky: weight of false positives")
    tversky_beta: NonNegative = key(0.7, "tversky, focal_tversky: weight of false negatives")
    focal_tversky_gamma: Positive = key(1.3333, "focal_tversky: the loss is (1 - T)^(1 / gamma)")
    ohem_threshold: Fraction = key(0.7, "ohem: pixels are hard if their true class has less than this probability")
    ohem_min_kept: Fraction = key(0.0625, "ohem: at least this fraction of an image's labelled pixels is hard")
    rmi_radius: Annotated[int, Ge(1), Le(10)] = key(3, "rmi: height and width of a region, in cells")
    rmi_pool: Count = key(3, "rmi: height and width of a cell, in pixels")
    schedule: dict[str, tuple[NonNegative, NonNegative]] = key(
        {},
        "what a weight is multiplied by, at the start and at the end of the run, linear between, as in "
        "{boundary: [0, 1]}; validation always takes the weights as they are above",
    )

    @property
    def weights(self) -> dict[str, float]:
        """The weight of each loss of the sum, by its name in the table of losses."""
        names = (
            "cross_entropy", "focal", "dice", "jaccard", "tversky", "focal_tversky", "mcc", "lovasz", "ohem",
            "boundary", "rmi",
        )  # fmt: skip
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class OptimConfig:
    name: Literal["adamw", "adam", "sgd", "rmsprop", "nadam", "lion", "muon"] = key("adamw", "optimizer: {choices}")
    lr: Positive = key(5e-4, "peak learning rate")
    encoder_lr: NonNegative = key(1.0, "the encoder's learning rate, as a factor of lr")
    layer_decay: Annotated[float, Gt(0), Le(1)] = key(
        1.0, "each block of the encoder learns at this factor of the rate of the block above it, as in 0.75; 1 is off"
    )
    groups: dict[str, dict[Literal["lr", "weight_decay"], NonNegative]] = key(
        {},
        "by pattern of parameter names (the first that fits counts): lr, a factor of the rate they would have, and "
        "weight_decay, as in {segmentation_head.*: {lr: 10}}",
    )
    reference_batch_size: Count | None = key(None, "scale lr by train.batch_size / this; null: lr is used as given")
    weight_decay: NonNegative = key(0.01, "not applied to biases and normalisation layers")
    l1: NonNegative = key(
        0.0,
        "each step brings weights nearer to 0 by the rate times this, and no further; what weight_decay leaves out "
        "is left out here too; 0 is off",
    )
    momentum: Annotated[float, Ge(0), Lt(1)] = key(0.9, "sgd, rmsprop, muon")
    nesterov: bool = key(True, "sgd, muon: momentum that looks ahead (Nesterov)")
    schedule: ScheduleName | tuple[tuple[ScheduleName, PartOfRun], ...] = key(
        "poly",
        "how lr falls over the run: {choices}; or several in order, each with the fraction of the run at which it "
        "ends, as in [[constant, 0.7], [linear, 1.0]]",
    )
    warmup: Fraction = key(0.05, "linear warm-up over this fraction of all steps")
    thaw_warmup: Fraction = key(
        0.0,
        "linear warm-up again, over this fraction of all steps, each time frozen parameters begin to train; 0 is off",
    )
    min_lr: Fraction = key(
        0.01, "poly, cosine, linear, exponential, one_cycle: where the rate ends, as a factor of lr; plateau: its least"
    )
    power: Positive = key(0.9, "poly: the rate falls as (1 - t)^power")
    cycles: Count = key(1, "cosine: how often the rate falls from lr to its end")
    cycle_factor: Annotated[float, Ge(1)] = key(1.0, "cosine: how much longer each cycle is than the one before it")
    step_epochs: tuple[Count, ...] = key((), "step: epochs after which the rate drops, as in [60, 80]")
    step_every: Annotated[int, Ge(0)] = key(0, "step: drop each time after so many epochs, instead of step_epochs")
    step_factor: Annotated[float, Gt(0), Lt(1)] = key(0.1, "step, plateau: what the rate is multiplied by at each drop")
    patience: Annotated[int, Ge(0)] = key(
        10, "plateau: drop after more validations in a row than this without a better mIoU"
    )
    rise: Annotated[float, Gt(0), Lt(1)] = key(0.3, "one_cycle: the rate rises over this fraction of the run")
    start_lr: Annotated[float, Gt(0), Le(1)] = key(0.04, "one_cycle: where the rate begins, as a factor of lr")

    @property
    def chain(self) -> tuple[tuple[ScheduleName, float], ...]:
        """The schedules in order, each with the fraction of the run at which it ends."""
        return ((self.schedule, 1.0),) if isinstance(self.schedule, str) else self.schedule

    @property
    def schedules(self) -> set[ScheduleName]:
        """The names of the schedules."""
        return {name for name, _ in self.chain}

    @property
    def warms_up(self) -> bool:
        """False for one_cycle, which has a rise of its own."""
        return self.schedule != "one_cycle"
