import pytest
import torch

from segkit.config.schema import ModelConfig
from segkit.errors import ConfigError
from segkit.models.lite_unet import LiteUnet
from segkit.models.segmenter import Segmenter
from segkit.models.table import IMAGENET_MEAN, MODELS, build_model

# what an architecture needs beside a small encoder, to be built and run in a second
SPECIAL = {
    "dpt": {"encoder": "tu-vit_tiny_patch16_224.augreg_in21k", "options": {"dynamic_img_size": True}},
    "segformer": {"encoder": "mit_b0"},
    "unet_classic": {"encoder": "vgg16"},  # it takes vgg16 and resnet50 alone
    "pidnet": {"encoder": "pidnet_s"},
    "ddrnet": {"encoder": "ddrnet_23_slim"},
}


def build(name: str) -> Segmenter:
    settings = {"encoder": "tu-mobilenetv3_small_050", **SPECIAL.get(name, {})}
    return build_model(ModelConfig(name=name, pretrained="none", **settings), 5)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", MODELS)
def test_every_architecture_gives_logits_of_the_input_size(name: str) -> None:
    hw = (224, 224) if name == "dpt" else (50, 70)
    model = build(name).eval()
    with torch.inference_mode():
        assert model(torch.zeros(1, 3, *hw, dtype=torch.uint8)).shape == (1, 5, *hw)


@pytest.mark.parametrize("name", MODELS)
def test_images_are_padded_to_the_networks_stride_as_checkpoints_were_trained(name: str) -> None:
    assert build(name).stride == {"pan": 128, "pidnet": 64, "ddrnet": 64}.get(name, 32)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("pan", {"encoder_output_stride": 32}),
        ("deeplabv3", {"encoder_output_stride": 16}),
        ("unet", {"encoder_depth": 3, "decoder_channels": [16, 8, 8]}),
    ],
)
def test_options_change_no_padding(name: str, options: dict[str, object]) -> None:
    model = build_model(ModelConfig(name, "resnet18", "none", options), 2)  # type: ignore[arg-type]
    assert model.stride == (128 if name == "pan" else 32)


@pytest.mark.parametrize(
    ("encoder", "kind"),
    [
        ("resnet18", "ResNetEncoder"),
        ("tu-tf_efficientnet_lite0", "TimmUniversalEncoder"),
        ("vgg11", "VGGEncoder"),
        ("timm-tf_efficientnet_lite0", "EfficientNetLiteEncoder"),
    ],
)
def test_encoders_of_every_family_are_built_by_name(encoder: str, kind: str) -> None:
    built = build_model(ModelConfig(encoder=encoder, pretrained="none"), 2).encoder
    assert type(built).__name__ == kind


def test_normalisation_is_that_of_the_encoder() -> None:
    lite = build_model(ModelConfig(encoder="tu-tf_efficientnet_lite0", pretrained="none"), 2)
    assert lite.mean.flatten().tolist() == [127.5] * 3
    resnet = build_model(ModelConfig(encoder="resnet18", pretrained="none"), 2)
    torch.testing.assert_close(resnet.mean.flatten() / 255, torch.tensor(IMAGENET_MEAN))


@pytest.mark.parametrize(
    ("encoder", "near"), [("resnet33", "resnet34"), ("tu-tf_efficientnet_light0", "tu-tf_efficientnet_lite0")]
)
def test_an_unknown_encoder_comes_with_the_nearest_ones(encoder: str, near: str) -> None:
    with pytest.raises(ConfigError, match=near):
        build_model(ModelConfig(encoder=encoder, pretrained="none"), 2)


@pytest.mark.parametrize("options", [{"decoder_chanels": [1, 2]}, {"decoder_channels": [16]}, {"classes": 7}])
@pytest.mark.parametrize("name", ["unet", "lite_unet"])
def test_options_that_do_not_fit_are_refused(name: str, options: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=rf"model\.options.*{name} can't be built"):
        build_model(ModelConfig(name=name, encoder="resnet18", pretrained="none", options=options), 2)  # type: ignore[arg-type]


def test_a_network_that_cannot_be_built_is_not_blamed_on_the_hub() -> None:
    config = ModelConfig(encoder="resnet18", pretrained="none", options={"decoder_channels": [-1, 8, 8, 8, 8]})
    with pytest.raises(ConfigError, match="can't be built"):
        build_model(config, 2)


def test_options_reach_the_architecture() -> None:
    model = build_model(
        ModelConfig(name="lite_unet", encoder="resnet18", pretrained="none", options={"dropout": 0.7}), 2
    )
    assert isinstance(model.network, LiteUnet)
    assert model.network.dropout.p == 0.7


def test_lite_unet_answers_at_half_size_and_trains_every_parameter() -> None:
    model = build_model(ModelConfig(name="lite_unet", encoder="resnet18", pretrained="none"), 3)
    assert model.network(torch.randn(2, 3, 64, 96)).shape == (2, 3, 32, 48)
    model(torch.zeros(2, 3, 64, 64, dtype=torch.uint8)).sum().backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []
