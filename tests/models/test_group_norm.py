import pytest
import timm
import torch
from torch import nn

from segkit.config.schema import ModelConfig
from segkit.errors import ConfigError
from segkit.models.group_norm import num_groups, use_group_norm
from segkit.models.segmenter import Segmenter
from segkit.models.table import build_model


def build(encoder: str = "resnet18", **settings: str) -> Segmenter:
    torch.manual_seed(0)
    return build_model(ModelConfig(name="lite_unet", encoder=encoder, pretrained="none", **settings), 3)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("channels", "groups"),
    [(512, 32), (64, 16), (48, 12), (16, 4), (24, 6), (40, 10), (3, 1), (4, 1), (7, 1), (96, 24)],
)
def test_groups_divide_channels_and_hold_at_least_four(channels: int, groups: int) -> None:
    assert num_groups(channels) == groups
    assert channels % groups == 0


def test_group_norm_keeps_weights_and_names_and_replaces_every_batch_norm() -> None:
    module = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Sequential(nn.BatchNorm2d(8)), nn.BatchNorm2d(8, affine=False))
    with torch.no_grad():
        module[1][0].weight.uniform_()
        module[1][0].bias.uniform_()
    before = dict(module.state_dict())
    assert use_group_norm(module) == 2
    after = module.state_dict()
    assert not any(isinstance(inner, nn.BatchNorm2d) for inner in module.modules())
    assert all(torch.equal(before[name], after[name]) for name in ("0.weight", "1.0.weight", "1.0.bias"))


def test_an_activation_inside_a_norm_of_timm_is_kept() -> None:
    norm = timm.layers.BatchNormAct2d(8, act_layer=nn.ReLU)
    module = nn.Sequential(norm)
    use_group_norm(module)
    x = torch.randn(2, 8, 5, 5)
    torch.testing.assert_close(module(x), nn.functional.relu(nn.functional.group_norm(x, 2, eps=norm.eps)))
    assert module.state_dict().keys() == {"0.weight", "0.bias"}


@pytest.mark.parametrize("encoder", ["resnet18", "tu-mobilenetv3_small_050"])
def test_a_model_with_group_norm_treats_each_image_alone_and_trains_as_it_predicts(encoder: str) -> None:
    model = build(encoder, norm="group", init="kaiming")
    images = torch.randint(0, 255, (2, 3, 64, 64), dtype=torch.uint8)
    for module in model.modules():
        if isinstance(module, (nn.Dropout2d, nn.Dropout)):
            module.p = 0.0
    with torch.no_grad():
        both, alone = model.train()(images), model.train()(images[:1])
        torch.testing.assert_close(both[:1], alone, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(model.eval()(images), both)


def test_a_model_with_group_norm_loads_its_own_weights() -> None:
    first, second = build(norm="group"), build(norm="group", init="xavier")
    second.load_state_dict(first.state_dict())
    assert {name for name, _ in first.named_parameters()} == {name for name, _ in build().named_parameters()}


def test_a_model_without_batch_norm_says_so() -> None:
    options = {"decoder_channels": [16, 16, 16, 16], "encoder_depth": 4, "decoder_use_norm": "identity"}
    config = ModelConfig(name="unet", encoder="tu-convnext_atto", pretrained="none", norm="group", options=options)
    with pytest.raises(
        ConfigError, match=r"model.norm: group, but unet with encoder tu-convnext_atto has no BatchNorm"
    ):
        build_model(config, 3)
