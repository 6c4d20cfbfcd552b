"""The folder of a run and what is written to it while training goes on.

config.yaml (resolved), environment.json, log.csv (a row per epoch), metrics.json (scores of best.pt), TensorBoard
events, checkpoints/, and splits/ where the run drew its own validation share.
"""

import contextlib
import csv
import io
import json
import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from segkit.classes import Classes
from segkit.config import RunConfig, dump_config
from segkit.errors import RunFolderError
from segkit.metrics import Scores
from segkit.runtime import free_disk


@dataclass(frozen=True)
class EpochRow:
    """One row of log.csv. Losses are means over the epoch, lr is that of the decoder at the epoch's last step.
    The last three are None in epochs without validation."""

    epoch: int
    step: int
    lr: float
    train_loss: float
    seconds: float
    images_per_second: float
    val_loss: float | None = None
    miou: float | None = None
    pixel_accuracy: float | None = None


class RunFolder:
    """The files of one run. Only the first rank has one that writes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.last = path / "checkpoints" / "last.pt"
        self.best = path / "checkpoints" / "best.pt"
        self._log = path / "log.csv"
        self._created = False
        self._board: Any = None

    def check_new(self) -> None:
        """Raises RunFolderError if the folder already holds something: a run is never overwritten."""
        if self.path.is_file() or (self.path.is_dir() and any(self.path.iterdir())):
            how = "continue it with --resume, or " if self.last.is_file() else ""
            raise RunFolderError(
                f"{self.path}: not empty, expected a new folder for this run; {how}choose another with run=FOLDER"
            )

    def check_resumable(self) -> None:
        """Raises RunFolderError if there is nothing to go on from."""
        if not self.last.is_file():
            raise RunFolderError(
                f"{self.path}: nothing to resume, {self.last.relative_to(self.path)} isn't there; start the run "
                "without --resume, or name its folder with run=FOLDER"
            )

    def check_space(self, needed: int) -> None:
        """Raises RunFolderError if the disk has less than `needed` bytes free, before anything is written."""
        free = free_disk(self.path)
        if free < needed:
            raise RunFolderError(
                f"{self.path}: {free / 2**20:.0f} MiB free on its disk, expected at least {needed / 2**20:.0f} MiB for "
                "the run's checkpoints; free some space or write elsewhere with run=FOLDER"
            )

    def create(self, config: RunConfig, environment: dict[str, Any], splits: Mapping[str, Sequence[str]]) -> None:
        """Write config.yaml, environment.json and splits/*.txt."""
        with self._writing():
            (self.path / "checkpoints").mkdir(parents=True, exist_ok=True)
            self._created = True
            (self.path / "config.yaml").write_text(dump_config(config), encoding="utf-8")
            (self.path / "environment.json").write_text(json.dumps(environment, indent=2) + "\n")
            for split, names in splits.items():
                (self.path / "splits").mkdir(exist_ok=True)
                (self.path / "splits" / f"{split}.txt").write_text("\n".join(names) + "\n", encoding="utf-8")

    def discard_if_empty(self) -> None:
        """Remove the folder if this object made it and no checkpoint came to be in it: no half-written runs."""
        self.close()
        if self._created and not any((self.path / "checkpoints").iterdir()):
            shutil.rmtree(self.path)

    def trim_log(self, step: int) -> None:
        """Drop rows of log.csv beyond `step`: they were written after the checkpoint that a run resumes from."""
        if not self._log.is_file():
            return
        with self._log.open(newline="") as file:
            # a last row that a crash cut short has no step, or columns that are missing (None)
            rows = [row for row in csv.DictReader(file) if None not in row.values() and int(row["step"] or 0) <= step]
        text = io.StringIO()
        writer = csv.DictWriter(text, [spec.name for spec in fields(EpochRow)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        with self._writing():
            self._log.write_text(text.getvalue())

    def add(self, row: EpochRow) -> None:
        """Append a row to log.csv and the same figures to TensorBoard, by epoch."""
        new = not self._log.is_file()
        with self._writing(), self._log.open("a", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            if new:
                writer.writerow(asdict(row))
            writer.writerow("" if value is None else value for value in asdict(row).values())
        for name, value in asdict(row).items():
            if name not in ("epoch", "step") and value is not None:
                self.board.add_scalar(name, value, row.epoch)

    def add_scores(self, scores: Scores, classes: Classes, epoch: int) -> None:
        """Add each class's IoU to TensorBoard."""
        for name, iou in zip(classes.names, scores.iou.tolist(), strict=True):
            if not math.isnan(iou):
                self.board.add_scalar(f"iou/{name}", iou, epoch)

    def add_picture(self, name: str, picture: np.ndarray, epoch: int) -> None:
        """Add a picture, uint8 RGB [h, w, 3], to TensorBoard."""
        self.board.add_image(name, picture, epoch, dataformats="HWC")

    def write_metrics(self, scores: Scores, classes: Classes) -> None:
        """Write metrics.json."""
        with self._writing():
            write_metrics(self.path, scores, classes)

    @property
    def board(self) -> Any:
        """The TensorBoard writer, opened on first use (its import takes a second)."""
        if self._board is None:
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(self.path))
        return self._board

    def _writing(self) -> contextlib.AbstractContextManager[None]:
        remedy = "free some space or choose another folder with run=FOLDER. Checkpoints that are there are untouched"
        return writing(self.path, remedy=remedy)

    def close(self) -> None:
        if self._board is not None:
            self._board.close()
            self._board = None


@contextlib.contextmanager
def writing(folder: Path, *, remedy: str) -> Iterator[None]:
    """Turn any OSError of the block into a RunFolderError that names the folder and the remedy."""
    try:
        yield
    except OSError as error:
        raise RunFolderError(f"{folder}: can't be written ({error.strerror}); {remedy}") from error


def write_metrics(folder: Path, scores: Scores, classes: Classes) -> None:
    """Write metrics.json (names as in Scores.to_dict; NaN as null) into a folder that is there."""
    text = json.dumps(scores.to_dict(classes), indent=2, allow_nan=False) + "\n"
    part = folder / ".metrics.json.part"
    part.write_text(text, encoding="utf-8")
    part.replace(folder / "metrics.json")
