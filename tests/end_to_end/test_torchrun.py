"""Several processes on one machine, started by torchrun over gloo as a user starts them."""

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from segkit.config import RunConfig, dump_config
from segkit.eval_miou import eval_miou

ROOT = Path(__file__).parents[2]
MakeConfig = Callable[..., RunConfig]


def launch(config: Path, num_ranks: int, *overrides: str) -> subprocess.CompletedProcess[str]:
    start = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={num_ranks}"] if num_ranks > 1 else []
    command = [sys.executable, *start, ROOT / "tools" / "train.py", config, *overrides]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def losses(run: Path) -> list[tuple[float, float, float]]:
    with (run / "log.csv").open() as file:
        return [(float(r["train_loss"]), float(r["val_loss"]), float(r["miou"])) for r in csv.DictReader(file)]


@pytest.mark.slow
def test_two_ranks_train_as_one_does(make_config: MakeConfig, tmp_path: Path) -> None:
    # LayerNorm in the encoder, nothing in the decoder: no statistics that depend on how a batch is split
    settings = (
        "model.name=unet", "model.encoder=tu-convnext_atto", "train.precision=fp32", "loss.dice=0.5",
        "model.options={decoder_channels: [16, 16, 16, 16], encoder_depth: 4, decoder_use_norm: identity}",
        "loss.class_weights=log", "train.epochs=2", "train.ema=0.5", "eval.batch_size=1",
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
    assert metrics["num_images"] == 6  # each picture once, though 6 are not a multiple of what ranks take
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
