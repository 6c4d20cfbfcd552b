"""One YAML file per experiment: its sections, their keys and defaults.

Defaults live in these dataclasses and nowhere else; configs/reference.yaml explains every key. The rest of the program
sees plain frozen dataclasses. Existence of files and encoders is checked where they are used.
"""

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Lt

from segkit.errors import ConfigError

Fraction = Annotated[float, Ge(0), Le(1)]
Positive = Annotated[float, Gt(0)]
NonNegative = Annotated[float, Ge(0)]
Count = Annotated[int, Ge(1)]
RGBValue = tuple[int, int, int]
CacheName = Literal["none", "ram", "disk"]
LayoutName = Literal["voc", "folders", "webdataset"]
SamplerName = Literal["uniform", "class_balanced", "repeat_factor"]
ModelName = Literal[
    "unet", "unetplusplus", "manet", "linknet", "fpn", "pspnet", "deeplabv3", "deeplabv3plus", "pan", "upernet",
    "segformer", "dpt", "lite_unet",
]  # fmt: skip
ClassWeighting = Literal["none", "balanced", "median_frequency", "log", "sqrt", "effective_number"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]


@dataclass(frozen=True)
class DataConfig:
    root: str = ""
    layout: LayoutName = "voc"
    train: str = "train"
    val: str = "val"
    val_fraction: Annotated[float, Ge(0), Lt(1)] = 0.0
    classes: tuple[str, ...] | str | None = None
    ignore_index: Annotated[int, Ge(2), Le(255)] = 255
    mask_values: tuple[int, ...] | tuple[RGBValue, ...] | None = None
    ignore_values: tuple[int, ...] | tuple[RGBValue, ...] | Literal["rest"] = ()
    canvas: tuple[Annotated[int, Ge(8)], Annotated[int, Ge(8)]] = (512, 512)
    cache: CacheName = "none"
    cache_gib: Positive = 4.0
    sampler: SamplerName = "uniform"
    repeat_threshold: Annotated[float, Gt(0), Le(1)] = 0.3


@dataclass(frozen=True)
class AugmentConfig:
    crop: tuple[Annotated[int, Ge(8)], Annotated[int, Ge(8)]] | None = None
    scale: tuple[Positive, Positive] = (0.25, 2.0)
    aspect: Annotated[float, Ge(0), Lt(1)] = 0.3
    flip: Fraction = 0.5
    rare_crops: Fraction = 0.0
    hue: Annotated[float, Ge(0), Le(1)] = 0.1
    saturation: Annotated[float, Ge(0), Le(1)] = 0.7
    value: Annotated[float, Ge(0), Le(1)] = 0.3


@dataclass(frozen=True)
class ModelConfig:
    name: ModelName = "unet"
    encoder: str = "resnet34"
    pretrained: str = "imagenet"
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class LossConfig:
    cross_entropy: NonNegative = 1.0
    focal: NonNegative = 0.0
    dice: NonNegative = 0.0
    gamma: NonNegative = 2.0
    alpha: tuple[NonNegative, ...] | None = None
    class_weights: ClassWeighting | tuple[NonNegative, ...] = "none"


@dataclass(frozen=True)
class OptimConfig:
    name: Literal["adamw", "adam", "sgd"] = "adamw"
    lr: Positive = 5e-4
    encoder_lr: NonNegative = 1.0
    reference_batch_size: Count | None = None
    weight_decay: NonNegative = 0.01
    momentum: Annotated[float, Ge(0), Lt(1)] = 0.9
    schedule: Literal["poly", "cosine", "step", "constant"] = "poly"
    warmup: Fraction = 0.05
    min_lr: Fraction = 0.01
    power: Positive = 0.9
    step_epochs: tuple[Count, ...] = ()
    step_factor: Annotated[float, Gt(0), Lt(1)] = 0.1


@dataclass(frozen=True)
class TrainConfig:
    epochs: Count = 100
    batch_size: Count | Literal["auto"] = 8
    accumulate: Count = 1
    workers: Annotated[int, Ge(0)] | Literal["auto"] = "auto"
    device: str = "auto"
    precision: Precision = "auto"
    channels_last: bool = True
    compile: bool = False
    seed: Annotated[int, Ge(0), Lt(2**63)] = 0
    deterministic: bool = True
    clip_norm: NonNegative = 0.0
    ema: Annotated[float, Ge(0), Lt(1)] = 0.0
    freeze_epochs: Annotated[int, Ge(0)] = 0
    sync_bn: bool = False
    gradient_compression: Literal["none", "fp16", "bf16"] = "none"
    sharding: Literal["none", "fsdp2"] = "none"
    on_nonfinite: Literal["stop", "skip"] = "stop"
    checkpoint_every_steps: Annotated[int, Ge(0)] = 0
    checkpoint_every_minutes: NonNegative = 10.0
    start_method: Literal["auto", "fork", "spawn"] = "auto"
    timeout_minutes: Positive = 10.0
    profile: bool = False

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
    every: Count = 1
    batch_size: Count = 8
    pictures: Annotated[int, Ge(0)] = 4


@dataclass(frozen=True)
class RunConfig:
    """A whole experiment. `run` is the folder that holds its results."""

    run: str = ""
    data: DataConfig = field(default_factory=DataConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
