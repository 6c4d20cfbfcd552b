"""Runs that are killed, stopped or damaged, and go on."""

import importlib.util
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from segkit import train as module
from segkit.cli import main
from segkit.commands.train import RESUMABLE
from segkit.config.reading import dump_config
from segkit.config.schema import LossConfig, RunConfig
from segkit.datasets.images import image_size_hw
from segkit.errors import CheckpointError, RunFolderError, TrainingDiverged
from segkit.inference.predictor import Predictor
from segkit.losses.table import LossValue, WeightedLoss
from segkit.models.checkpoint import Checkpoint
from segkit.train import TrainResult, train
from segkit.training.resume import load_newest
from segkit.training.run_folder import RunFolder

ROOT = Path(__file__).parents[2]
MakeConfig = Callable[..., RunConfig]


@pytest.fixture
def crash_test() -> ModuleType:
    spec = importlib.util.spec_from_file_location("crash_test", ROOT / "tools" / "crash_test.py")
    assert spec is not None
    assert spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    return tool


@pytest.fixture
def stop_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Make training get a SIGTERM in a step (from 0)."""

    def arrange(stop_step: int) -> None:
        original = module.seed_step

        def seed_and_signal(seed: int, step: int, rank: int) -> None:
            if step == stop_step:
                os.kill(os.getpid(), signal.SIGTERM)
            original(seed, step, rank)

        monkeypatch.setattr(module, "seed_step", seed_and_signal)

    return arrange


# ---- kills


@pytest.mark.slow
def test_killed_runs_end_as_the_straight_one_does() -> None:
    # a program of its own: its forks train, which they can't once this one has used torch's threads
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "crash_test.py", "--kills", "4"],
        capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 kills" in done.stdout
    assert ", 0 problems" in done.stdout


def test_the_crash_test_notices_a_run_that_differs(
    crash_test: ModuleType, make_config: MakeConfig, tmp_path: Path
) -> None:
    for seed in (0, 1):
        train(make_config(tmp_path / str(seed), f"train.seed={seed}", "train.epochs=1"))
    first, second = (crash_test.outcome(tmp_path / str(seed)) for seed in (0, 1))
    assert all(first[name] != second[name] for name in first)
    assert crash_test.outcome(tmp_path / "0") == first


def test_a_run_that_was_killed_before_its_first_checkpoint_is_begun_again(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    config = make_config(tmp_path / "run", "train.epochs=1")
    folder = RunFolder(tmp_path / "run")
    folder.create(config, {})
    (tmp_path / "run" / "log.csv").write_text("half a row")
    (tmp_path / "run" / "checkpoints" / ".last.pt.part").write_bytes(b"half")
    assert train(config).finished
    assert not list((tmp_path / "run" / "checkpoints").glob(".*"))
    assert not list((tmp_path / "run").glob(".*"))


def test_logs_without_checkpoints_are_somebodys_work_and_kept(trained: TrainResult, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(trained.folder, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    with pytest.raises(RunFolderError, match="not empty"):
        RunFolder(tmp_path / "run").check_new()


# ---- checkpoints within an epoch


@pytest.mark.parametrize("setting", ["train.checkpoint_every_steps=2", "train.checkpoint_every_minutes=1e-9"])
def test_checkpoints_are_saved_within_an_epoch_and_change_nothing(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: str
) -> None:
    saved = []
    original = Checkpoint.save

    def note(self: Checkpoint, path: Path, **settings: Path) -> None:
        if path.name == "last.pt":
            saved.append(self.progress.step)
        original(self, path, **settings)

    plain = ("train.checkpoint_every_minutes=0", "train.epochs=2")
    train(make_config(tmp_path / "plain", *plain))
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "save", note)
        train(make_config(tmp_path / "often", *plain, setting))
    assert saved == ([2, 3, 4, 6] if "steps" in setting else [1, 2, 3, 4, 5, 6])
    first, second = (Checkpoint.load(tmp_path / name / "checkpoints" / "last.pt") for name in ("plain", "often"))
    assert all(torch.equal(first.weights[name], second.weights[name]) for name in first.weights)
    older = Checkpoint.load(tmp_path / "often" / "checkpoints" / "previous.pt")
    assert older.progress.step == saved[-2]


def test_a_damaged_checkpoint_gives_way_to_the_generation_before_it(
    make_config: MakeConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = make_config(tmp_path / "run", "train.epochs=3")
    straight = train(config)
    expected = Checkpoint.load(straight.folder / "checkpoints" / "last.pt")
    last = straight.folder / "checkpoints" / "last.pt"
    content = bytearray(last.read_bytes())
    content[len(content) // 2] ^= 4
    last.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert train(config, resume=True).finished
    assert "doesn't match its checksum" in caplog.text
    assert "previous.pt instead, of step 6" in caplog.text
    again = Checkpoint.load(last)
    assert all(torch.equal(expected.weights[name], again.weights[name]) for name in expected.weights)
    assert (straight.folder / "checkpoints" / "last.damaged.pt").is_file()


def test_best_weights_that_are_lost_are_written_again_and_lost_rows_are_said(
    make_config: MakeConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    result = train(make_config(tmp_path / "run", "train.epochs=1"))
    before = Checkpoint.load(result.best)
    result.best.unlink()
    (tmp_path / "run" / "log.csv").unlink()
    with caplog.at_level(logging.WARNING):
        train(make_config(tmp_path / "run", "train.epochs=1"), resume=True)  # the last epoch is the best one
    assert "log.csv is missing: the rows of the first 1 epochs are lost" in caplog.text
    again = Checkpoint.load(result.best)
    assert again.progress == before.progress
    assert all(torch.equal(again.weights[name], tensor) for name, tensor in before.weights.items())


def test_two_damaged_generations_are_both_named(trained: TrainResult, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.last.parent.mkdir()
    for path in (folder.last, folder.previous):
        path.write_bytes(b"PK")
    with pytest.raises(CheckpointError, match=r"(?s)last\.pt: not a checkpoint.*previous\.pt: not a checkpoint"):
        load_newest(folder)


def test_one_small_file_predicts_as_the_checkpoint_does(trained: TrainResult) -> None:
    image = np.random.default_rng(0).integers(0, 256, (48, 60, 3), np.uint8)
    small = trained.best.with_suffix(".safetensors")
    assert small.stat().st_size < trained.best.stat().st_size
    assert np.array_equal(Predictor.load(small, device="cpu")(image), Predictor.load(trained.best, device="cpu")(image))


def test_a_run_notes_the_zoom_of_its_training_images_and_keeps_it_when_it_resumes(
    trained: TrainResult, make_config: MakeConfig, shapes: Path, tmp_path: Path
) -> None:
    names = (shapes / "ImageSets" / "Segmentation" / "train.txt").read_text().split()
    sizes = [image_size_hw(shapes / "JPEGImages" / f"{name}.jpg") for name in names]
    expected = sorted(min(64 / height, 64 / width) for height, width in sizes)[(len(sizes) - 1) // 2]
    folder = tmp_path / "run"
    shutil.copytree(trained.folder, folder)
    train(
        make_config(folder, "train.ema=0.5", "loss.dice=0.5", "loss.class_weights=log", "train.epochs=3"), resume=True
    )
    for path in (trained.best, trained.best.with_suffix(".safetensors"), folder / "checkpoints" / "last.pt"):
        assert Checkpoint.load(path).zoom == expected


@pytest.mark.parametrize("sampler", ["repeat_factor", "class_balanced"])
@pytest.mark.parametrize("stop_step", [1, 4])
def test_a_run_that_repeats_rare_images_goes_on_as_the_straight_one(
    make_config: MakeConfig, tmp_path: Path, stop_at: Callable[[int], None], sampler: str, stop_step: int
) -> None:
    settings = (
        f"data.sampler={sampler}", "augment.rare_crops=0.5", "augment.scale=[1.0, 2.0]", "loss.class_weights=sqrt",
        *(["data.repeat_threshold=1.0"] if sampler == "repeat_factor" else []),
    )  # fmt: skip
    outcomes = []
    for name, step in (("straight", -1), ("stopped", stop_step)):
        config = make_config(tmp_path / name, *settings)
        stop_at(step)
        assert train(config).finished == (step == -1)
        stop_at(-1)
        if step >= 0:
            assert train(config, resume=True).finished
        outcomes.append(Checkpoint.load(tmp_path / name / "checkpoints" / "last.pt"))
    straight, stopped = outcomes
    assert straight.progress.step == stopped.progress.step == (8 if sampler == "repeat_factor" else 6)
    assert all(torch.equal(straight.weights[name], stopped.weights[name]) for name in straight.weights)
    uniform = train(make_config(tmp_path / "uniform", *settings[1:4]))
    other = Checkpoint.load(uniform.folder / "checkpoints" / "last.pt")
    assert not all(torch.equal(straight.weights[name], other.weights[name]) for name in straight.weights)


@pytest.mark.parametrize("stop_step", [1, 4])
def test_a_run_of_every_loss_with_scheduled_weights_goes_on_as_the_straight_one(
    make_config: MakeConfig, tmp_path: Path, stop_at: Callable[[int], None], stop_step: int
) -> None:
    losses = [f"loss.{name}=0.1" for name in LossConfig().weights]
    settings = (*losses, "loss.label_smoothing=0.1", "loss.schedule={boundary: [0, 1], rmi: [1, 0.5]}")
    weights = []
    for name, step in (("straight", -1), ("stopped", stop_step)):
        config = make_config(tmp_path / name, *settings)
        stop_at(step)
        assert train(config).finished == (step == -1)
        stop_at(-1)
        if step >= 0:
            assert train(config, resume=True).finished
        weights.append(Checkpoint.load(tmp_path / name / "checkpoints" / "last.pt").weights)
    straight, stopped = weights
    assert all(torch.equal(straight[name], stopped[name]) for name in straight)
    train(make_config(tmp_path / "constant", *settings[:-1]))
    other = Checkpoint.load(tmp_path / "constant" / "checkpoints" / "last.pt").weights
    assert not all(torch.equal(straight[name], other[name]) for name in straight)


# ---- stopping, and going on by itself


def test_a_stopped_run_ends_with_the_code_for_try_again_and_auto_resume_finishes_it(
    make_config: MakeConfig, tmp_path: Path, stop_at: Callable[[int], None], capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(dump_config(make_config(tmp_path / "run")))
    stop_at(1)
    assert main(["train", str(path), "--auto-resume"]) == RESUMABLE == 75
    assert f"resume: segkit train {path} --resume" in capsys.readouterr().out
    stop_at(-1)
    assert main(["train", str(path), "--auto-resume"]) == 0
    assert "resume  at epoch 1, after step 2 of 6" in capsys.readouterr().out
    assert main(["train", str(path), "--auto-resume"]) == 0
    assert "nothing left to do" in capsys.readouterr().out


def test_a_signal_that_torchrun_passes_on_during_the_last_save_does_not_break_it_off(
    make_config: MakeConfig, tmp_path: Path, stop_at: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Checkpoint.save

    def save_while_signalled(self: Checkpoint, path: Path, **settings: Path) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.2)
        original(self, path, **settings)

    monkeypatch.setattr(module, "under_torchrun", lambda: True)
    monkeypatch.setattr(Checkpoint, "save", save_while_signalled)
    stop_at(1)
    assert train(make_config(tmp_path / "run")).stopped
    assert Checkpoint.load(tmp_path / "run" / "checkpoints" / "last.pt").progress.step == 2


def test_resume_and_auto_resume_exclude_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["train", "c.yaml", "--resume", "--auto-resume"])
    assert "not allowed with" in capsys.readouterr().err


def test_two_programs_never_train_into_one_folder(make_config: MakeConfig, tmp_path: Path) -> None:
    program = f"""
import sys
from pathlib import Path
from segkit.training.run_folder import RunFolder
folder = RunFolder(Path({str(tmp_path / "run")!r}))
folder.lock()
print("locked", flush=True)
sys.stdin.read()
"""
    config = make_config(tmp_path / "run", "train.epochs=1")
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "locked\n"
        with pytest.raises(RunFolderError, match=rf"another segkit is training into it \(process {other.pid} on "):
            train(config)
        other.kill()
    assert train(config).finished  # a killed process holds nothing
    assert not (tmp_path / "run" / ".lock").exists()


# ---- non-finite losses


@pytest.fixture
def bad_steps(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Make the loss of some steps (from 0) NaN."""

    def arrange(*steps: int) -> None:
        seed, call = module.seed_step, WeightedLoss.__call__
        now = [-1]

        def note(seed_value: int, step: int, rank: int) -> None:
            now[0] = step
            seed(seed_value, step, rank)

        def spoil(self: WeightedLoss, *inputs: torch.Tensor) -> LossValue:
            value = call(self, *inputs)
            return value._replace(total=value.total * float("nan")) if now[0] in steps else value

        monkeypatch.setattr(module, "seed_step", note)
        monkeypatch.setattr(WeightedLoss, "__call__", spoil)

    return arrange


def test_a_bad_loss_stops_with_its_step_and_leaves_the_last_good_checkpoint(
    make_config: MakeConfig, tmp_path: Path, bad_steps: Callable[..., None]
) -> None:
    bad_steps(4)
    with pytest.raises(TrainingDiverged, match=r"^step 5: .*Images of this batch: shapes_\d+, "):
        train(make_config(tmp_path / "run"))
    kept = Checkpoint.load(tmp_path / "run" / "checkpoints" / "last.pt")
    assert kept.progress.step == 3
    assert all(torch.isfinite(tensor).all() for tensor in kept.weights.values())


def test_bad_steps_are_skipped_and_counted_where_asked(
    make_config: MakeConfig, tmp_path: Path, bad_steps: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    import csv

    bad_steps(1, 4, 5)
    with caplog.at_level(logging.WARNING):
        assert train(make_config(tmp_path / "run", "train.on_nonfinite=skip")).finished
    assert caplog.text.count("skipped step") == 3
    assert "skipped step 2: " in caplog.text
    with (tmp_path / "run" / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["skipped"] for row in rows] == ["1", "2"]
    assert all(0 < float(row["train_loss"]) < 10 for row in rows)
    last = Checkpoint.load(tmp_path / "run" / "checkpoints" / "last.pt")
    assert last.progress.skipped == 3
    assert all(torch.isfinite(tensor).all() for tensor in last.weights.values())


def test_a_skipped_step_leaves_no_trace_in_the_model(
    make_config: MakeConfig, tmp_path: Path, bad_steps: Callable[..., None]
) -> None:
    def first_update(*skipped: int) -> dict[str, torch.Tensor]:
        config = make_config(tmp_path / f"run{len(skipped)}", "train.on_nonfinite=skip", "optim.schedule=constant")
        bad_steps(*skipped)
        train(config, max_steps=len(skipped) + 1)
        return Checkpoint.load(tmp_path / f"run{len(skipped)}" / "checkpoints" / "last.pt").weights

    weights = first_update(0, 1)
    assert int(next(weights[name] for name in weights if "num_batches_tracked" in name)) == 1
