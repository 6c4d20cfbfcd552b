import shutil
from pathlib import Path

import numpy as np
import pytest

from segkit.eval_miou import eval_miou
from segkit.evaluation.measurement import Measured
from segkit.report.tensorboard import THRESHOLDS, add_to_tensorboard
from segkit.train import TrainResult


@pytest.fixture(scope="module")
def measured(trained: TrainResult, tmp_path_factory: pytest.TempPathFactory) -> Measured:
    return eval_miou(trained.best, output=tmp_path_factory.mktemp("figures")).measured


@pytest.fixture
def run(trained: TrainResult, tmp_path: Path) -> Path:
    """A run folder with the checkpoint alone."""
    shutil.copytree(trained.folder / "checkpoints", tmp_path / "run" / "checkpoints")
    return tmp_path / "run"


def test_curves_hold_precision_and_recall_of_each_class(run: Path, measured: Measured) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util.tensor_util import make_ndarray

    add_to_tensorboard(run, measured, ["curves"])
    events = EventAccumulator(str(run))
    events.Reload()
    assert set(events.Tags()["tensors"]) == {f"precision_recall/{name}" for name in measured.classes.names}
    found = make_ndarray(events.Tensors("precision_recall/disc")[0].tensor_proto)
    true, false, rest, missed, precision, recall = found
    assert found.shape == (6, THRESHOLDS)
    assert np.ptp(true + missed) == 0
    assert np.ptp(false + rest) == 0
    said = true + false
    assert precision == pytest.approx(np.where(said > 0, true / np.maximum(said, 1), 1), abs=1e-4)
    assert recall == pytest.approx(true / (true + missed), abs=1e-4)
    assert recall[0] == 1
    assert (np.diff(recall) <= 0).all()


def test_the_graph_names_the_layers(run: Path, measured: Measured) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    add_to_tensorboard(run, measured, ["graph"])
    events = EventAccumulator(str(run))
    events.Reload()
    assert any("encoder" in node.name for node in events.Graph().node)


def test_a_network_that_cannot_be_traced_is_told_and_spoils_nothing(
    run: Path, measured: Measured, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("a loop over data\nmore")

    monkeypatch.setattr("segkit.models.lite_unet.LiteUnet.forward", fails)
    add_to_tensorboard(run, measured, ["graph", "curves"])
    assert "TensorBoard: no graph, since the network can't be traced (a loop over data)" in caplog.text


def test_each_validation_image_is_embedded_with_its_thumbnail(run: Path, measured: Measured) -> None:
    add_to_tensorboard(run, measured, ["features"])
    (table,) = run.rglob("tensors.tsv")
    (names,) = run.rglob("metadata.tsv")
    assert sorted(names.read_text().split()) == [row.name for row in measured.rows]
    assert len(set(table.read_text().splitlines())) == len(measured.rows)
    assert list(run.rglob("sprite.png"))
