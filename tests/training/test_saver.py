"""In which order a run's checkpoints are written, and what a kill between two of them leaves."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from segkit.evaluation.confusion import ConfusionMatrix
from segkit.evaluation.protocol import EvaluationProtocol
from segkit.models.checkpoint import Checkpoint
from segkit.train import TrainResult
from segkit.training.run_folder import RunFolder
from segkit.training.saver import repair_best, save_run

PROTOCOL = EvaluationProtocol("val", 6, (64, 64), "fp32")
BEST = ("checkpoints/best.pt", "checkpoints/best.safetensors", "metrics.json")


@pytest.fixture
def folder(trained: TrainResult, tmp_path: Path) -> RunFolder:
    shutil.copytree(trained.folder, tmp_path / "run")
    return RunFolder(tmp_path / "run")


def as_best(folder: RunFolder) -> Checkpoint:
    """Return last.pt as the checkpoint of an epoch that is the best so far."""
    last = Checkpoint.load(folder.last)
    last.progress.best_epoch = 2
    last.progress.best_confusion = [[9, 0, 0, 0], [0, 9, 0, 0], [0, 0, 9, 0], [0, 0, 0, 9]]
    return last


def save(folder: RunFolder, last: Checkpoint) -> None:
    best = ConfusionMatrix.from_counts(last.progress.best_confusion, num_images=6).scores()
    save_run(folder, last, best=best, protocol=PROTOCOL)


def repair(folder: RunFolder, resumed: Checkpoint) -> tuple[int, list[list[int]] | None]:
    return repair_best(folder, resumed, best_step=resumed.progress.step, protocol=PROTOCOL)


@pytest.mark.parametrize("broken_off_at", [*BEST, "nothing"])
def test_a_kill_between_last_and_best_is_repaired_when_the_run_resumes(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch, broken_off_at: str
) -> None:
    class Killed(BaseException):
        pass

    def kill(*_: object) -> None:
        raise Killed

    last = as_best(folder)
    with monkeypatch.context() as patch:
        if broken_off_at == "checkpoints/best.safetensors":
            patch.setattr(Checkpoint, "save_weights", kill)
        elif broken_off_at == "metrics.json":
            patch.setattr(RunFolder, "write_metrics", kill)
        elif broken_off_at == "checkpoints/best.pt":
            patch.setattr("segkit.training.saver._save_best", kill)
        if broken_off_at == "nothing":
            save(folder, last)
        else:
            with pytest.raises(Killed):
                save(folder, last)
    resumed = Checkpoint.load(folder.last)
    assert repair(folder, resumed) == (2, last.progress.best_confusion)
    best, weights = Checkpoint.load(folder.best), Checkpoint.load(folder.best_weights)
    assert (best.progress.step, best.progress.best_confusion) == (last.progress.step, last.progress.best_confusion)
    assert json.loads((folder.path / "metrics.json").read_text())["confusion"] == last.progress.best_confusion
    assert all(torch.equal(weights.weights[name], tensor) for name, tensor in (last.ema or last.weights).items())


def test_files_that_are_whole_are_left_alone(folder: RunFolder) -> None:
    last = as_best(folder)
    save(folder, last)
    before = {name: (folder.path / name).stat().st_mtime_ns for name in BEST}
    repair(folder, Checkpoint.load(folder.last))
    assert {name: (folder.path / name).stat().st_mtime_ns for name in BEST} == before


def test_a_best_epoch_after_the_checkpoint_that_is_left_is_noted(folder: RunFolder) -> None:
    save(folder, as_best(folder))
    older = Checkpoint.load(folder.last)
    older.progress.step -= 2
    older.progress.best_epoch, older.progress.best_confusion = 1, [[1, 8, 0, 0], [0, 9, 0, 0], [0] * 4, [0] * 4]
    assert repair_best(folder, older, best_step=1, protocol=PROTOCOL) == (2, as_best(folder).progress.best_confusion)


def test_a_best_checkpoint_that_is_lost_is_said(folder: RunFolder, caplog: pytest.LogCaptureFixture) -> None:
    folder.best.unlink()
    resumed = Checkpoint.load(folder.last)
    assert repair_best(folder, resumed, best_step=1, protocol=PROTOCOL) == (0, None)
    assert "the next validated epoch counts as best" in caplog.text
