"""Models in several runtimes, timed in turns."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from segkit.cli import main
from segkit.errors import SegkitError
from segkit.export.bench import Candidate, Timing, bench, markdown


def test_each_model_is_measured_in_a_process_of_its_own(
    exported: Callable[..., Path], varied: Path, shapes: Path
) -> None:
    candidates = [Candidate("ours", varied, "fp32"), Candidate("theirs", exported("model.onnx"))]
    ours, theirs = bench(candidates, rounds=3, score=[f"data.root={shapes}"])
    assert [(each.name, each.runtime, each.precision) for each in (ours, theirs)] == [
        ("ours", "pytorch", "fp32"),
        ("theirs", "onnxruntime", "fp32"),
    ]
    for each in (ours, theirs):
        assert 0 < each.latency_ms["p50"] <= each.latency_ms["p90"] <= each.latency_ms["p99"]
        assert each.images_per_second > 0
    assert theirs.peak_mib < 0.7 * ours.peak_mib  # no torch
    assert theirs.miou == pytest.approx(ours.miou, abs=1e-3)


def test_a_model_that_cannot_be_loaded_ends_with_its_message(tmp_path: Path) -> None:
    with pytest.raises(SegkitError, match=r"gone\.onnx: no such file"):
        bench([Candidate("gone", tmp_path / "gone.onnx")], rounds=1)


def test_the_table_compares_with_the_first_model() -> None:
    times = [{"p50": 40.0, "p90": 50.0, "p99": 60.0}, {"p50": 10.0, "p90": 11.0, "p99": 12.0}]
    rows = markdown([Timing(f"m{k}", "r", "fp32", each, 25.0, 1, 2, 100.0, 5.0) for k, each in enumerate(times)])
    assert [line.split("|")[7].strip() for line in rows.splitlines()[2:]] == ["1.00x", "4.00x"]
    assert "mIoU" not in rows


@pytest.mark.parametrize("word", ["onnx:int8", "web:fp32", "aoti", "tflite"])
def test_what_can_not_be_made_is_named(word: str, varied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", str(varied), "--make", word]) == 2
    assert f"--make: found '{word}', expected one of onnx:fp32, onnx:fp16, openvino:fp32" in capsys.readouterr().err


def test_the_command_writes_what_it_prints(
    exported: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "bench.json"
    assert main(["bench", str(exported("model.onnx")), "--rounds", "2", "--output", str(report)]) == 0
    (figures,) = json.loads(report.read_text())["models"]
    assert f"{figures['latency_ms']['p50']:.1f}" in capsys.readouterr().out


def test_all_makes_what_can_be_made_and_says_what_cannot(
    varied: Path, shapes: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from segkit.commands import bench as command

    made = command._made

    def failing(word: str, *arguments: object) -> object:
        if word == "onnx:fp16":
            raise SegkitError("no such runtime here")
        return made(word, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(command, "_makeable", lambda: ["onnx:fp16", "onnx:fp32"])
    monkeypatch.setattr(command, "_made", failing)
    assert main(["bench", str(varied), "--make", "all", "--rounds", "1", f"data.root={shapes}"]) == 0
    printed = capsys.readouterr().out
    assert "left out: onnx:fp16: no such runtime here" in printed
    assert "made: onnx:fp32" in printed
