"""What a model costs, held against published figures and hand counts."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from segkit.cli import main
from segkit.config.schema import ModelConfig
from segkit.models.segmenter import Segmenter
from segkit.models.summary import receptive_field, summarize
from segkit.models.table import build_model


def plain(*layers: nn.Module) -> Segmenter:
    return Segmenter(nn.Sequential(*layers), stride=1, mean=(0, 0, 0), std=(1, 1, 1)).eval()


def test_operations_are_two_per_multiply_add() -> None:
    summary = summarize(plain(nn.Conv2d(3, 8, 3, padding=1)), "one layer", size_hw=(16, 20))
    assert summary.flops == 2 * (3 * 9 * 8) * 16 * 20
    assert summary.parameters == 3 * 9 * 8 + 8
    assert summary.activation_bytes == 4 * 8 * 16 * 20


@pytest.mark.parametrize(
    ("encoder", "parameters", "multiply_adds"),
    # torchvision's documentation: ResNet-18 11.69 M with 0.513 M of its classifier, 1.81 G; ResNet-34 21.80 M, 3.66 G
    [("resnet18", 11.69e6 - 0.513e6, 1.81e9), ("resnet34", 21.80e6 - 0.513e6, 3.66e9)],
)
def test_encoders_cost_what_is_published(encoder: str, parameters: float, multiply_adds: float) -> None:
    segmenter = build_model(ModelConfig("unet", encoder, "none"), 2, pretrained=False)
    summary = summarize(segmenter, encoder, size_hw=(224, 224))
    mine = [stage for stage in summary.stages if stage.name.startswith("encoder")]
    assert sum(stage.parameters for stage in mine) == pytest.approx(parameters, rel=0.01)
    assert sum(stage.flops for stage in mine) / 2 == pytest.approx(multiply_adds, rel=0.01)


def test_stages_add_up_to_the_whole() -> None:
    segmenter = build_model(ModelConfig("unet", "resnet18", "none"), 3, pretrained=False)
    summary = summarize(segmenter, "unet", size_hw=(64, 64), batch_size=2)
    assert sum(stage.parameters for stage in summary.stages) == summary.parameters
    assert sum(stage.flops for stage in summary.stages) == summary.flops
    assert all(stage.seconds > 0 for stage in summary.stages if stage.flops)


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ([nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 3, padding=1)], (5, 5)),
        ([nn.Conv2d(3, 2, (3, 5), padding=(1, 2))], (3, 5)),
        ([nn.Conv2d(3, 2, 3, padding=4, dilation=4)], (9, 9)),
        ([nn.Conv2d(3, 4, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Upsample((32, 32))], None),
    ],
)
def test_the_receptive_field_is_that_of_the_layers(layers: list[nn.Module], expected: tuple[int, int] | None) -> None:
    assert receptive_field(plain(*layers), (32, 32)) == expected


def test_a_measured_model_is_left_as_it_was() -> None:
    segmenter = build_model(ModelConfig("lite_unet", "resnet18", "none"), 2, pretrained=False)
    before = {name: tensor.clone() for name, tensor in segmenter.state_dict().items()}
    summarize(segmenter, "lite", size_hw=(64, 64))
    assert all(torch.equal(tensor, before[name]) for name, tensor in segmenter.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in segmenter.modules())


def test_the_command_takes_checkpoints_and_configs(
    checkpoint: Path, shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["summary", str(checkpoint)]) == 0
    printed = capsys.readouterr().out
    assert "lite_unet, encoder resnet18: 1 x 64x64 pixels" in printed
    assert max(map(len, printed.splitlines())) <= 80
    (tmp_path / "c.yaml").write_text(
        f"data: {{root: {shapes}, canvas: [64, 96]}}\nmodel: {{name: unet, encoder: resnet18, pretrained: none}}\n"
    )
    assert main(["summary", str(tmp_path / "c.yaml"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["size_hw"] == [64, 96]


@pytest.mark.parametrize(
    ("words", "message"),
    [(["--size", "360x480"], "--size: found '360x480', expected height,width"), (["--batch-size", "0"], "expected a"),
     (["model.name=unet"], "model.name=unet: without effect on a checkpoint")],
)  # fmt: skip
def test_what_means_nothing_is_refused(
    words: list[str], message: str, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["summary", str(checkpoint), *words]) == 2
    assert message in capsys.readouterr().err
