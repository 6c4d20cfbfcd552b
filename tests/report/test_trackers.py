import csv
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from segkit.config.schema import RunConfig
from segkit.errors import ConfigError
from segkit.models.checkpoint import Checkpoint
from segkit.report.trackers import TRACKERS, CsvFile, Mlflow, Tracker, check_trackers
from segkit.train import train

SETTINGS = {"train.seed": 3, "data.root": "x", "eval.tta": []}


def open_tracker(name: str, folder: Path, first_epoch: int | None = None) -> Tracker:
    if name in ("wandb", "mlflow"):
        pytest.importorskip(name, reason=f"{name} isn't installed: pip install segkit[{name}]")
    return TRACKERS[name](folder, SETTINGS, first_epoch)


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "MLFLOW_ALLOW_FILE_STORE": "true"}.items():
        monkeypatch.setenv(name, value)
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "WANDB_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", TRACKERS)
def test_a_tracker_takes_all_that_a_run_has_to_say_and_leaves_something_in_its_folder(
    name: str, tmp_path: Path
) -> None:
    tracker = open_tracker(name, tmp_path)
    tracker.scalars({"miou": 0.5, "iou/a b": 0.25}, 1)
    tracker.image("sample", np.zeros((8, 8, 3), np.uint8), 1)
    tracker.histogram("weights/w", np.arange(9.0), 1)
    tracker.finish({"miou": 0.5})
    tracker.close()
    assert any(path.is_file() and path.stat().st_size for path in tmp_path.rglob("*"))


@pytest.mark.filterwarnings("ignore")
def test_mlflow_s_file_store_holds_the_figures_and_a_resumed_run_goes_on_in_the_same(tmp_path: Path) -> None:
    first = open_tracker("mlflow", tmp_path)
    first.scalars({"miou": 0.5}, 1)
    again = open_tracker("mlflow", tmp_path, 2)
    again.scalars({"miou": 0.75, "iou/a:b": 0.1}, 2)
    again.finish({"miou": 0.75})
    assert isinstance(again, Mlflow)
    run = again.client.get_run((tmp_path / "mlflow_run.txt").read_text().strip())
    assert run.data.params["train.seed"] == "3"
    assert run.data.metrics == {"miou": 0.75, "iou/a_b": 0.1, "final/miou": 0.75}
    assert [found.value for found in again.client.get_metric_history(run.info.run_id, "miou")] == [0.5, 0.75]
    assert run.info.status == "FINISHED"


@pytest.mark.filterwarnings("ignore")
def test_wandb_goes_on_in_the_same_run(tmp_path: Path) -> None:
    first = open_tracker("wandb", tmp_path)
    first.scalars({"miou": 0.5}, 1)
    first.close()
    noted = (tmp_path / "wandb_id.txt").read_text()
    again = open_tracker("wandb", tmp_path, 2)
    again.close()
    assert (tmp_path / "wandb_id.txt").read_text() == noted


def test_the_table_drops_the_rows_that_a_resumed_run_says_again(tmp_path: Path) -> None:
    first = CsvFile(tmp_path, SETTINGS, None)
    for epoch in (1, 2, 3):
        first.scalars({"miou": epoch / 10}, epoch)
    again = CsvFile(tmp_path, SETTINGS, 3)
    again.scalars({"miou": 0.9}, 3)
    rows = list(csv.reader((tmp_path / "figures.csv").read_text().splitlines()))
    assert rows == [["epoch", "name", "value"], ["1", "miou", "0.1"], ["2", "miou", "0.2"], ["3", "miou", "0.9"]]


def test_a_package_that_is_missing_is_named_with_its_install_line(monkeypatch: pytest.MonkeyPatch) -> None:
    check_trackers(("tensorboard", "csv"))
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"report\.trackers: wandb .*pip install 'segkit\[wandb\]'"):
        check_trackers(("tensorboard", "wandb"))


def test_trackers_change_no_bit_of_what_is_trained_and_get_every_figure_by_class(
    make_config: Callable[..., RunConfig], tmp_path: Path
) -> None:
    said = train(make_config(tmp_path / "said", "report.trackers=[tensorboard,csv]", "report.histograms=true"))
    silent = train(make_config(tmp_path / "silent", "report.trackers=[]"))
    weights = [Checkpoint.load(run.folder / "checkpoints" / "last.pt").weights for run in (said, silent)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert not list(silent.folder.glob("events*"))
    rows = list(csv.DictReader((said.folder / "figures.csv").read_text().splitlines()))
    names = {row["name"] for row in rows}
    assert {"miou", "lr", "images_per_second", "memory_mib", "mean_dice", "iou/disc"} <= names
    last = max(int(row["epoch"]) for row in rows)
    assert said.scores is not None
    found = {row["name"]: float(row["value"]) for row in rows if int(row["epoch"]) == last}
    assert not any(math.isnan(value) for value in found.values())

    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(said.folder))
    events.Reload()
    assert any(name.startswith("weights/") for name in events.Tags()["histograms"])
    assert events.Scalars("final/miou")[0].value == pytest.approx(said.scores.miou)
