"""Checkpoints: everything a run needs to resume, and everything that evaluation and prediction need to start.

Two forms: `.pt` holds all of it; `.safetensors` holds the weights to predict with, and as metadata what they need.
Nothing in them is executed when they are read. How a file outlives a crash is in segkit/runtime/files.py.
"""

import copy
import hashlib
import json
import zipfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from segkit import __version__
from segkit.classes import Classes
from segkit.config.reading import config_from_dict, config_to_dict
from segkit.config.schema import ModelConfig, RunConfig
from segkit.errors import CheckpointError, first_line
from segkit.models.origin import Origin
from segkit.models.segmenter import Segmenter
from segkit.models.table import build_model
from segkit.runtime.files import is_damaged, write_bytes_durably, write_durably

FORMAT = 2


@dataclass
class Progress:
    """How far a run is. `step` counts optimizer steps since the start; the sums are those of the unfinished epoch.

    Each rank has a sum of losses of its own, so that adding them up at the end gives the same bits.
    """

    step: int = 0
    epoch_losses: list[float] = field(default_factory=list)
    epoch_terms: list[list[float]] = field(default_factory=list)  # of each rank, each term of the loss
    epoch_seconds: float = 0.0
    epoch_skipped: int = 0  # steps whose loss or gradient was not finite
    skipped: int = 0  # the same, in the whole run
    best_epoch: int = 0
    best_confusion: list[list[int]] | None = None
    # of optim.schedule: plateau
    plateau_miou: float | None = None  # the best so far
    plateau_waited: int = 0  # validations since then, or since the last drop
    plateau_drops: int = 0


@dataclass
class Checkpoint:
    """What a checkpoint file holds. Without training state (optimizer, ...) it still evaluates and predicts.

    There is no random state in it: every random number is a function of seed, epoch, step, index and rank.
    `held_out` names the images that `data.val_fraction` took for validation; `data_id` stands for the names of all
    images, in order, so that a run isn't resumed on other ones. `zoom` is the median over the training images of the
    factor at which one just fits `data.canvas`, None in files from before it was noted. `postprocess` holds the rules
    that `segkit postprocess` found for these weights (see segkit/inference/postprocess.py) as plain values,
    `temperature` what `segkit calibrate` found (see segkit/inference/temperature.py); training writes none.
    `pretrained` says where the weights come from that the run started from, and their licence; None where it started at
    random, and in files from before it was noted.
    """

    weights: dict[str, torch.Tensor]
    config: RunConfig
    classes: Classes
    progress: Progress = field(default_factory=Progress)
    held_out: list[str] | None = None
    data_id: str | None = None
    ema: dict[str, torch.Tensor] | None = None
    ema_updates: int = 0
    optimizer: dict[str, Any] | None = None
    scaler: dict[str, Any] | None = None
    postprocess: dict[str, Any] | None = None
    temperature: float | None = None
    version: str = __version__
    zoom: float | None = None
    pretrained: Origin | None = None

    @property
    def smallest_zoom(self) -> float | None:
        """The smallest factor by which training scaled an image of the median size; None where `zoom` is."""
        return None if self.zoom is None else self.zoom * self.config.augment.scale[0]

    @property
    def num_bytes(self) -> int:
        """About how large the file will be."""
        return sum(tensor.nbytes for tensor in _tensors(self.__dict__))

    def on_host(self) -> "Checkpoint":
        """Return a copy that shares nothing, its tensors in host memory: to be written while training continues."""
        state = {name: _on_host(getattr(self, name)) for name in ("weights", "ema", "optimizer", "scaler")}
        return replace(self, progress=copy.deepcopy(self.progress), **state)

    def save(self, path: Path, *, previous: Path | None = None) -> None:
        """Write the file; one that exists becomes `previous`, where given.

        Raises:
            RunFolderError: no space or no permission; an older file of that name is still whole.
        """
        content = {
            "segkit": FORMAT,
            "weights": self.weights,
            "config": config_to_dict(self.config),
            "classes": self.classes.to_dict(),
            "progress": asdict(self.progress),
            "held_out": self.held_out,
            "data_id": self.data_id,
            "ema": self.ema,
            "ema_updates": self.ema_updates,
            "optimizer": self.optimizer,
            "scaler": self.scaler,
            "postprocess": self.postprocess,
            "temperature": self.temperature,
            "version": self.version,
            "zoom": self.zoom,
            "pretrained": self.pretrained.to_dict() if self.pretrained else None,
        }
        write_durably(
            path, lambda file: torch.save(content, file), sealed=True, previous=previous, needed=self.num_bytes
        )

    def save_weights(self, path: Path) -> None:
        """Write the weights to predict with as .safetensors; its metadata says what they are and how to use them.

        Metadata `segkit` is JSON: config, classes (names, RGB colours, ignore_index), canvas [H, W], normalization
        (mean and std of RGB in 0..1), held_out, zoom, postprocess, temperature, pretrained, version. Metadata `sha256`
        is the digest of that and of the tensors.

        Raises:
            RunFolderError: as `save`.
        """
        tensors = {name: tensor.contiguous() for name, tensor in (self.ema or self.weights).items()}
        about = json.dumps(
            {
                "segkit": FORMAT,
                "version": self.version,
                "classes": self.classes.to_dict(),
                "canvas": self.config.data.canvas,
                "normalization": {name: (tensors[name].flatten() / 255).tolist() for name in ("mean", "std")},
                "config": config_to_dict(self.config),
                "held_out": self.held_out,
                "zoom": self.zoom,
                "postprocess": self.postprocess,
                "temperature": self.temperature,
                "pretrained": self.pretrained.to_dict() if self.pretrained else None,
            }
        )
        metadata = {"format": "pt", "segkit": about, "sha256": _digest(about, tensors)}
        content = safetensors.torch.save(tensors, metadata)
        write_bytes_durably(path, content)

    @classmethod
    def load(cls, path: Path | str) -> "Checkpoint":
        """Read a file on the CPU; nothing in it is executed.

        Raises:
            CheckpointError: missing, damaged, of another program, of a newer segkit, or with code in it.
        """
        path = Path(path)
        _check_file(path)
        content = _read_weights(path) if path.suffix == ".safetensors" else _read(path)
        if not isinstance(content, dict) or "segkit" not in content:
            names = f" (it holds {', '.join(map(str, list(content)[:4]))}, ...)" if isinstance(content, dict) else ""
            raise CheckpointError(
                f"{path}: not a checkpoint of segkit{names}; expected best.pt or last.pt of a run. To start training "
                f"from its weights: model.pretrained={path}"
            )
        if content["segkit"] > FORMAT:
            raise CheckpointError(
                f"{path}: written by segkit {content['version']} in a newer format, this is {__version__}; update "
                "segkit"
            )
        if content["segkit"] < FORMAT:
            raise CheckpointError(
                f"{path}: written by a segkit from before its first release, in a format that is no longer read; its "
                f"weights can be trained on with model.pretrained={path}"
            )
        return cls(
            weights=content["weights"],
            config=config_from_dict(content["config"], where=f"the config in {path}"),
            classes=Classes.from_dict(content["classes"]),
            progress=Progress(**content.get("progress", {})),
            held_out=content["held_out"],
            data_id=content.get("data_id"),
            ema=content.get("ema"),
            ema_updates=content.get("ema_updates", 0),
            optimizer=content.get("optimizer"),
            scaler=content.get("scaler"),
            postprocess=content.get("postprocess"),
            temperature=content.get("temperature"),
            version=content["version"],
            zoom=content.get("zoom"),
            pretrained=Origin.from_dict(content.get("pretrained")),
        )

    def build(self) -> Segmenter:
        """Return the model with the weights to evaluate and predict with: the moving average, if the run had one."""
        segmenter = build_model(self.config.model, len(self.classes), pretrained=False)
        restore(segmenter, self.ema or self.weights, model=self.config.model)
        segmenter.origin = self.pretrained
        return segmenter.eval()

    def without_training_state(self) -> "Checkpoint":
        """Return what is needed to evaluate and predict: a third of the memory, or a quarter of it."""
        return replace(self, weights=self.ema or self.weights, ema=None, optimizer=None, scaler=None)


def restore(segmenter: Segmenter, weights: dict[str, torch.Tensor], *, model: ModelConfig) -> None:
    """Load weights into a model, all of them.

    Raises:
        CheckpointError: names or shapes differ.
    """
    try:
        segmenter.load_state_dict(weights)
    except RuntimeError as error:
        raise CheckpointError(
            f"the checkpoint's weights don't fit {model.name} with encoder {model.encoder}, though its config names "
            f"them: {str(error).splitlines()[-1].strip()}; was it trained with another segmentation-models-pytorch?"
        ) from error


# ---- reading and writing


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise CheckpointError(f"{path}: a folder, expected a file; of a run, give {path}/checkpoints/best.pt")
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; expected a checkpoint such as runs/NAME/checkpoints/best.pt")


def _read(path: Path) -> Any:
    if not zipfile.is_zipfile(path):
        raise CheckpointError(
            f"{path}: not a checkpoint, or truncated ({path.stat().st_size} bytes, no zip directory at its end); copy "
            "it again, or use another checkpoint of the run"
        )
    if is_damaged(path):
        raise CheckpointError(
            f"{path}: damaged: its content doesn't match its checksum (SHA-256); copy it again, or use another "
            "checkpoint of the run"
        )
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the unpickler raises many types for a file that isn't what it says
        raise CheckpointError(
            f"{path}: refused: it is damaged, or holds objects other than tensors and plain values, which could run "
            "code when loaded; expected a checkpoint written by segkit"
        ) from error


def _read_weights(path: Path) -> dict[str, Any]:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (OSError, safetensors.SafetensorError) as error:
        raise CheckpointError(
            f"{path}: not a safetensors file, or truncated ({first_line(error)}); copy it again"
        ) from error
    if "segkit" not in metadata:
        raise CheckpointError(
            f"{path}: weights without segkit's metadata; expected best.safetensors of a run. To start training from "
            f"them: model.pretrained={path}"
        )
    if metadata.get("sha256") != _digest(metadata["segkit"], weights):
        raise CheckpointError(f"{path}: damaged: its content doesn't match its checksum (SHA-256); copy it again")
    return {**json.loads(metadata["segkit"]), "weights": weights}


def _digest(about: str, tensors: dict[str, torch.Tensor]) -> str:
    digest = hashlib.sha256(about.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _on_host(value: Any) -> Any:
    """Copy nested dicts and lists, with each tensor in host memory of its own."""
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: _on_host(inner) for key, inner in value.items()}
    return [_on_host(inner) for inner in value] if isinstance(value, list) else value


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ():
        yield from _tensors(inner)
