"""Checkpoints: everything a run needs to go on, and everything that evaluation and prediction need to start.

Files are read with weights_only, so nothing in them is executed, and written beside and then moved into place, so an
interrupted save leaves the old file whole.
"""

import contextlib
import errno
import os
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from segkit import __version__
from segkit.classes import Classes
from segkit.config import ModelConfig, RunConfig, config_from_dict, config_to_dict
from segkit.errors import CheckpointError, RunFolderError
from segkit.models.segmenter import Segmenter
from segkit.models.table import build_model

FORMAT = 1


@dataclass
class Progress:
    """How far a run is. `step` counts optimizer steps since the start; the sums are those of the unfinished epoch."""

    step: int = 0
    epoch_loss: float = 0.0
    epoch_seconds: float = 0.0
    best_epoch: int = 0
    best_confusion: list[list[int]] | None = None


@dataclass
class Checkpoint:
    """What a checkpoint file holds. Without training state (optimizer, ...) it still evaluates and predicts.

    There is no random state in it: every random number is a function of seed, epoch, step, index and rank.
    `held_out` names the pictures that `data.val_fraction` took for validation; `data_id` stands for the names of all
    pictures, in order, so that a run isn't resumed on other ones.
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
    version: str = __version__

    def save(self, path: Path) -> None:
        """Write the file.

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
            "version": self.version,
        }
        write_beside(path, lambda part: torch.save(content, part))

    @classmethod
    def load(cls, path: Path | str) -> "Checkpoint":
        """Read a file on the CPU; nothing in it is executed.

        Raises:
            CheckpointError: missing, truncated, of another program, of a newer segkit, or with code in it.
        """
        path = Path(path)
        content = _read(path)
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
        return cls(
            weights=content["weights"],
            config=config_from_dict(content["config"], where=f"the config in {path}"),
            classes=Classes.from_dict(content["classes"]),
            progress=Progress(**content["progress"]),
            held_out=content["held_out"],
            data_id=content.get("data_id"),
            ema=content["ema"],
            ema_updates=content["ema_updates"],
            optimizer=content["optimizer"],
            scaler=content["scaler"],
            version=content["version"],
        )

    def build(self) -> Segmenter:
        """Return the model with the weights to evaluate and predict with: the moving average, where there is one."""
        segmenter = build_model(self.config.model, len(self.classes), pretrained=False)
        restore(segmenter, self.ema or self.weights, model=self.config.model)
        return segmenter.eval()


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


def write_beside(path: Path, write: Callable[[Path], None]) -> None:
    """Call `write` with a path beside `path`, flush what it wrote to the disk, and move it into place.

    Raises:
        RunFolderError: no space or no permission; an older file at `path` is left as it was.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(part)
        with part.open("rb") as written:
            os.fsync(written.fileno())
        os.replace(part, path)
    except (OSError, RuntimeError) as error:  # torch's zip writer turns a full disk into a RuntimeError
        with contextlib.suppress(OSError):
            part.unlink()
        free = shutil.disk_usage(path.parent).free if path.parent.is_dir() else 0
        full = getattr(error, "errno", None) == errno.ENOSPC or free < 2**20 or "file write failed" in str(error)
        raise RunFolderError(
            f"{path}: can't be written ({'no space left on the disk' if full else error}), {free / 2**20:.0f} MiB are "
            "free there; free some space or write elsewhere with run=FOLDER. An older file of that name is untouched"
        ) from error


def _read(path: Path) -> Any:
    if path.is_dir():
        raise CheckpointError(f"{path}: a folder, expected a file; of a run, give {path}/checkpoints/best.pt")
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; expected a checkpoint such as runs/NAME/checkpoints/best.pt")
    if not zipfile.is_zipfile(path):
        raise CheckpointError(
            f"{path}: not a checkpoint, or truncated ({path.stat().st_size} bytes, no zip directory at its end); copy "
            "it again, or use another checkpoint of the run"
        )
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the unpickler raises many types for a file that isn't what it says
        raise CheckpointError(
            f"{path}: refused: it is damaged, or holds objects other than tensors and plain values, which could run "
            "code when loaded; expected a checkpoint written by segkit"
        ) from error
