"""The commands as a user types them: what they print, and how they end."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segkit.cli import main
from segkit.commands.demo import demo, demo_config
from segkit.config.reading import dump_config
from segkit.config.schema import DataConfig, RunConfig
from segkit.train import TrainResult

ROOT = Path(__file__).parents[2]
MakeConfig = Callable[..., RunConfig]


@pytest.fixture
def config_file(make_config: MakeConfig, tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(dump_config(make_config(tmp_path / "run", "train.epochs=1")))
    return path


# ---- the main path


def test_train_evaluate_predict(
    config_file: Path, shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", str(config_file)]) == 0
    said = capsys.readouterr().out
    best = tmp_path / "run" / "checkpoints" / "best.pt"
    for words in (
        "12 to train on, 6 to validate, 4 classes",
        "epoch   1/1",
        "mIoU",
        "disc",
        f"segkit eval {best}",
        "segkit predict",
    ):
        assert words in said
    assert main(["eval", str(best)]) == 0
    assert "6 images" in capsys.readouterr().out
    assert main(["predict", str(best), str(shapes / "JPEGImages"), "--output", str(tmp_path / "out")]) == 0
    assert "18 of 18 images predicted" in capsys.readouterr().out
    assert len(list((tmp_path / "out" / "masks").glob("*.png"))) == 18


@pytest.mark.parametrize("tool", ["train", "eval_miou", "predict"])
def test_tools_are_the_same_commands_as_scripts(tool: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / f"{tool}.py", "--help"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0
    assert "usage: segkit" in done.stdout


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom segkit.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
        "print(sorted({'torch', 'numpy', 'cv2', 'pydantic', 'segmentation_models_pytorch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    for command in ("train", "eval", "predict", "demo"):
        assert command in done.stdout


# ---- stopping


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_says_how_to_resume_and_resume_finishes(
    make_config: MakeConfig, tmp_path: Path, number: signal.Signals
) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_text(dump_config(make_config(tmp_path / "run", "train.epochs=60", "train.workers=1", "eval.every=60")))
    command = [sys.executable, "-m", "segkit.cli", "train", str(path)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as run:
        deadline = time.monotonic() + 120
        while not (tmp_path / "run" / "log.csv").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        os.killpg(run.pid, number)  # as a terminal does it: the whole group, workers too
        said, errors = run.communicate(timeout=120)
    assert run.returncode == 75, errors
    assert f"resume: segkit train {path} --resume" in said
    assert "Traceback" not in errors
    done = subprocess.run(
        [*command, "--resume", "train.epochs=60"], capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr
    assert len((tmp_path / "run" / "log.csv").read_text().splitlines()) == 61


def test_a_reader_that_leaves_does_not_end_the_training(config_file: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "segkit.cli", "train", str(config_file), "train.epochs=2"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        assert run.stderr is not None
        assert run.stdout.readline().startswith("run ")
        run.stdout.close()
        errors = run.stderr.read()
    assert run.returncode == 0
    assert errors == ""
    assert len((tmp_path / "run" / "log.csv").read_text().splitlines()) == 3


# ---- bad input: one clear line, exit code 2, no half-written run


def test_a_missing_config_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "nowhere.yaml"]) == 2
    assert capsys.readouterr().err.startswith("error: nowhere.yaml: can't read this config (No such file")


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["data.root=nowhere"], "is not a folder"),
        (["data.val=missing"], "no such split file"),
        (["train.epochs=many"], 'train.epochs: found "many", expected a whole number'),
    ],
)
def test_wrong_settings_end_with_2_and_no_run(
    config_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], overrides: list[str], words: str
) -> None:
    assert main(["train", str(config_file), *overrides]) == 2
    said = capsys.readouterr().err
    assert words in said
    assert "Traceback" not in said
    assert not (tmp_path / "run").exists()


def spoil_size(root: Path) -> None:
    Image.new("RGB", (9, 9)).save(root / "images" / "a.png")


def spoil_id(root: Path) -> None:
    Image.fromarray(np.full((8, 8), 7, np.uint8)).save(root / "masks" / "a.png")


def spoil_rgb(root: Path) -> None:
    Image.new("RGB", (8, 8), (255, 0, 0)).save(root / "masks" / "a.png")


def spoil_image(root: Path) -> None:
    (root / "images" / "a.png").write_bytes((root / "images" / "a.png").read_bytes()[:60])


def spoil_empty(root: Path) -> None:
    (root / "images" / "a.png").write_bytes(b"")


def spoil_missing(root: Path) -> None:
    (root / "masks" / "a.png").unlink()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (spoil_size, "the label is 8x8 pixels, its image a.png is 9x9"),
        (spoil_id, "value 7 at (0, 0) is no class (0..1)"),
        (spoil_rgb, "found an RGB label"),
        (spoil_image, "damaged or truncated"),
        (spoil_empty, "the file is empty (0 bytes)"),
        (spoil_missing, "no label for this image"),
    ],
)
def test_a_spoilt_file_is_named_with_a_remedy_and_leaves_no_run(
    write_folders: Callable[..., DataConfig], make_config: MakeConfig, tmp_path: Path,
    capsys: pytest.CaptureFixture[str], spoil: Callable[[Path], None], words: str,
) -> None:  # fmt: skip
    rng = np.random.default_rng(0)
    data = write_folders({name: rng.integers(0, 2, (8, 8), np.uint8) for name in "abcdefgh"})
    spoil(Path(data.root))
    config = make_config(
        tmp_path / "run", f"data.root={data.root}", "data.layout=folders", "data.val_fraction=0.25",
        "data.classes=[background, object]",
    )  # fmt: skip
    (tmp_path / "bad.yaml").write_text(dump_config(config))
    assert main(["train", str(tmp_path / "bad.yaml")]) == 2
    said = capsys.readouterr().err
    assert "a.png" in said
    assert words in said
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("command", ["eval", "predict"])
def test_a_file_that_is_no_checkpoint_ends_with_2(
    command: str, shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "c.pt").write_bytes(b"PK\x03\x04 not really")
    images = str(shapes / "JPEGImages")
    rest = [images, "--output", str(tmp_path / "new" / "out")] if command == "predict" else []
    assert main([command, str(tmp_path / "c.pt"), *rest]) == 2
    assert "not a checkpoint, or truncated" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_prediction_with_a_bad_image_ends_with_1_and_does_the_others(
    trained: TrainResult, shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs = tmp_path / "in"
    inputs.mkdir()
    (inputs / "good.jpg").symlink_to(next((shapes / "JPEGImages").glob("*.jpg")))
    (inputs / "bad.jpg").write_bytes(b"")
    assert main(["predict", str(trained.best), str(inputs), "--output", str(tmp_path / "out")]) == 1
    said = capsys.readouterr()
    assert "1 of 2 images predicted" in said.out
    assert "bad.jpg: the file is empty" in said.err


def test_a_word_that_is_no_setting_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["train", "c.yaml", "--resume", "epochs"], ["train", "c.yaml", "--fast=1"], ["demo", "a=b"]):
        with pytest.raises(SystemExit) as caught:
            main(words)
        assert caught.value.code == 2
        assert "unrecognized arguments" in capsys.readouterr().err


# ---- the demo


def test_the_demo_never_draws_over_what_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "dataset").mkdir()
    assert main(["demo", "--output", str(tmp_path)]) == 2
    assert "not empty, expected a new folder" in capsys.readouterr().err
    assert not list((tmp_path / "dataset").iterdir())


def test_the_demo_config_is_the_one_in_configs() -> None:
    from segkit.config.keys import differences
    from segkit.config.reading import load_config

    shown = load_config(ROOT / "configs" / "demo.yaml")
    assert set(differences(shown, demo_config(Path("segkit_demo"), pretrained=True))) == {"run"}


@pytest.mark.slow
def test_the_demo_reaches_its_score_and_names_what_to_open(tmp_path: Path) -> None:
    result = demo(tmp_path / "demo")
    assert result.evaluated is not None
    assert result.evaluated.scores.miou > 0.85
    assert result.trained.scores is not None
    assert result.evaluated.scores.miou == result.trained.scores.miou
    assert len(list((tmp_path / "demo" / "predictions" / "overlays").glob("*.jpg"))) == 12
