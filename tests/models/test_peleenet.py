"""PeleeNet against the paper's figures: 2.8 M parameters and 508 M multiply-adds at 224x224, with its classifier."""

from pathlib import Path

import pytest
import segmentation_models_pytorch as smp
import torch
from torch.utils.flop_counter import FlopCounterMode

from segkit.config.schema import ModelConfig
from segkit.errors import ConfigError
from segkit.models.table import build_model

CLASSIFIER = 704 * 1000 + 1000


def test_it_costs_what_the_paper_says() -> None:
    with torch.device("meta"):
        encoder = smp.encoders.get_encoder("peleenet")
        with FlopCounterMode(display=False) as counter:
            encoder(torch.zeros(1, 3, 224, 224))
    assert sum(parameter.numel() for parameter in encoder.parameters()) + CLASSIFIER == pytest.approx(2.8e6, rel=0.01)
    assert counter.get_total_flops() / 2 + CLASSIFIER == pytest.approx(508e6, rel=0.03)


@pytest.mark.parametrize("depth", [3, 4, 5])
def test_its_features_have_the_channels_and_strides_that_it_states(depth: int) -> None:
    encoder = smp.encoders.get_encoder("peleenet", depth=depth)
    features = encoder(torch.randn(2, 3, 64, 96))
    assert [feature.shape[1] for feature in features] == list(encoder.out_channels)
    assert [feature.shape[2:] for feature in features] == [(64 >> k, 96 >> k) for k in range(depth + 1)]
    assert encoder.output_stride == 2**depth


@pytest.mark.parametrize("name", ["unet", "fpn", "lite_unet", "upernet"])
def test_decoders_take_it_and_every_parameter_trains(name: str) -> None:
    model = build_model(ModelConfig(name, "peleenet", "none"), 3)  # type: ignore[arg-type]
    logits = model(torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8))
    assert logits.shape == (2, 3, 64, 64)
    logits.square().mean().backward()
    assert [name for name, parameter in model.encoder.named_parameters() if parameter.grad is None] == []


def test_a_file_of_its_authors_is_loaded(tmp_path: Path) -> None:
    own = build_model(ModelConfig("unet", "peleenet", "none"), 2).encoder.state_dict()
    assert {"features.stemblock.stem2b.conv.weight", "features.denseblock3.denselayer8.branch2c.norm.running_mean",
            "features.transition4.conv.weight"} <= set(own)  # fmt: skip
    theirs = {f"module.{name}": tensor for name, tensor in own.items()}
    torch.save({"state_dict": {**theirs, "module.classifier.bias": torch.zeros(1000)}}, tmp_path / "pelee.pth.tar")
    loaded = build_model(ModelConfig("unet", "peleenet", str(tmp_path / "pelee.pth.tar")), 2).encoder.state_dict()
    assert all(torch.equal(tensor, own[name]) for name, tensor in loaded.items())


def test_it_says_that_there_are_no_weights_to_download() -> None:
    with pytest.raises(ConfigError, match="no ImageNet weights of peleenet can be downloaded"):
        build_model(ModelConfig("unet", "peleenet"), 2)
