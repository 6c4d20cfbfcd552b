import gzip
import json
import logging
import os
import signal
from collections import deque
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from segkit.cli import main
from segkit.config.reading import dump_config
from segkit.config.schema import RunConfig
from segkit.errors import ConfigError, DeviceError
from segkit.plan import _largest_batch, describe_plan, make_plan
from segkit.train import train
from segkit.training.profile import Stopwatch

MakeConfig = Callable[..., RunConfig]


def test_the_plan_counts_what_the_run_will_do(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config(tmp_path / "run", "train.epochs=7", "eval.every=3")
    plan = make_plan(config, num_steps=5)
    assert (plan.num_train, plan.num_val, plan.steps_per_epoch, plan.batch_size) == (12, 6, 3, 4)
    assert plan.run == pytest.approx(7 * 3 * plan.step + 3 * 6 * plan.validate)
    assert 0 < plan.peak_memory < plan.available_memory
    assert plan.checkpoint_bytes > 100_000
    assert plan.largest_batch is None
    assert not (tmp_path / "run").exists()
    text = describe_plan(plan)
    assert [line.split()[0] for line in text.splitlines()] == [
        "plan", "step", "limit", "loader", "memory", "epoch", "run", "disk",
    ]  # fmt: skip


def test_the_plan_counts_the_views_of_a_sampler(make_config: MakeConfig, tmp_path: Path) -> None:
    settings = ("data.sampler=repeat_factor", "data.repeat_threshold=1.0", "augment.rare_crops=0.5")
    config = make_config(tmp_path / "run", *settings, "train.epochs=1")
    plan = make_plan(config, num_steps=5)
    assert plan.num_train == 12
    assert plan.steps_per_epoch > 3
    train(config)
    assert f",{plan.steps_per_epoch}," in (tmp_path / "run" / "log.csv").read_text().splitlines()[1]


def test_auto_finds_the_largest_batch_within_the_share(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config(tmp_path / "run", "train.batch_size=auto")
    plan = make_plan(config, num_steps=5)
    assert plan.largest_batch == 16  # more would only repeat the 12 images
    assert "train.batch_size=16" in describe_plan(plan)
    with pytest.raises(DeviceError, match=r"2 images take .* GiB already, expected at most 0 % of .*; lower data"):
        make_plan(config, num_steps=5, memory_share=0.0001)


@pytest.mark.parametrize("curve", ["straight", "bent"])
def test_auto_comes_close_to_what_fits_and_never_beyond(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, curve: str
) -> None:
    def peak(config: RunConfig, batch: int) -> int:
        tried.append(batch)
        return int(1000 + 100 * batch + (2 * batch**2 if curve == "bent" else 0))

    tried: list[int] = []
    monkeypatch.setattr("segkit.plan._peak_of", peak)
    monkeypatch.setattr("segkit.plan.available_memory", lambda device: 10_000)
    found = _largest_batch(make_config(tmp_path / "run", "train.accumulate=2"), 0.8, num_train=1000)
    best = max(batch for batch in range(2, 200, 2) if peak(make_config(tmp_path / "run"), batch) <= 8000)
    assert 0.7 * best <= found <= best
    assert tried[:-99] == sorted(tried[:-99])  # growing only: a process's peak never comes down


@pytest.mark.parametrize("limit", [4, 9, 100])
def test_auto_survives_running_out_of_memory_in_its_search(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    def rehearse(config: RunConfig, folder: Path, num_steps: int) -> tuple[None, int]:
        if config.train.fixed_batch_size > limit:
            raise DeviceError("training: too much") from torch.OutOfMemoryError("CUDA out of memory")
        return None, 10 * config.train.fixed_batch_size  # as if there were no end to it

    monkeypatch.setattr("segkit.plan._rehearse", rehearse)
    monkeypatch.setattr("segkit.plan.available_memory", lambda device: 10_000)
    found = _largest_batch(make_config(tmp_path / "run"), 0.8, num_train=1000)
    assert limit - max(1, limit // 8) <= found <= limit


def test_steps_that_wait_for_loading_now_and_then_count_on_average() -> None:
    watch = Stopwatch()
    watch.seconds["loading"] = deque([9.0, 9.0, 9.0, *[0.4, 0.0] * 8])
    assert watch.means()["loading"] == pytest.approx(0.2)


def test_a_plan_that_is_interrupted_is_none(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def step_and_interrupt(self: Stopwatch) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Stopwatch, "start", step_and_interrupt)
    with pytest.raises(KeyboardInterrupt):
        make_plan(make_config(tmp_path / "run"), num_steps=5)


def test_auto_is_for_the_plan_alone(make_config: MakeConfig, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"train\.batch_size: found auto, which only `segkit plan` takes"):
        train(make_config(tmp_path / "run", "train.batch_size=auto"))


def test_the_command_prints_the_plan_and_leaves_nothing(
    make_config: MakeConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("small.yaml").write_text(dump_config(make_config(Path("run"))))
    assert main(["plan", "small.yaml", "--steps", "5"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("plan    5 steps of 4 measured on cpu")
    assert "epoch 1" not in printed
    assert [path.name for path in tmp_path.iterdir()] == ["small.yaml"]
    assert main(["plan", "small.yaml", "--steps", "2"]) == 2
    assert "expected --steps of at least 5" in capsys.readouterr().err


def test_a_profile_is_a_trace_and_five_lines(
    make_config: MakeConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = make_config(tmp_path / "run", "train.profile=true", "train.epochs=4", "eval.every=4")
    with caplog.at_level(logging.INFO, logger="segkit"):
        train(config)
    said = next(record.getMessage() for record in caplog.records if record.getMessage().startswith("profile"))
    lines = said.splitlines()
    assert len(lines) == 5
    assert "s per step over 5 steps: loading" in lines[0]
    assert all("% of the time in " in line for line in lines[1:4])
    with gzip.open(tmp_path / "run" / "profile.json.gz") as file:
        assert len(json.load(file)["traceEvents"]) > 100


@pytest.mark.parametrize("epochs", [1, 3])
def test_a_run_too_short_for_a_profile_says_so(
    make_config: MakeConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture, epochs: int
) -> None:
    with caplog.at_level(logging.INFO, logger="segkit"):
        train(make_config(tmp_path / "run", "train.profile=true", f"train.epochs={epochs}", "train.batch_size=12"))
    assert any("no trace: the run was over before its step 4" in record.getMessage() for record in caplog.records)
