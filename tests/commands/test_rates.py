"""`segkit plot-schedule` and `segkit lr-find`, as they are typed."""

import csv
from collections.abc import Callable
from pathlib import Path

import pytest

from segkit.cli import main
from segkit.config.reading import dump_config
from segkit.config.schema import RunConfig
from segkit.errors import DeviceError
from segkit.lr_find import find_lr

MakeConfig = Callable[..., RunConfig]
PNG = b"\x89PNG"


@pytest.fixture
def config_file(make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(dump_config(make_config(tmp_path / "run", "optim.lr=0.003")))
    monkeypatch.chdir(tmp_path)
    return path


# ---- plot-schedule


def test_a_schedule_is_plotted_without_data(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "50")
    path, png = tmp_path / "c.yaml", tmp_path / "rate.png"
    path.write_text("data: {root: missing}\noptim: {lr: 0.01, schedule: linear, min_lr: 0, encoder_lr: 0.1}\n")
    assert main(["plot-schedule", str(path), "train.epochs=20", "--output", str(png)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "optim   adamw, schedule linear, warm-up 0.05"
    assert lines[1].split()[-3:] == ["0.01,", "last", "5.26e-06"]
    assert all(len(line) < 50 for line in lines[2:-1])
    assert "0.01 |" in lines[2]
    assert lines[-2].split() == ["0", "epochs", "20"]
    assert lines[-1] == f"written: {png}"
    assert png.read_bytes().startswith(PNG)


def test_a_plateau_is_drawn_as_if_nothing_got_better(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("train: {epochs: 20}\noptim: {lr: 1, schedule: plateau, patience: 4, step_factor: 0.5}\n")
    assert main(["plot-schedule", str(path)]) == 0
    said = capsys.readouterr().out
    assert "highest 1, last 0.125" in said  # 19 validations, but for the first: drops after 5, 10, 15 of them
    assert "as if mIoU never got better" in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--output", "rate.pdf"], "--output rate.pdf: expected a name that ends in .png"),
        (["--steps-per-epoch", "0"], "--steps-per-epoch 0: expected a number from 1"),
        (["optim.schedule=cosin"], "did you mean cosine?"),
    ],
)
def test_what_cannot_be_plotted_is_said(
    config_file: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plot-schedule", str(config_file), *words]) == 2
    assert message in capsys.readouterr().err


# ---- lr-find


def test_a_rate_is_found_by_real_training_that_leaves_no_run_folder(
    config_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["lr-find", str(config_file), "--steps", "30", "--lowest", "1e-5", "--highest", "1"]) == 0
    said = capsys.readouterr().out
    assert "suggest optim.lr=" in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lr-find-tiny.csv", "lr-find-tiny.png", "tiny.yaml"]
    assert (tmp_path / "lr-find-tiny.png").read_bytes().startswith(PNG)
    rows = list(csv.DictReader((tmp_path / "lr-find-tiny.csv").read_text().splitlines()))
    assert 10 < len(rows) <= 30
    assert float(rows[0]["lr"]) == pytest.approx(1e-5)
    lowest = min(rows, key=lambda row: float(row["smoothed"]))
    suggested = float(said.split("suggest optim.lr=")[1].split(":")[0])
    assert suggested == pytest.approx(float(lowest["lr"]) / 10, rel=0.06)
    assert float(lowest["smoothed"]) < 0.9 * float(rows[0]["loss"])  # it learned: these are training's losses


def test_the_suggestion_is_the_key_before_it_is_scaled_by_the_batch(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config(tmp_path / "run", "optim.reference_batch_size=16")
    found = find_lr(config, lowest=1e-5, highest=0.1, num_steps=12)
    assert found.test.suggestion is not None
    assert found.optim_lr == pytest.approx(4 * found.test.suggestion, rel=0.06)  # 4 images of 16


def test_a_range_test_is_repeated_to_the_bit(make_config: MakeConfig, tmp_path: Path) -> None:
    first, second = (find_lr(make_config(tmp_path / "run"), num_steps=10).test for _ in range(2))
    assert first.losses == second.losses


def test_rates_beyond_reason_end_the_test_early(make_config: MakeConfig, tmp_path: Path) -> None:
    test = find_lr(make_config(tmp_path / "run", "optim.name=sgd"), lowest=1e-3, highest=1e30, num_steps=40).test
    assert 0 < len(test.losses) < 40


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--steps", "3"], "--steps of at least 10"),
        (["--lowest", "1", "--highest", "0.1"], "--lowest above 0 and below --highest"),
        (["--output", "curve.svg"], "--output curve.svg: expected a name that ends in .png"),
        (["data.train=missing"], "missing.txt: no such split file"),
    ],
)
def test_what_cannot_be_tested_is_said(
    config_file: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["lr-find", str(config_file), *words]) == 2
    assert message in capsys.readouterr().err


def test_one_process_finds_rates(make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with pytest.raises(DeviceError, match="lr-find: found several processes"):
        find_lr(make_config(tmp_path / "run"))
