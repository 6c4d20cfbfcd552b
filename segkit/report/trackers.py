"""Where the figures of a training go beside log.csv: one small interface, and a class for each place.

To add one, write a class and give it a line in `TRACKERS`; the config key report.trackers names it then.
"""

import csv
import importlib.util
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from segkit.errors import ConfigError
from segkit.runtime.files import write_bytes_durably

log = logging.getLogger(__name__)


class Tracker(Protocol):
    """Takes what a run has to say, by epoch from 1. A resumed run says some epochs again; the later word counts."""

    def __init__(self, folder: Path, settings: Mapping[str, Any], first_epoch: int | None) -> None:
        """`settings` is the config, flat; `first_epoch` is the one that a resumed run goes on with, else None."""

    def scalars(self, values: Mapping[str, float], epoch: int) -> None:
        """Take figures by name."""

    def image(self, name: str, image: np.ndarray, epoch: int) -> None:
        """Take an image, uint8 RGB [h, w, 3]."""

    def histogram(self, name: str, values: np.ndarray, epoch: int) -> None:
        """Take the distribution of numbers."""

    def finish(self, scores: Mapping[str, float]) -> None:
        """Take the final figures, once, when the run is done."""

    def close(self) -> None:
        """Write what is left."""


class TensorBoard:
    """Event files in the run folder; hyperparameters beside the final figures under HPARAMS."""

    def __init__(self, folder: Path, settings: Mapping[str, Any], first_epoch: int | None) -> None:
        from torch.utils.tensorboard import SummaryWriter  # here: its import takes a second

        # what a killed run wrote of these epochs is dropped by TensorBoard
        self.writer, self.settings = SummaryWriter(str(folder), purge_step=first_epoch), settings

    def scalars(self, values: Mapping[str, float], epoch: int) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, epoch)

    def image(self, name: str, image: np.ndarray, epoch: int) -> None:
        self.writer.add_image(name, image, epoch, dataformats="HWC")

    def histogram(self, name: str, values: np.ndarray, epoch: int) -> None:
        self.writer.add_histogram(name, values, epoch)

    def finish(self, scores: Mapping[str, float]) -> None:
        from torch.utils.tensorboard.summary import hparams

        plain = {
            key: value if isinstance(value, int | float | bool) else str(value) for key, value in self.settings.items()
        }
        final = {f"final/{name}": value for name, value in scores.items()}
        for summary in hparams(plain, final):
            self.writer._get_file_writer().add_summary(summary)
        self.scalars(final, 0)

    def close(self) -> None:
        self.writer.close()


class CsvFile:
    """figures.csv in the run folder: a row of epoch, name and value for every figure."""

    def __init__(self, folder: Path, settings: Mapping[str, Any], first_epoch: int | None) -> None:
        self.path = folder / "figures.csv"
        kept = []
        if first_epoch is not None and self.path.is_file():
            with self.path.open(newline="", encoding="utf-8") as file:
                rows = list(csv.reader(file))[1:]
            kept = [row for row in rows if len(row) == 3 and row[0].isdecimal() and int(row[0]) < first_epoch]
        lines = [["epoch", "name", "value"], *kept]
        write_bytes_durably(self.path, "".join(",".join(line) + "\n" for line in lines).encode())

    def scalars(self, values: Mapping[str, float], epoch: int) -> None:
        with self.path.open("a", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows(
                [epoch, name, repr(value)] for name, value in values.items()
            )

    def image(self, name: str, image: np.ndarray, epoch: int) -> None:
        """Images have no place in a table."""

    def histogram(self, name: str, values: np.ndarray, epoch: int) -> None:
        """Nor have histograms."""

    def finish(self, scores: Mapping[str, float]) -> None:
        """The last epoch's figures are there."""

    def close(self) -> None:
        """Every row is written when it comes."""


class Wandb:
    """A run of Weights & Biases, by its own settings (WANDB_MODE=offline keeps it here); its id is in wandb_id.txt."""

    def __init__(self, folder: Path, settings: Mapping[str, Any], first_epoch: int | None) -> None:
        import wandb

        self.wandb = wandb
        noted = folder / "wandb_id.txt"
        known = noted.read_text().strip() if first_epoch is not None and noted.is_file() else None
        self.run = wandb.init(
            dir=str(folder), name=folder.name, config=dict(settings), id=known, resume="allow",
            project=os.environ.get("WANDB_PROJECT", "segkit"),
        )  # fmt: skip
        noted.write_text(f"{self.run.id}\n")

    def scalars(self, values: Mapping[str, float], epoch: int) -> None:
        self.run.log({**values, "epoch": epoch})

    def image(self, name: str, image: np.ndarray, epoch: int) -> None:
        self.run.log({name: self.wandb.Image(image), "epoch": epoch})

    def histogram(self, name: str, values: np.ndarray, epoch: int) -> None:
        self.run.log({name: self.wandb.Histogram(values), "epoch": epoch})

    def finish(self, scores: Mapping[str, float]) -> None:
        for name, value in scores.items():
            self.run.summary[f"final/{name}"] = value

    def close(self) -> None:
        self.run.finish()


class Mlflow:
    """A run of MLflow in MLFLOW_TRACKING_URI, by default the file store mlruns in the run folder; its id is in
    mlflow_run.txt.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], first_epoch: int | None) -> None:
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # MLflow 3 asks for this word; a file is what we want
        from mlflow.tracking import MlflowClient

        self.client = MlflowClient(os.environ.get("MLFLOW_TRACKING_URI", (folder / "mlruns").absolute().as_uri()))
        noted = folder / "mlflow_run.txt"
        if first_epoch is not None and noted.is_file():
            self.run = noted.read_text().strip()
            return
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "segkit")
        experiment = self.client.get_experiment_by_name(name)
        number = experiment.experiment_id if experiment else self.client.create_experiment(name)
        self.run = self.client.create_run(number, run_name=folder.name).info.run_id
        noted.write_text(f"{self.run}\n")
        for key, value in settings.items():
            self.client.log_param(self.run, key, str(value)[:500])

    def scalars(self, values: Mapping[str, float], epoch: int) -> None:
        for name, value in values.items():
            self.client.log_metric(self.run, _mlflow_name(name), value, step=epoch)

    def image(self, name: str, image: np.ndarray, epoch: int) -> None:
        """Images stay with TensorBoard: MLflow keeps them as artifacts, a file each."""

    def histogram(self, name: str, values: np.ndarray, epoch: int) -> None:
        """MLflow has no histograms."""

    def finish(self, scores: Mapping[str, float]) -> None:
        for name, value in scores.items():
            self.client.log_metric(self.run, f"final/{_mlflow_name(name)}", value)
        self.client.set_terminated(self.run)

    def close(self) -> None:
        """Every figure is written when it comes."""


def _mlflow_name(name: str) -> str:
    """Return a name that MLflow takes: letters, digits, and - _ . / and space."""
    return "".join(letter if letter.isalnum() or letter in "-_./ " else "_" for letter in name)


TRACKERS: dict[str, type[Tracker]] = {"tensorboard": TensorBoard, "csv": CsvFile, "wandb": Wandb, "mlflow": Mlflow}


def check_trackers(names: tuple[str, ...]) -> None:
    """Raises ConfigError for a tracker whose package isn't installed, before anything is trained."""
    for name in names:
        if name in ("wandb", "mlflow") and importlib.util.find_spec(name) is None:
            raise ConfigError(
                f"report.trackers: {name} needs its package, which isn't installed; install it with pip install "
                f"'segkit[{name}]', or leave it out"
            )
