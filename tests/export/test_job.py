"""An export is kept if it does what PyTorch does, and only then."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.export import ExportedProgram

from segkit.commands.export import FORMATS as WORDS
from segkit.config.schema import ModelConfig
from segkit.datasets.images import read_image
from segkit.errors import ConfigError, DataError, ExportError, RunFolderError
from segkit.export import program_file
from segkit.export.job import ExportReport, ExportSettings, export_model
from segkit.export.table import FORMATS, Format, format_of
from segkit.inference.exported import Exported, read_exported
from segkit.inference.postprocess import ClassRule, Postprocess
from segkit.inference.predictor import Predictor
from segkit.models.checkpoint import Checkpoint
from segkit.models.table import build_model

Export = Callable[..., Path]


@pytest.fixture
def settings(shapes: Path, tmp_path: Path) -> ExportSettings:
    return ExportSettings("torch-export", tmp_path / "model.pt2", images=str(shapes / "JPEGImages"), num_images=2)


@pytest.mark.parametrize("name", ["model.onnx", "model.xml", "model.pt2"])
def test_an_export_gives_the_masks_of_its_checkpoint_at_the_images_own_size(
    name: str, exported: Export, varied: Path, shapes: Path
) -> None:
    ours, theirs = Predictor.load(varied, device="cpu"), Predictor.load(exported(name))
    for path in sorted((shapes / "JPEGImages").iterdir())[:4]:
        image = read_image(path)
        assert theirs(image).shape == image.shape[:2]
        assert np.mean(ours(image) == theirs(image)) >= 0.999
        assert len(np.unique(ours(image))) > 1  # agreement on one class would say little


@pytest.mark.parametrize("name", ["model.onnx", "model.xml"])
def test_an_export_takes_any_number_of_images(name: str, exported: Export, shapes: Path) -> None:
    predictor = Predictor.load(exported(name))
    canvases = np.stack([predictor.letterbox(read_image(p))[1] for p in sorted((shapes / "JPEGImages").iterdir())[:3]])
    together = np.asarray(predictor.canvases_logits(canvases))
    alone = np.concatenate([np.asarray(predictor.canvases_logits(canvases[k : k + 1])) for k in range(3)])
    assert np.allclose(together, alone, atol=1e-4)


def test_probabilities_say_what_logits_say(exported: Export, shapes: Path) -> None:
    image = read_image(sorted((shapes / "JPEGImages").iterdir())[0])
    logits = Predictor.load(exported("model.onnx"))
    probabilities = Predictor.load(exported("probable.onnx", output_kind="probabilities"))
    assert np.array_equal(logits(image), probabilities(image))
    assert np.allclose(logits.probabilities(image), probabilities.probabilities(image), atol=1e-5)


def test_masks_are_for_other_programs(exported: Export) -> None:
    path = exported("mask.onnx", output_kind="mask")
    with pytest.raises(ConfigError, match=r"mask\.onnx: gives class ids on its canvas, expected logits"):
        Predictor.load(path)


def test_an_ensemble_becomes_one_file(varied: Path, settings: ExportSettings, tmp_path: Path, shapes: Path) -> None:
    other = Checkpoint.load(varied)
    other.weights["network.head.bias"] += torch.tensor([0.5, 0.0, -0.5, 0.0])
    other.save(tmp_path / "other.pt")
    report = export_model([varied, tmp_path / "other.pt"], [], settings)
    assert [name for name, _ in report.about.weights] == [varied.name, "other.pt"]
    image = read_image(sorted((shapes / "JPEGImages").iterdir())[0])
    expected = Predictor.load([varied, tmp_path / "other.pt"], device="cpu").probabilities(image)
    assert np.allclose(Predictor.load(settings.output).probabilities(image), expected, atol=1e-5)


def broken(program: ExportedProgram, about: Exported, path: Path) -> None:
    """Write a program whose last layer has its classes in another order."""
    for name in ("members.0.network.head.weight", "members.0.network.head.bias"):
        program.state_dict[name].copy_(program.state_dict[name].flip(0))
    program_file.write(program, about, path)


def test_a_broken_export_is_refused_and_leaves_nothing(
    varied: Path, settings: ExportSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(FORMATS, "torch-export", Format(".pt2", ("fp32",), broken))
    with pytest.raises(ExportError, match=r"model\.pt2: not kept: \d+\.\d+% of the pixels of 2 images"):
        export_model([varied], [], settings)
    assert list(settings.output.parent.iterdir()) == []


def test_what_is_asked_for_decides(varied: Path, settings: ExportSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FORMATS, "torch-export", Format(".pt2", ("fp32",), broken))
    report = export_model([varied], [], dataclasses.replace(settings, min_agreement=0.0))
    assert report.parity.agreement < 0.999
    assert settings.output.is_file()


def test_a_file_that_exists_is_replaced_only_where_asked(varied: Path, settings: ExportSettings) -> None:
    settings.output.write_bytes(b"mine")
    with pytest.raises(RunFolderError, match=r"model\.pt2: exists already; replace it with --overwrite"):
        export_model([varied], [], settings)
    assert settings.output.read_bytes() == b"mine"
    report = export_model([varied], [], dataclasses.replace(settings, overwrite=True))
    assert report.files == (settings.output,)
    assert read_exported(settings.output) == report.about


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"precision": "int8"}, "--precision int8: found with --format torch-export, .*; int8 is made for OpenVINO"),
        ({"precision": "fp16"}, "--precision fp16: found with --format torch-export, expected one of fp32, bf16"),
        ({"output": Path("model.bin")}, "--output model.bin: expected a name that ends in .pt2"),
        (
            {"format": "openvino", "output": Path("m.xml"), "precision": "int8", "output_kind": "mask"},
            "expected logits",
        ),
    ],
)
def test_settings_that_contradict_each_other_are_refused(
    changes: dict[str, object], message: str, varied: Path, settings: ExportSettings
) -> None:
    with pytest.raises(ConfigError, match=message):
        export_model([varied], [], dataclasses.replace(settings, **changes))  # type: ignore[arg-type]


def test_without_images_to_compare_on_nothing_is_exported(varied: Path, settings: ExportSettings) -> None:
    with pytest.raises(DataError, match=r"An export is compared .*: give the data set with data\.root=FOLDER, or"):
        export_model([varied], ["data.root=nowhere"], dataclasses.replace(settings, images=None))


def test_an_exported_model_is_not_exported_again(exported: Export, settings: ExportSettings) -> None:
    with pytest.raises(ConfigError, match=r"model\.onnx: exported already, expected a checkpoint"):
        export_model([exported("model.onnx")], [], settings)


def test_a_page_comes_as_a_folder_without_the_config(varied: Path, settings: ExportSettings) -> None:
    chosen = dataclasses.replace(settings, format="web", output=settings.output.with_name("site"))
    report = export_model([varied], [], chosen)
    assert report.files == (chosen.output,)
    held = {path.name for path in chosen.output.iterdir()}
    assert held == {
        "index.html",
        "page.css",
        "page.js",
        "png.js",
        "backend.js",
        "about.json",
        "package.json",
        "model.onnx",
    }
    assert "config" not in json.loads((chosen.output / "about.json").read_text())
    with pytest.raises(RunFolderError, match="site: exists already"):
        export_model([varied], [], chosen)


def test_a_folder_of_other_things_is_never_replaced(varied: Path, settings: ExportSettings) -> None:
    chosen = dataclasses.replace(settings, format="web", output=settings.output.with_name("mine"), overwrite=True)
    chosen.output.mkdir()
    (chosen.output / "thesis.txt").write_text("years of work")
    with pytest.raises(RunFolderError, match="mine: a folder that isn't an export"):
        export_model([varied], [], chosen)
    assert (chosen.output / "thesis.txt").is_file()


def test_an_export_carries_rules_and_zoom_and_applies_them(
    varied: Path, settings: ExportSettings, tmp_path: Path, shapes: Path
) -> None:
    trained = Checkpoint.load(varied)
    rules = Postprocess({1: ClassRule(min_component=30), 0: ClassRule(max_hole=20)}, tuned_on="val")
    dataclasses.replace(trained, postprocess=rules.to_dict(), zoom=0.5).save(tmp_path / "ruled.pt")
    export_model([tmp_path / "ruled.pt"], [], settings)
    theirs = Predictor.load(settings.output)
    assert theirs.zoom == 0.5
    assert theirs.smallest_zoom == 0.5 * trained.config.augment.scale[0]
    image = read_image(sorted((shapes / "JPEGImages").iterdir())[0])
    segmentation = theirs.segment(image)
    assert np.array_equal(segmentation.mask, rules(segmentation.raw_mask))
    assert not np.array_equal(segmentation.mask, segmentation.raw_mask)


# ---- sizes


def of(encoder: str, tmp_path: Path, varied: Path, name: str = "unet") -> Path:
    trained = Checkpoint.load(varied)
    model = ModelConfig(name, encoder, "none", {"decoder_channels": [16, 16, 16, 8, 8]})  # type: ignore[arg-type]
    config = dataclasses.replace(trained.config, model=model)
    torch.manual_seed(0)
    Checkpoint(build_model(model, 4).state_dict(), config, trained.classes).save(tmp_path / "unet.pt")
    return tmp_path / "unet.pt"


@pytest.mark.slow
def test_a_network_of_convolutions_takes_any_size_with_same_padding_as_well(
    tmp_path: Path, varied: Path, settings: ExportSettings, shapes: Path
) -> None:
    path = of("tu-tf_efficientnet_lite0", tmp_path, varied)  # TensorFlow's SAME padding
    export_model([path], [], dataclasses.replace(settings, any_size=True))
    image = read_image(sorted((shapes / "JPEGImages").iterdir())[0])
    ours, theirs = (Predictor.load(p, device="cpu", window=(96, 160)) for p in (path, settings.output))
    assert np.mean(ours(image) == theirs(image)) >= 0.999


@pytest.mark.slow
def test_a_network_that_is_bound_to_a_size_is_refused_for_any_size(varied: Path, settings: ExportSettings) -> None:
    # lite_unet pools to grids of fixed size, which ONNX has no operation for
    chosen = dataclasses.replace(settings, format="onnx", output=settings.output.with_suffix(".onnx"), any_size=True)
    with pytest.raises((ExportError, ConfigError), match=r"leave --any-size out"):
        export_model([varied], [], chosen)
    assert list(chosen.output.parent.iterdir()) == []


def test_a_model_of_one_size_says_so_when_it_gets_another(exported: Export, shapes: Path) -> None:
    image = read_image(sorted((shapes / "JPEGImages").iterdir())[0])
    with pytest.raises(ConfigError, match=r"model\.onnx: takes images of 64x64 pixels only, found 128x96"):
        Predictor.load(exported("model.onnx"), window=(96, 128))(image)


# ---- the table


def test_the_command_names_every_format() -> None:
    assert set(WORDS) == set(FORMATS)


@pytest.mark.parametrize("name", [name for name, each in FORMATS.items() if each.suffix])
def test_a_name_stands_for_its_format(name: str) -> None:
    assert format_of(Path(f"a/model{FORMATS[name].suffix}")) == name


def test_a_name_of_no_format_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"--output model\.tflite: expected a name that ends in \.onnx, \.xml"):
        format_of(Path("model.tflite"))


# ---- slow ones


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "precision"), [("half.onnx", "fp16"), ("half.xml", "fp16"), ("brain.xml", "bf16"), ("brain.pt2", "bf16")]
)
def test_reduced_precision_is_smaller_and_nearly_the_same(
    name: str, precision: str, varied: Path, settings: ExportSettings, tmp_path: Path
) -> None:
    chosen = dataclasses.replace(
        settings, format=format_of(Path(name)), output=tmp_path / name, precision=precision, min_agreement=0.9
    )
    report = export_model([varied], [], chosen)
    assert read_exported(report.files[-1]).precision == precision
    assert report.num_bytes < 0.6 * varied.stat().st_size


@pytest.mark.slow
def test_a_compiled_package_is_proved_and_not_predicted_with(
    varied: Path, settings: ExportSettings, tmp_path: Path
) -> None:
    chosen = dataclasses.replace(settings, format="aoti", output=tmp_path / "model.aoti.pt2")
    assert export_model([varied], [], chosen).parity.agreement >= 0.999
    with pytest.raises(Exception, match="refused: it holds compiled code"):
        Predictor.load(chosen.output)


def quantized(trained: Path, shapes: Path, settings: ExportSettings, **changes: object) -> ExportReport:
    chosen = dataclasses.replace(
        settings,
        format="openvino",
        output=settings.output.with_suffix(".xml"),
        precision="int8",
        images=None,
        **changes,
    )  # type: ignore[arg-type]
    return export_model([trained], [f"data.root={shapes}"], chosen)


@pytest.mark.slow
def test_int8_is_kept_within_the_loss_that_is_allowed(varied: Path, shapes: Path, settings: ExportSettings) -> None:
    report = quantized(varied, shapes, settings, min_agreement=0.8, max_miou_drop=0.2)
    assert report.miou is not None
    assert report.miou[0] - report.miou[1] <= 0.2
    assert report.num_bytes < 0.5 * varied.stat().st_size
    assert read_exported(report.files[-1]).precision == "int8"


@pytest.mark.slow
def test_layers_that_cost_too_much_in_int8_keep_their_precision_and_are_named(
    varied: Path, shapes: Path, settings: ExportSettings
) -> None:
    whole = quantized(varied, shapes, settings, min_agreement=0.5, max_miou_drop=1.0)
    chosen = dataclasses.replace(settings, overwrite=True)
    careful = quantized(varied, shapes, chosen, min_agreement=0.5, max_miou_drop=0.0)
    assert whole.miou is not None
    assert careful.miou is not None
    assert whole.miou[1] < whole.miou[0] <= careful.miou[1]
    assert set(whole.kept_layers) < set(careful.kept_layers)
