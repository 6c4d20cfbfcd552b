"""Several processes on one machine, started by torchrun over gloo as a user starts them."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from segkit.config.reading import dump_config
from segkit.config.schema import RunConfig
from segkit.eval_miou import eval_miou
from segkit.models.checkpoint import Checkpoint

ROOT = Path(__file__).parents[2]
MakeConfig = Callable[..., RunConfig]


def command(config: Path, num_ranks: int, *words: str, restarts: int = 0) -> list[str]:
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={num_ranks}"]
    start = [*torchrun, f"--max-restarts={restarts}"] if num_ranks > 1 else []
    return [sys.executable, *start, str(ROOT / "tools" / "train.py"), str(config), *words]


def launch(config: Path, num_ranks: int, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(config, num_ranks, *words), capture_output=True, text=True, timeout=300, check=False)


def log_of(run: Path) -> list[dict[str, str]]:
    with (run / "log.csv").open() as file:
        return [
            {key: value for key, value in row.items() if key not in ("seconds", "images_per_second")}
            for row in csv.DictReader(file)
        ]


def steps_done(run: Path) -> int:
    last = run / "checkpoints" / "last.pt"
    return Checkpoint.load(last).progress.step if last.is_file() else 0


def losses(run: Path) -> list[tuple[float, float, float]]:
    with (run / "log.csv").open() as file:
        return [(float(r["train_loss"]), float(r["val_loss"]), float(r["miou"])) for r in csv.DictReader(file)]


@pytest.mark.slow
@pytest.mark.parametrize("seen", [(), ("data.sampler=class_balanced", "augment.rare_crops=0.5")])
def test_two_ranks_train_as_one_does(make_config: MakeConfig, tmp_path: Path, seen: tuple[str, ...]) -> None:
    # LayerNorm in the encoder, nothing in the decoder: no statistics that depend on how a batch is split
    settings = (
        "model.name=unet", "model.encoder=tu-convnext_atto", "train.precision=fp32", "loss.dice=0.5",
        "model.options={decoder_channels: [16, 16, 16, 16], encoder_depth: 4, decoder_use_norm: identity}",
        "loss.class_weights=log", "train.epochs=2", "train.ema=0.5", "eval.batch_size=1", *seen,
    )  # fmt: skip
    path = tmp_path / "config.yaml"
    path.write_text(dump_config(make_config(tmp_path / "unused", *settings)))
    for num_ranks in (1, 2):
        done = launch(path, num_ranks, f"run={tmp_path / str(num_ranks)}")
        assert done.returncode == 0, done.stderr[-2000:]
        assert done.stdout.count("epoch   1/2") == 1  # one rank speaks
        assert done.stdout.count("weights: ") == 1
    one, two = losses(tmp_path / "1"), losses(tmp_path / "2")
    for first, second in zip(one, two, strict=True):
        assert first[:2] == pytest.approx(second[:2], rel=1e-3)
        assert first[2] == pytest.approx(second[2], abs=5e-3)  # near ties of a model of six steps flip by rounding
    metrics = json.loads((tmp_path / "2" / "metrics.json").read_text())
    assert metrics["num_images"] == 6  # each image once, though 6 are not a multiple of what ranks take
    best = tmp_path / "2" / "checkpoints" / "best.pt"
    assert eval_miou(best, output=tmp_path / "eval").scores.miou == pytest.approx(metrics["miou"], abs=1e-9)


@pytest.mark.slow
def test_ranks_with_batch_norm_and_a_thawing_encoder_agree_on_one_model(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(dump_config(make_config(tmp_path / "run", "train.freeze_epochs=1", "train.accumulate=2")))
    done = launch(path, 2)
    assert done.returncode == 0, done.stderr[-2000:]
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    best = tmp_path / "run" / "checkpoints" / "best.pt"
    assert eval_miou(best, output=tmp_path / "eval").scores.miou == pytest.approx(metrics["miou"], abs=1e-9)


@pytest.mark.slow
def test_a_mistake_is_reported_once_by_all_ranks_together(make_config: MakeConfig, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(dump_config(make_config(tmp_path / "run", "data.train=missing")))
    done = launch(path, 2)
    assert done.returncode != 0
    assert done.stderr.count("error: ") == 1
    assert "missing.txt: no such split file" in done.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_killed_process_restarts_the_group_and_the_run_ends_as_if_nothing_had_been(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    # four ranks: with two, gradients would add up to the same bits in any order
    path = tmp_path / "config.yaml"
    settings = ("train.checkpoint_every_steps=1", "train.workers=1", "train.epochs=4", "train.ema=0.9")
    path.write_text(dump_config(make_config(tmp_path / "unused", *settings)))
    done = launch(path, 4, f"run={tmp_path / 'straight'}")
    assert done.returncode == 0, done.stderr[-2000:]
    run = tmp_path / "killed"
    words = command(path, 4, f"run={run}", "--auto-resume", restarts=2)
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as torchrun:
        while steps_done(run) < 4 and torchrun.poll() is None:
            time.sleep(0.05)
        children = Path(f"/proc/{torchrun.pid}/task/{torchrun.pid}/children").read_text().split()
        os.kill(int(children[2]), signal.SIGKILL)
        said, errors = torchrun.communicate(timeout=200)
    assert torchrun.returncode == 0, errors[-2000:]
    assert "resume  at epoch" in said
    assert "is gone or silent" in errors  # what the other ranks say: no traceback of a network library alone
    straight, killed = (Checkpoint.load(tmp_path / name / "checkpoints" / "last.pt") for name in ("straight", "killed"))
    assert straight.ema is not None
    assert killed.ema is not None
    assert all(torch.equal(straight.weights[name], killed.weights[name]) for name in straight.weights)
    assert all(torch.equal(straight.ema[name], killed.ema[name]) for name in straight.ema)
    assert log_of(tmp_path / "straight") == log_of(run)
    assert (tmp_path / "straight" / "metrics.json").read_text() == (run / "metrics.json").read_text()


@pytest.mark.slow
def test_sigterm_to_torchrun_saves_and_another_number_of_processes_goes_on(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(dump_config(make_config(tmp_path / "run", "train.epochs=30", "train.checkpoint_every_minutes=0")))
    with subprocess.Popen(
        command(path, 2, "--auto-resume"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as torchrun:
        while not (tmp_path / "run" / "log.csv").is_file() and torchrun.poll() is None:
            time.sleep(0.05)
        torchrun.send_signal(signal.SIGTERM)
        said, errors = torchrun.communicate(timeout=100)
    assert torchrun.returncode != 0
    assert "stopped and saved: " in said, errors[-2000:]
    step = steps_done(tmp_path / "run")
    assert 0 < step < 90
    done = launch(path, 1, "--auto-resume")  # one process sees the same images
    assert done.returncode == 0, done.stderr[-2000:]
    assert f"after step {step} of 90" in done.stdout
    assert [row["epoch"] for row in log_of(tmp_path / "run")] == [str(epoch + 1) for epoch in range(30)]


@pytest.mark.slow
def test_a_sharded_run_trains_as_the_whole_one_and_goes_on_in_either_form(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    path = tmp_path / "config.yaml"
    settings = (
        "train.precision=fp32", "train.ema=0.5", "train.clip_norm=1", "train.accumulate=2", "train.batch_size=12",
    )  # fmt: skip
    path.write_text(dump_config(make_config(tmp_path / "unused", *settings)))
    for name, sharding in (("whole", "none"), ("sharded", "fsdp2")):
        done = launch(path, 2, f"run={tmp_path / name}", f"train.sharding={sharding}")
        assert done.returncode == 0, done.stderr[-3000:]
    whole, sharded = (Checkpoint.load(tmp_path / name / "checkpoints" / "last.pt") for name in ("whole", "sharded"))
    for name in whole.weights:
        torch.testing.assert_close(whole.weights[name], sharded.weights[name], rtol=1e-4, atol=1e-5)
    for first, second in zip(losses(tmp_path / "whole"), losses(tmp_path / "sharded"), strict=True):
        assert first[:2] == pytest.approx(second[:2], rel=1e-3)
    best = tmp_path / "sharded" / "checkpoints" / "best.pt"
    metrics = json.loads((tmp_path / "sharded" / "metrics.json").read_text())
    assert eval_miou(best, output=tmp_path / "eval").scores.miou == pytest.approx(metrics["miou"], abs=1e-9)
    for name, sharding in (("sharded", "none"), ("whole", "fsdp2")):
        done = launch(path, 2, f"run={tmp_path / name}", f"train.sharding={sharding}", "train.epochs=3", "--resume")
        assert done.returncode == 0, done.stderr[-3000:]
    whole, sharded = (Checkpoint.load(tmp_path / name / "checkpoints" / "last.pt") for name in ("whole", "sharded"))
    for name in whole.weights:
        torch.testing.assert_close(whole.weights[name], sharded.weights[name], rtol=1e-3, atol=2e-4)  # a step is 3e-3


EXCHANGE = """
import sys, torch
from segkit.runtime.ranks import data_parallel, gradient_exchange, process_group
with process_group("cpu") as ranks:
    module = torch.nn.Linear(3, 2)
    example = torch.ones(1, 3)
    network = data_parallel(module, ranks, torch.device("cpu"), example=example, compression=sys.argv[1])
    with torch.profiler.profile() as profiler:
        for part in range(4):
            with gradient_exchange(network, wanted=part == 3):
                network(example * (ranks.rank + 1) * (part + 1)).sum().backward()
    exchanges = [event for event in profiler.events() if event.name == "gloo:all_reduce"]
    values = module.weight.grad.unique().tolist()
    assert values == [15.0], values  # the mean over ranks of (rank + 1) * (1 + 2 + 3 + 4)
    print(f"rank {ranks.rank}: {len(exchanges)} exchange\\n", end="", flush=True)  # in one piece
"""


@pytest.mark.slow
@pytest.mark.parametrize("compression", ["none", "fp16", "bf16"])
def test_micro_batches_are_exchanged_once_in_any_precision(tmp_path: Path, compression: str) -> None:
    (tmp_path / "exchange.py").write_text(EXCHANGE)
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*words, str(tmp_path / "exchange.py"), compression], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert sorted(done.stdout.splitlines()) == ["rank 0: 1 exchange", "rank 1: 1 exchange"]


@pytest.mark.slow
def test_two_ranks_predict_what_one_does_each_image_once(checkpoint: Path, shapes: Path, tmp_path: Path) -> None:
    tool = str(ROOT / "tools" / "predict.py")
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    for name, start in (("one", []), ("two", torchrun)):
        words = [str(checkpoint), str(shapes / "JPEGImages"), "--output", str(tmp_path / name), "--device", "cpu"]
        done = subprocess.run(
            [sys.executable, *start, tool, *words], capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stderr[-2000:]
        assert done.stdout.count("18 of 18 images predicted") == 1
    files = [
        {path.relative_to(tmp_path / name): path.read_bytes() for path in (tmp_path / name).rglob("*.*g")}
        for name in ("one", "two")
    ]
    assert files[0] == files[1]
    assert len(files[0]) == 36
    assert [path.name for path in (tmp_path / "two").glob("*.csv")] == ["predictions.csv"]
    tables = [(tmp_path / name / "predictions.csv").read_text().splitlines() for name in ("one", "two")]
    untimed = [[row.rsplit(",", 2)[0] for row in table] for table in tables]
    assert untimed[0] == untimed[1]
