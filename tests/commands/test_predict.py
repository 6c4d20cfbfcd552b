import io
import os
import sys
from pathlib import Path

import pytest
from PIL import Image

import segkit.predict as predict_module
from segkit.cli import main
from segkit.commands import predict as predict_command


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of one good image."""
    (tmp_path / "in").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "in" / "good.png")
    return tmp_path / "in"


def test_every_error_is_counted_and_the_first_ten_are_shown(
    checkpoint: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(12):
        (folder / f"{number:02d}.png").write_bytes(b"")
    output = folder.parent / "out"
    assert main(["predict", str(checkpoint), str(folder), "--output", str(output)]) == 1
    said = capsys.readouterr()
    assert f"1 of 13 images predicted: {output}" in said.out
    assert "09.png: the file is empty" in said.err
    assert "10.png" not in said.err
    assert f"... and 2 more, see {output / 'predictions.csv'}" in said.err


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_names_that_are_not_utf8_are_printed_where_a_terminal_takes_only_utf8(
    checkpoint: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="strict")
    monkeypatch.setattr(sys, "stdout", terminal)
    output = os.fsdecode(os.fsencode(folder.parent) + b"/caf\xe9")
    assert main(["predict", str(checkpoint), str(folder), "--output", output]) == 0
    terminal.seek(0)
    assert f"1 of 1 images predicted: {folder.parent}/caf\\udce9" in terminal.read()


def test_a_wrong_input_is_told_before_the_checkpoint_is_looked_at(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", "missing.pt", str(tmp_path / "nowhere"), "--output", str(tmp_path / "out")]) == 2
    assert "nowhere: no such file or folder" in capsys.readouterr().err


def test_a_stopped_job_is_continued_by_a_flag(checkpoint: Path, folder: Path) -> None:
    words = ["predict", str(checkpoint), str(folder), "--output", str(folder.parent / "out")]
    assert main(words) == 0
    assert main(words) == 2  # masks may have been corrected by hand
    assert main([*words, "--skip-existing"]) == 0


@pytest.mark.parametrize(
    ("flag", "word"), [("--batch-size", "0"), ("--workers", "0"), ("--min-confidence", "1"), ("--min-confidence", "x")]
)
def test_numbers_out_of_range_are_refused(
    folder: Path, flag: str, word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["predict", "best.pt", str(folder), "--output", "out", flag, word])
    assert f"found '{word}', expected" in capsys.readouterr().err


def test_pixels_below_the_confidence_are_ignored(checkpoint: Path, folder: Path) -> None:
    output = folder.parent / "out"
    words = ["predict", str(checkpoint), str(folder), "--output", str(output), "--min-confidence", "0.999"]
    assert main(words) == 0
    with Image.open(output / "masks" / "good.png") as mask:
        assert mask.getcolors() == [(64, 255)]
    assert (output / "predictions.csv").read_text().splitlines()[1].split(",")[1:6] == ["8", "8", "0", "0", "0"]


def test_options_without_effect_on_an_engine_are_refused(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["predict", "best.pt", str(folder), "--output", str(folder.parent / "out")]
    assert main([*words, "--workers", "2"]) == 2
    assert "--workers: without effect on --engine local" in capsys.readouterr().err
    assert main(["predict", "best.pt", "film.mp4", "--output", "out", "--engine", "ray"]) == 2
    assert "--engine ray: without effect on a video" in capsys.readouterr().err
    monkeypatch.setenv("RANK", "0")
    assert main([*words, "--engine", "ray"]) == 2
    assert "found under torchrun" in capsys.readouterr().err


@pytest.mark.parametrize("engine", ["local", "ray"])
@pytest.mark.parametrize(
    ("words", "message"), [(["--tta", "mirror"], '--tta: .*found ["mirror"]'), (["--window", "9x9"], "--window: found")]
)
def test_words_that_mean_nothing_are_told_before_a_model_or_a_fleet_is_started(
    words: list[str], message: str, engine: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = folder.parent / "out"
    assert main(["predict", "missing.pt", str(folder), "--output", str(output), "--engine", engine, *words]) == 2
    said = capsys.readouterr().err
    assert all(part in said for part in message.split(".*"))


@pytest.mark.parametrize("words", [["--batch-size", "4"], ["--max-megapixels", "10"]])
def test_options_of_images_are_refused_for_a_video(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", "best.pt", str(tmp_path / "clip.mp4"), "--output", str(tmp_path / "out"), *words]) == 2
    assert "--batch-size, --max-megapixels: without effect on a video" in capsys.readouterr().err


def test_the_limit_of_pixels_is_that_of_the_library() -> None:
    assert predict_command.MAX_MEGAPIXELS == predict_module.MAX_MEGAPIXELS
