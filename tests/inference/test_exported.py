"""What an exported model says of itself, and what can't be asked of it."""

import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from segkit.classes import Classes
from segkit.config.schema import DataConfig, RunConfig
from segkit.errors import CheckpointError, ConfigError, DeviceError
from segkit.eval_miou import eval_miou
from segkit.inference.exported import Exported, ExportedBackend, read_exported
from segkit.inference.predictor import Predictor
from segkit.inference.trained import open_models

Export = Callable[..., Path]


@pytest.fixture
def about() -> Exported:
    return Exported(
        config=RunConfig(data=DataConfig(canvas=(64, 96))),
        classes=Classes.build(["background", "thing"]),
        output="logits",
        precision="fp32",
        normalization={"mean": [0.5, 0.5, 0.5], "std": [0.2, 0.2, 0.2]},
        held_out=["a", "b"],
        zoom=0.5,
        postprocess={"rules": [], "ignore_index": 255, "tuned_on": "val"},
        size_hw=(64, 96),
        weights=(("best.pt", "00" * 32),),
        licence="apache-2.0",
    )


# ---- the description


def test_a_description_that_is_read_is_the_one_that_was_written(about: Exported) -> None:
    assert Exported.from_json(about.to_json(), Path("m.onnx")) == about


def test_a_description_says_all_that_another_program_needs(about: Exported) -> None:
    plain = json.loads(about.to_json())
    assert plain["classes"]["names"] == ["background", "thing"]
    assert (plain["canvas"], plain["output"]) == ([64, 96], "logits")
    assert plain["input"] == {"dtype": "uint8", "layout": "NCHW", "channels": "RGB", "range": [0, 255]}
    assert plain["letterbox"]["bars"] == 128


@pytest.mark.parametrize("text", [None, "", "{}", '"x"', "{"])
def test_models_of_other_programs_are_refused(text: str | None) -> None:
    with pytest.raises(CheckpointError, match=r"m\.onnx: .*(without segkit's description|is damaged)"):
        Exported.from_json(text, Path("m.onnx"))


def test_a_newer_format_is_refused(about: Exported) -> None:
    newer = json.dumps({**json.loads(about.to_json()), "segkit_export": 99, "version": "9.0"})
    with pytest.raises(CheckpointError, match=r"m\.onnx: exported by segkit 9\.0 in a newer format"):
        Exported.from_json(newer, Path("m.onnx"))


# ---- calls


def test_a_fixed_batch_is_filled_one_call_after_the_other(about: Exported) -> None:
    sizes: list[int] = []

    def run(images: np.ndarray) -> np.ndarray:
        sizes.append(len(images))
        return images[:, :2].astype(np.float32)

    images = np.random.default_rng(0).integers(0, 255, (3, 3, 64, 96), np.uint8)
    backend = ExportedBackend(run, dataclasses.replace(about, batch=1), (64, 96))
    assert np.array_equal(backend(images), images[:, :2].astype(np.float32))
    assert sizes == [1, 1, 1]


def test_probabilities_of_zero_become_finite_scores(about: Exported) -> None:
    certain = np.stack([np.ones((64, 96), np.float32), np.zeros((64, 96), np.float32)])[None]
    backend = ExportedBackend(lambda _: certain, dataclasses.replace(about, output="probabilities"), (64, 96))
    scores = backend(np.zeros((1, 3, 64, 96), np.uint8))
    assert np.isfinite(scores).all()
    assert (scores[:, 0] > scores[:, 1]).all()


# ---- files


def test_another_precision_is_refused(exported: Export) -> None:
    path = exported("model.onnx")
    with pytest.raises(ConfigError, match=r"model\.onnx: was exported in fp32, found --precision bf16"):
        Predictor.load(path, precision="bf16")
    Predictor.load(path, precision="fp32")


def test_a_device_that_the_runtime_lacks_is_refused(exported: Export) -> None:
    with pytest.raises(DeviceError, match=r"--device cuda: found .*CPUExecutionProvider.* in this onnxruntime"):
        Predictor.load(exported("model.onnx"), device="cuda")


def test_an_exported_model_stands_alone(exported: Export, checkpoint: Path) -> None:
    with pytest.raises(CheckpointError, match=r"model\.onnx: an exported model, found among 2 models, expected it"):
        open_models([exported("model.onnx"), checkpoint])


@pytest.mark.parametrize(
    ("name", "package", "extra"), [("model.onnx", "onnxruntime", "onnx"), ("model.xml", "openvino", "openvino")]
)
def test_a_missing_runtime_gives_the_line_that_installs_it(
    name: str, package: str, extra: str, exported: Export, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = exported(name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError, match=rf"needs the package {package}, .*pip install 'segkit\[{extra}\]'"):
        read_exported(path)


@pytest.mark.parametrize("name", ["m.onnx", "m.xml", "m.pt2"])
def test_a_damaged_file_is_refused_and_named(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"not a model at all")
    (tmp_path / "m.bin").write_bytes(b"")
    with pytest.raises(CheckpointError, match=rf"{name}: "):
        read_exported(tmp_path / name)


def test_a_graph_without_its_weights_is_refused(exported: Export, tmp_path: Path) -> None:
    (tmp_path / "alone.xml").write_bytes(exported("model.xml").read_bytes())
    with pytest.raises(CheckpointError, match=r"alone\.xml: its weights are missing, expected alone\.bin beside it"):
        read_exported(tmp_path / "alone.xml")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"gone\.onnx: no such file"):
        read_exported(tmp_path / "gone.onnx")


# ---- evaluation


def test_evaluation_gives_the_figures_of_the_checkpoint(
    exported: Export, varied: Path, shapes: Path, tmp_path: Path
) -> None:
    data = [f"data.root={shapes}"]
    ours = eval_miou(varied, data, output=tmp_path / "ours")
    theirs = eval_miou(exported("model.onnx"), data, output=tmp_path / "theirs")
    assert np.abs(ours.scores.counts - theirs.scores.counts).sum() <= 0.001 * ours.scores.counts.sum()
    assert theirs.scores.miou == pytest.approx(ours.scores.miou, abs=1e-3)
    assert "fp32 by onnxruntime" in str(theirs.protocol)
    assert json.loads((tmp_path / "theirs" / "metrics.json").read_text())["protocol"]["runtime"] == "onnxruntime"


def test_another_canvas_is_refused_for_a_model_of_one_size(exported: Export, shapes: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.canvas: found \[96, 96\], but .*model\.onnx takes \[64, 64\] only"):
        eval_miou(exported("model.onnx"), [f"data.root={shapes}", "data.canvas=[96, 96]"], output=tmp_path)
