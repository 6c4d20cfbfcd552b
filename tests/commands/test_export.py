"""`segkit export`, as it is typed."""

from pathlib import Path

import pytest

from segkit.cli import main


@pytest.fixture
def images(shapes: Path) -> list[str]:
    return ["--images", str(shapes / "JPEGImages"), "--num-images", "2"]


def test_an_export_says_what_it_holds_and_what_to_type_next(
    varied: Path, images: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "model.pt2"
    assert main(["export", str(varied), "--output", str(output), *images]) == 0
    printed = capsys.readouterr().out
    assert f"written: {output}" in printed
    assert "100.0000% of the pixels of 2 images get PyTorch's class" in printed
    assert f"segkit predict {output} IMAGES --output FOLDER" in printed


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--output", "model.bin"], "--output model.bin: expected a name that ends in .onnx, .xml"),
        (["--output", "m.onnx", "--format", "openvino"], "--output m.onnx: expected a name that ends in .xml"),
        (["--output", "gone/m.pt2", "--images", "nowhere"], "nowhere: no such file or folder"),
    ],
)
def test_what_can_not_be_exported_ends_with_a_message(
    words: list[str], message: str, varied: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert main(["export", str(varied), *words]) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", [["--num-images", "0"], ["--min-agreement", "2"], ["--min-agreement", "most"]])
def test_numbers_out_of_range_are_refused(words: list[str], varied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["export", str(varied), "--output", "m.onnx", *words])
    assert f"found '{words[1]}', expected" in capsys.readouterr().err


def test_without_a_checkpoint_one_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "data.root=x", "--output", "m.onnx"]) == 2
    assert "export: found no checkpoint, expected one" in capsys.readouterr().err
