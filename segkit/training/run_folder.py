"""The folder of a run and what is written to it while it trains.

config.yaml (resolved), environment.json, data.csv (the images), log.csv (a row per epoch), metrics.json (scores of
best.pt), TensorBoard events, checkpoints/, and splits/ where the run drew its own validation share.
"""

import contextlib
import csv
import io
import json
import logging
import math
import os
import platform
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import filelock
import numpy as np

from segkit.classes import Classes
from segkit.config.reading import dump_config
from segkit.config.schema import ReportConfig, RunConfig
from segkit.errors import RunFolderError
from segkit.evaluation.confusion import Scores
from segkit.evaluation.measurement import Measured
from segkit.evaluation.protocol import EvaluationProtocol, MaskProtocol
from segkit.report.trackers import TRACKERS, Tracker
from segkit.runtime.files import lock, remove_parts, write_bytes_durably, writing
from segkit.runtime.machine import free_disk, resident_memory

if TYPE_CHECKING:
    import torch
    from torch import nn

log = logging.getLogger(__name__)

LOCK = ".lock"

FileRow = tuple[str, str, int, int]  # split, name, bytes of the image, bytes of the mask


@dataclass(frozen=True)
class EpochRow:
    """One row of log.csv. Losses are means over the epoch, lr is that of the decoder at the epoch's last step;
    `skipped` counts steps left out, see train.on_nonfinite. The last three are None in epochs without validation."""

    epoch: int
    step: int
    lr: float
    train_loss: float
    seconds: float
    images_per_second: float
    skipped: int = 0
    val_loss: float | None = None
    miou: float | None = None
    pixel_accuracy: float | None = None


class RunFolder:
    """The files of one run. Only the first rank has one that writes."""

    def __init__(
        self, path: Path, *, report: ReportConfig | None = None, settings: Mapping[str, Any] | None = None
    ) -> None:
        """`report` says where figures go beside log.csv; trackers are also told the run's `settings`, a flat config."""
        self.path = path
        self._report, self._settings = report or ReportConfig(), settings or {}
        self.last = path / "checkpoints" / "last.pt"
        self.previous = path / "checkpoints" / "previous.pt"  # what last.pt was before
        self.best = path / "checkpoints" / "best.pt"
        self.best_weights = path / "checkpoints" / "best.safetensors"
        self._unsaved = path / ".unsaved"  # there until the first checkpoint is
        self._log = path / "log.csv"
        self._data = path / "data.csv"
        self._created = False
        self._first_epoch: int | None = None  # that is written of again, in a resumed run
        self._trackers: list[Tracker] | None = None
        self._lock: filelock.FileLock | None = None

    def holds_checkpoint(self) -> bool:
        """True if there is something to resume from."""
        return self.last.is_file() or self.previous.is_file()

    def check_new(self) -> None:
        """Raises RunFolderError if the folder already holds something: a run is never overwritten.

        A run that was killed before its first checkpoint doesn't count; it is begun again.
        """
        if self.holds_checkpoint():
            raise RunFolderError(
                f"{self.path}: not empty, it holds a run, expected a new folder; continue it with --resume, or choose "
                "another with run=FOLDER"
            )
        holds = {entry.name for entry in self.path.iterdir()} - {LOCK} if self.path.is_dir() else set()
        if self.path.is_file() or (holds and not self._unsaved.is_file()):
            what = "it holds a run whose checkpoints are gone, " if "config.yaml" in holds else ""
            raise RunFolderError(
                f"{self.path}: not empty, {what}expected a new folder for this run; choose another with run=FOLDER"
            )

    def check_resumable(self) -> None:
        """Raises RunFolderError if there is nothing to resume from."""
        if not self.holds_checkpoint():
            raise RunFolderError(
                f"{self.path}: nothing to resume, {self.last.relative_to(self.path)} is missing; start the run "
                "without --resume, or name its folder with run=FOLDER"
            )

    def lock(self) -> None:
        """Keep other processes from training into this folder until `close`, or until this process ends.

        Raises:
            RunFolderError: another process does.
        """
        if self._lock is not None:
            return
        owner = self.path / LOCK
        with self._writing():
            self.path.mkdir(parents=True, exist_ok=True)
            try:
                self._lock = lock(owner, wait=False)
            except filelock.Timeout as error:
                raise RunFolderError(
                    f"{self.path}: another segkit is training into it ({owner.read_text().strip() or 'unknown'}), "
                    "expected one at a time; wait for it, stop it, or choose another folder with run=FOLDER"
                ) from error
            owner.write_text(f"process {os.getpid()} on {platform.node()}\n")

    def check_space(self, needed: int) -> None:
        """Raises RunFolderError if the disk has less than `needed` bytes free, before anything is written."""
        free = free_disk(self.path)
        if free < needed:
            raise RunFolderError(
                f"{self.path}: {free / 2**20:.0f} MiB free on its disk, expected at least {needed / 2**20:.0f} MiB for "
                "the run's checkpoints; free some space or write elsewhere with run=FOLDER"
            )

    def create(
        self,
        config: RunConfig,
        environment: dict[str, Any],
        *,
        splits: Mapping[str, Sequence[str]] | None = None,
        files: Sequence[FileRow] = (),
    ) -> None:
        """Write config.yaml, environment.json, splits/*.txt and data.csv (the images that the run is trained on).

        What a run that was killed early has left is removed.
        """
        with self._writing():
            self.path.mkdir(parents=True, exist_ok=True)
            self._unsaved.touch()
            (self.path / "checkpoints").mkdir(exist_ok=True)
            self._created = True
            for left in (self._log, self.path / "metrics.json", self.best, self.best_weights):
                left.unlink(missing_ok=True)
            for left in self.path.glob("events.out.tfevents*"):
                left.unlink()
            remove_parts(self.path / "checkpoints")
            (self.path / "config.yaml").write_text(dump_config(config), encoding="utf-8")
            (self.path / "environment.json").write_text(json.dumps(environment, indent=2) + "\n")
            _write_csv(self._data, ("split", "name", "image_bytes", "mask_bytes"), files)
            for split, names in (splits or {}).items():
                (self.path / "splits").mkdir(exist_ok=True)
                (self.path / "splits" / f"{split}.txt").write_text("\n".join(names) + "\n", encoding="utf-8")

    def files(self) -> list[FileRow]:
        """Return the images that the run was begun with: rows of split, name, bytes of the image and of the mask."""
        if not self._data.is_file():
            return []
        with self._data.open(newline="", encoding="utf-8") as file:
            return [(row[0], row[1], int(row[2]), int(row[3])) for row in list(csv.reader(file))[1:]]

    def discard_if_empty(self) -> None:
        """Remove the folder if this object made it and no checkpoint came to be in it: no half-written runs."""
        self.close()
        if self._created and not self.holds_checkpoint():
            shutil.rmtree(self.path, ignore_errors=True)

    def saved(self) -> None:
        """Note that there is a checkpoint now: from here on the folder is never begun again."""
        self._unsaved.unlink(missing_ok=True)

    def set_aside(self) -> None:
        """Give a damaged last.pt another name, so that it won't become the generation before the next one."""
        if self.last.is_file():
            self.last.replace(self.last.with_name("last.damaged.pt"))

    def reopen(self, step: int, epoch: int) -> None:
        """Go on after a checkpoint of `step`, in `epoch` (from 1): what was written after it, or half, is removed."""
        remove_parts(self.path / "checkpoints")
        self._first_epoch = epoch
        if not self._log.is_file():
            if epoch > 1:
                lost = "warning: %s is missing: the rows of the first %d epochs are lost"
                log.warning(lost, self._log, epoch - 1)
            return
        with self._log.open(newline="") as file:
            # a last row that a crash cut short has no step, or columns that are missing (None)
            rows = [row for row in csv.DictReader(file) if None not in row.values() and int(row["step"] or 0) <= step]
        names = [spec.name for spec in fields(EpochRow)]
        _write_csv(self._log, names, [[row.get(name, "") for name in names] for row in rows])

    def add(self, row: EpochRow) -> None:
        """Append a row to log.csv, and give the same figures to the trackers, with the memory in use."""
        new = not self._log.is_file()
        with self._writing(), self._log.open("a", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            if new:
                writer.writerow(asdict(row))
            writer.writerow("" if value is None else value for value in asdict(row).values())
            file.flush()
            os.fsync(file.fileno())
        figures = {name: value for name, value in asdict(row).items() if name not in ("epoch", "step")}
        known = {name: value for name, value in figures.items() if value is not None}
        self._scalars({**known, "memory_mib": resident_memory() / 2**20}, row.epoch)

    def add_terms(self, terms: Mapping[str, float], epoch: int) -> None:
        """Give the mean of each term of the loss to the trackers; of a loss of one term that is the loss."""
        if len(terms) > 1:
            self._scalars({f"loss/{name}": value for name, value in terms.items()}, epoch)

    def add_scores(self, scores: Scores, classes: Classes, epoch: int) -> None:
        """Give each class's IoU, accuracy, precision and Dice to the trackers, and their means."""
        values = {
            f"{figure}/{name}": value
            for figure in ("iou", "accuracy", "precision", "dice")
            for name, value in zip(classes.names, getattr(scores, figure).tolist(), strict=True)
            if not math.isnan(value)
        }
        means = {name: getattr(scores, name) for name in ("mean_accuracy", "mean_precision", "mean_dice", "fw_iou")}
        self._scalars({**values, **{name: value for name, value in means.items() if not math.isnan(value)}}, epoch)

    def add_image(self, name: str, image: np.ndarray, epoch: int) -> None:
        """Give an image, uint8 RGB [h, w, 3], to the trackers."""
        with self._writing():
            for tracker in self._opened():
                tracker.image(name, image, epoch)

    def add_weights(self, model: "nn.Module", epoch: int) -> None:
        """Give the distribution of each parameter to the trackers, if report.histograms says so."""
        if self._report.histograms:
            self._histograms({f"weights/{name}": weight.detach() for name, weight in model.named_parameters()}, epoch)

    def add_gradients(self, model: "nn.Module", epoch: int, *, scale: float) -> None:
        """Give the norm of the epoch's last gradient to the trackers, and its distribution as `add_weights` does.

        `scale` is the factor that it still holds (GradScaler's); what was clipped is given as it was used.
        """
        gradients = {
            f"gradients/{name}": weight.grad / scale
            for name, weight in model.named_parameters()
            if weight.grad is not None
        }
        if not self._report.trackers or not gradients:
            return
        norm = math.sqrt(sum(float(gradient.float().square().sum()) for gradient in gradients.values()))
        if math.isfinite(norm):
            self._scalars({"grad_norm": norm}, epoch)
            if self._report.histograms:
                self._histograms(gradients, epoch)

    def _histograms(self, values: "Mapping[str, torch.Tensor]", epoch: int) -> None:
        with self._writing():
            for name, each in values.items():
                for tracker in self._opened():
                    tracker.histogram(name, each.float().cpu().numpy(), epoch)

    def finish(self, scores: Scores | None) -> None:
        """Give the trackers the final figures of a run that is done."""
        if scores is not None:
            with self._writing():
                for tracker in self._opened():
                    tracker.finish({"miou": scores.miou, "pixel_accuracy": scores.pixel_accuracy})

    def _scalars(self, values: Mapping[str, float], epoch: int) -> None:
        with self._writing():
            for tracker in self._opened():
                tracker.scalars(values, epoch)

    def write_metrics(self, scores: Scores, classes: Classes, protocol: EvaluationProtocol) -> None:
        """Write metrics.json."""
        with self._writing():
            write_metrics(self.path, scores, classes, protocol)

    def confusion(self) -> list[list[int]] | None:
        """Return the confusion matrix in metrics.json; None where the file is missing or damaged."""
        try:
            matrix: list[list[int]] = json.loads((self.path / "metrics.json").read_text())["confusion"]
        except (OSError, ValueError, KeyError):
            return None
        return matrix

    def _opened(self) -> list[Tracker]:
        """The trackers, opened on first use: TensorBoard's import takes a second."""
        if self._trackers is None:
            self._trackers = [
                TRACKERS[name](self.path, self._settings, self._first_epoch) for name in self._report.trackers
            ]
        return self._trackers

    def _writing(self) -> contextlib.AbstractContextManager[None]:
        remedy = "free some space or choose another folder with run=FOLDER. Existing checkpoints are untouched"
        return writing(self.path, remedy=remedy)

    def close(self) -> None:
        for tracker in self._trackers or ():
            tracker.close()
        self._trackers = None
        if self._lock is not None:
            with contextlib.suppress(OSError):
                (self.path / LOCK).unlink()
            self._lock.release()
            self._lock = None
            with contextlib.suppress(OSError):  # not empty, as it should be
                self.path.rmdir()


def write_metrics(
    folder: Path,
    scores: Scores,
    classes: Classes,
    protocol: EvaluationProtocol | MaskProtocol,
    *,
    measured: Measured | None = None,
) -> None:
    """Write metrics.json into an existing folder: names as in Scores.to_dict, or those of every figure that was
    measured, and `protocol`; NaN as null.
    """
    content = measured.to_dict() if measured else scores.to_dict(classes)
    content["protocol"] = protocol.to_dict()
    text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    write_bytes_durably(folder / "metrics.json", text.encode())


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    write_bytes_durably(path, text.getvalue().encode())
