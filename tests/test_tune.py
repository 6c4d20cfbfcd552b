"""A search: its trials are runs, it continues where it was stopped, and nothing of a trial depends on the others."""

import csv
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from segkit import tune as tuning
from segkit.cli import main
from segkit.config.reading import dump_config, load_config
from segkit.config.schema import RunConfig
from segkit.config.space import Between, Choice, Space
from segkit.errors import ConfigError
from segkit.models.checkpoint import Checkpoint
from segkit.train import train
from segkit.tune import Search, tune

pytest.importorskip("optuna", reason="optuna isn't installed: pip install segkit[tune]")

SPACE: Space = {"optim.lr": Between(0.0001, 0.03, log=True), "loss.class_weights": Choice(('"none"', '"log"'))}


@pytest.fixture
def config(make_config: Callable[..., RunConfig], tmp_path: Path) -> RunConfig:
    return make_config(tmp_path / "search", "train.epochs=2")


def settings(search: Search) -> list[dict[str, Any]]:
    return [trial.settings for trial in search.trials if trial.state != "taken up"]


def test_a_trial_is_the_run_that_train_would_have_made(config: RunConfig, tmp_path: Path) -> None:
    search = tune(config, SPACE, num_trials=2, prune=False)
    assert [trial.state for trial in search.trials] == ["done", "done"]
    best = search.best
    assert best
    assert best.miou == max(trial.miou for trial in search.trials)
    straight = train(replace(load_config(search.folder / "best.yaml"), run=str(tmp_path / "straight")))
    assert straight.scores is not None
    assert straight.scores.miou == best.miou
    weights = [Checkpoint.load(path).weights for path in (straight.best, best.folder / "checkpoints" / "best.pt")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_a_search_continues_with_trials_of_its_own_and_ends_as_many_as_asked_for(config: RunConfig) -> None:
    first = tune(config, SPACE, num_trials=1)
    again = tune(config, SPACE, num_trials=3)
    assert [trial.number for trial in again.trials] == [0, 1, 2]
    assert settings(again)[0] == settings(first)[0]
    assert len({trial.settings["optim.lr"] for trial in again.trials}) == 3
    assert tune(config, SPACE, num_trials=2).trials == again.trials
    rows = list(csv.DictReader((again.folder / "trials.csv").read_text().splitlines()))
    assert [float(row["miou"]) for row in rows] == [trial.miou for trial in again.trials]
    assert list(rows[0])[4:] == list(SPACE)


def test_a_trial_that_was_killed_is_taken_up_where_it_was(config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    straight = tune(replace(config, run=f"{config.run}-straight"), SPACE, num_trials=1)

    def killed(*args: Any, **kwargs: Any) -> Any:
        train(*args, **{**kwargs, "max_steps": 3})  # three steps, saved, and then the power is gone
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(tuning, "train", killed)
        with pytest.raises(KeyboardInterrupt):
            tune(config, SPACE, num_trials=1)
    again = tune(config, SPACE, num_trials=1)
    assert [trial.state for trial in again.trials] == ["taken up", "done"]
    assert again.trials[0].folder == again.trials[1].folder
    assert settings(again) == settings(straight)
    assert again.best
    assert straight.best
    assert again.best.miou == straight.best.miou


def test_a_trial_that_falls_behind_is_given_up(config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "FREE", 1)
    shares = iter([[0.5, 0.6], [0.3, 0.9]])  # at both rungs, of each trial
    epochs: list[int] = []

    class Result:
        stopped = False

        def __init__(self, miou: float) -> None:
            self.scores = type("Scores", (), {"miou": miou})

    trials: dict[str, list[float]] = {}

    def pretend(config: RunConfig, *, resume: object, max_steps: int) -> Result:
        mious = trials.setdefault(config.run, next(shares)) if config.run not in trials else trials[config.run]
        epochs.append(max_steps)
        return Result(mious.pop(0))

    monkeypatch.setattr(tuning, "train", pretend)
    search = tune(config, SPACE, num_trials=2)
    assert [(trial.state, trial.epochs) for trial in search.trials] == [("done", 2), ("given up", 1)]
    assert search.best
    assert search.best.number == 0


def test_settings_that_exclude_each_other_fail_their_trial_alone(config: RunConfig) -> None:
    space: Space = {"loss.cross_entropy": Choice(("1.0", "0.0"))}  # 0 leaves no loss at all
    search = tune(config, space, num_trials=6, prune=False)
    assert {trial.state for trial in search.trials} == {"done", "failed"}
    for trial in search.trials:
        assert (trial.state == "failed") == (trial.settings["loss.cross_entropy"] == 0)


def test_a_search_without_hope_ends(config: RunConfig) -> None:
    broken = replace(config, data=replace(config.data, val="none"))
    with pytest.raises(ConfigError, match=r"all 3 trials failed; the last: .*none"):
        tune(broken, SPACE, num_trials=9)


def test_another_search_does_not_mix_with_it(config: RunConfig) -> None:
    tune(config, SPACE, num_trials=1)
    with pytest.raises(ConfigError, match=r"holds a search that differs in config\.train\.epochs"):
        tune(replace(config, train=replace(config.train, epochs=3)), SPACE, num_trials=2)
    with pytest.raises(ConfigError, match=r"holds a search that differs in space\.optim\.lr"):
        tune(config, {**SPACE, "optim.lr": Between(0.1, 0.2)}, num_trials=2)


def test_a_folder_of_something_else_is_left_alone(config: RunConfig) -> None:
    Path(config.run).mkdir()
    (Path(config.run) / "photo.jpg").touch()
    with pytest.raises(ConfigError, match="not empty, and no search"):
        tune(config, SPACE, num_trials=1)


@pytest.mark.parametrize(
    ("epochs", "every", "rungs"), [(2, 1, [1, 2]), (40, 1, [5, 10, 20, 40]), (48, 8, [8, 16, 24, 48]), (3, 5, [3])]
)
def test_rungs_are_epochs_that_are_validated(
    epochs: int, every: int, rungs: list[int], make_config: Callable[..., RunConfig], tmp_path: Path
) -> None:
    assert tuning._rungs(make_config(tmp_path, f"train.epochs={epochs}", f"eval.every={every}")) == rungs


def test_the_command_prints_the_best_first_and_what_to_type(
    config: RunConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.yaml").write_text(dump_config(config))
    (tmp_path / "space.yaml").write_text("optim.lr: [0.00001, 0.003]\n")
    words = ["tune", str(tmp_path / "mine.yaml"), "--space", str(tmp_path / "space.yaml"), "--trials"]
    assert main([*words, "0"]) == 2
    assert main([*words, "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("train:   segkit train") for line in lines)
    found = [float(line.split()[1]) for line in lines if " done " in line]
    assert found == sorted(found, reverse=True)
    shutil.rmtree(config.run)
