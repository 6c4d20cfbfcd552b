"""Cross-validation as a user runs it: split, train every fold, stop, go on, and what is written."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from segkit import cross_validation as verb
from segkit import train as module
from segkit.cli import main
from segkit.commands.train import RESUMABLE
from segkit.config.reading import dump_config
from segkit.config.schema import RunConfig
from segkit.cross_validation import _is_finished, train_folds
from segkit.datasets.split import split_data_set
from segkit.errors import RunFolderError
from segkit.eval_miou import eval_miou
from segkit.evaluation.confusion import ConfusionMatrix
from segkit.loading.prepare import prepare_data
from segkit.models.checkpoint import Checkpoint
from segkit.train import train
from segkit.training.setup import build_plan

ROOT = Path(__file__).parents[2]
MakeConfig = Callable[..., RunConfig]


@pytest.fixture(scope="module")
def divided(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The drawn data set in two folds of nine images."""
    root = tmp_path_factory.mktemp("divided") / "data"
    shutil.copytree(shapes, root)
    split_data_set(root, folds=2)
    return root


@pytest.fixture(scope="module")
def config(make_config: MakeConfig, divided: Path, tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    settings = (f"data.root={divided}", "train.epochs=2", "train.ema=0.5", "eval.every=2")
    return make_config(tmp_path_factory.mktemp("folds") / "run", *settings)


@pytest.fixture(scope="module")
def straight(config: RunConfig) -> Path:
    """The folder of folds that were never stopped. Read it, don't change it."""
    assert train_folds(config).finished
    return Path(config.run)


@pytest.fixture
def config_file(config: RunConfig, tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(dump_config(config))
    return path


def written(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "folds.json").read_text())
    return content


def test_a_fold_is_finished_after_the_steps_that_its_sampler_gives_it(
    make_config: MakeConfig, divided: Path, tmp_path: Path
) -> None:
    settings = (f"data.root={divided}", "data.train=fold1_train", "data.val=fold1_val", "train.epochs=4",
                "data.sampler=repeat_factor", "data.repeat_threshold=1.0", "train.batch_size=1", "eval.every=4",
                "eval.batch_size=1")  # fmt: skip
    own = make_config(tmp_path / "run", *settings)
    data = prepare_data(own.data, seed=own.train.seed)
    uniform, sampled = 4 * len(data.train), 4 * build_plan(own, data).batches_per_epoch
    assert uniform < sampled  # what used to be taken for the end of this fold
    train(own, max_steps=uniform)
    assert not _is_finished(own)
    train(own, resume=True)
    assert _is_finished(own)


# ---- figures


def test_each_folds_figure_is_that_of_its_last_epoch_and_of_the_evaluation_tool(straight: Path, tmp_path: Path) -> None:
    for row in written(straight)["folds"]:
        with (straight / row["name"] / "log.csv").open() as file:
            assert repr(row["miou"]) == list(csv.DictReader(file))[-1]["miou"]
        assert row["miou"] == eval_miou(straight / row["checkpoint"], output=tmp_path / row["name"]).scores.miou
        metrics = json.loads((straight / row["name"] / "metrics.json").read_text())
        assert row["best_miou"] == metrics["miou"]
        assert row["num_images"] == 9


def test_what_counts_is_the_last_epochs_model_whatever_became_of_the_best(
    config: RunConfig, straight: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(straight, run)
    for best in run.glob("*/checkpoints/best.*"):
        best.unlink()
    assert train_folds(replace(config, run=str(run)), resume=True).finished
    found, before = written(run), written(straight)
    assert [row["miou"] for row in found["folds"]] == [row["miou"] for row in before["folds"]]
    assert found["pooled"] == before["pooled"]
    # the last epoch was the best one here, so last.pt gives its files back
    assert [row["best_miou"] for row in found["folds"]] == [row["best_miou"] for row in before["folds"]]
    assert all((run / row["name"] / "checkpoints" / "best.pt").is_file() for row in found["folds"])


def test_the_pooled_figure_counts_every_image_once(straight: Path, tmp_path: Path) -> None:
    found = written(straight)
    counts = [
        eval_miou(straight / row["checkpoint"], output=tmp_path / row["name"]).scores.counts for row in found["folds"]
    ]
    once = ConfusionMatrix.from_counts(counts[0] + counts[1], num_images=18).scores()
    assert found["pooled"]["confusion"] == once.counts.tolist()
    assert found["pooled"]["num_images"] == 18
    assert found["miou"] == found["pooled"]["miou"] == once.miou
    assert found["interval"]["low"] <= found["miou"] <= found["interval"]["high"]
    mious = [row["miou"] for row in found["folds"]]
    assert found["mean_miou"] == pytest.approx(np.mean(mious))
    assert found["std_miou"] == pytest.approx(np.std(mious, ddof=1))


def test_a_row_per_fold_is_written_as_csv(straight: Path) -> None:
    with (straight / "folds.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == ["fold1", "fold2"]
    assert [float(row["miou"]) for row in rows] == [row["miou"] for row in written(straight)["folds"]]
    assert "iou_star" in rows[0]


# ---- stopping and going on


def test_folds_that_are_stopped_and_resumed_end_as_straight_ones(
    config_file: Path,
    straight: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = tmp_path / "stopped"
    original, steps = module.seed_step, []

    def stop_in_the_second_fold(seed: int, step: int, rank: int) -> None:
        steps.append(step)
        if len(steps) == 6 + 2:  # of two epochs of three steps each
            os.kill(os.getpid(), signal.SIGTERM)
        original(seed, step, rank)

    with monkeypatch.context() as patch:
        patch.setattr(module, "seed_step", stop_in_the_second_fold)
        assert main(["train", str(config_file), f"run={run}", "--folds"]) == RESUMABLE
    said = capsys.readouterr().out
    assert f"stopped and saved: {run}, 1 of 2 folds are done" in said
    again = f"train {config_file} run={run} --folds --resume"
    assert f"resume: segkit {again}" in said
    assert not (run / "folds.json").exists()
    first = (run / "fold1" / "checkpoints" / "last.pt").read_bytes()

    assert main(again.split()) == 0
    said = capsys.readouterr().out
    assert "fold1, finished before" in said
    assert "resume  at epoch 1, after step 2 of 6" in said
    assert (run / "fold1" / "checkpoints" / "last.pt").read_bytes() == first
    assert f"segkit predict {run}/*fold*/checkpoints/last.pt IMAGES" in said
    assert (run / "folds.json").read_text() == (straight / "folds.json").read_text()
    assert (run / "folds.csv").read_text() == (straight / "folds.csv").read_text()
    for name in ("fold1", "fold2"):
        one, other = (Checkpoint.load(folder / name / "checkpoints" / "last.pt") for folder in (straight, run))
        assert all(torch.equal(one.weights[key], other.weights[key]) for key in one.weights)


def test_an_interrupt_between_two_runs_can_be_resumed(
    config_file: Path, straight: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    shutil.copytree(straight, run)

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(verb, "score", interrupt)
    assert main(["train", str(config_file), f"run={run}", "--folds", "--auto-resume"]) == RESUMABLE


def test_an_interrupt_before_anything_was_saved_leaves_nothing(
    config_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("segkit.training.setup.prepare_data", interrupt)
    assert main(["train", str(config_file), f"run={tmp_path / 'run'}", "--folds"]) == 130
    assert not (tmp_path / "run").exists()


# ---- folders that are taken, and data that changed


def test_folds_are_never_trained_into_a_folder_that_holds_something(
    config: RunConfig, straight: Path, tmp_path: Path
) -> None:
    with pytest.raises(RunFolderError, match=r"fold1: not empty, it holds a run.*--resume"):
        train_folds(config)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("mine")
    with pytest.raises(RunFolderError, match=r"it holds notes\.txt, expected a new folder"):
        train_folds(replace(config, run=str(tmp_path / "run")))
    with pytest.raises(RunFolderError, match="nothing to resume"):
        train_folds(replace(config, run=str(tmp_path / "run")), resume=True)
    plain = tmp_path / "plain"
    shutil.copytree(straight / "fold1", plain)
    for resume in (True, "auto"):
        with pytest.raises(RunFolderError, match="holds a run without folds"):
            train_folds(replace(config, run=str(plain)), resume=resume)  # type: ignore[arg-type]
    more = tmp_path / "more"
    shutil.copytree(straight, more)
    shutil.copytree(straight / "fold1", more / "fold3")
    with pytest.raises(RunFolderError, match="fold3: holds a run, but the data set has no fold of that name"):
        train_folds(replace(config, run=str(more)), resume=True)


def test_a_finished_fold_of_other_images_is_not_taken_for_this_one(
    config_file: Path, straight: Path, divided: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, run = tmp_path / "data", tmp_path / "run"
    shutil.copytree(divided, data)
    shutil.copytree(straight, run)
    split_data_set(data, folds=2, seed=1, force=True)
    words = [str(config_file), f"run={run}", f"data.root={data}", "--folds", "--resume"]
    assert main(["train", *words]) == 2
    assert "trained and validated on other images" in capsys.readouterr().err


def test_a_mistake_leaves_no_folder(config_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    assert main(["train", str(config_file), f"run={run}", "--folds", "train.batch_size=64"]) == 2
    assert "train.batch_size" in capsys.readouterr().err
    assert not run.exists()


def test_folds_predict_together(straight: Path, divided: Path, tmp_path: Path) -> None:
    last = [str(straight / name / "checkpoints" / "last.pt") for name in ("fold1", "fold2")]
    out = tmp_path / "out"
    assert main(["predict", *last, str(divided / "JPEGImages"), "--output", str(out)]) == 0
    assert len(list((out / "masks").glob("*.png"))) == 18
    assert main(["eval", *last, "--output", str(out)]) == 2  # each was trained on what the other one holds out
    assert main(["eval", *last, "--split", "all", "--output", str(out), "eval.batch_size=2"]) == 0
    assert json.loads((out / "metrics.json").read_text())["num_images"] == 18


# ---- several processes


@pytest.mark.slow
def test_two_ranks_train_and_score_every_fold(config_file: Path, tmp_path: Path) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    run = tmp_path / "run"
    command = [*torchrun, str(ROOT / "tools" / "train.py"), str(config_file), f"run={run}", "--folds"]
    for words in ([], ["--resume"]):
        (run / "folds.json").unlink(missing_ok=True)
        done = subprocess.run([*command, *words], capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        assert done.stdout.count("pooled mIoU") == 1  # one rank speaks
        found = written(run)
        assert found["pooled"]["num_images"] == 18
        for row in found["folds"]:
            alone = eval_miou(run / row["checkpoint"], output=tmp_path / "scores").scores.miou
            assert row["miou"] == pytest.approx(alone, abs=1e-9)
    assert "finished before" in done.stdout
    assert main(["train", str(config_file), f"run={run}", "--folds", "--resume"]) == 0  # by one process
    assert written(run)["miou"] == pytest.approx(found["miou"], abs=1e-9)
