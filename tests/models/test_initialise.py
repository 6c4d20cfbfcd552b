import math
from typing import get_args, get_type_hints

import pytest
import torch
from torch import nn

from segkit.config.schema import ModelConfig
from segkit.models.initialise import INITIALISERS, initialise
from segkit.models.table import build_model

FAN_IN, FAN_OUT = 64 * 9, 128 * 9  # of the convolution below


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(64, 128, 3), nn.BatchNorm2d(128), nn.Linear(256, 64))


def test_every_way_of_the_config_is_in_the_table() -> None:
    assert ("default", *INITIALISERS) == get_args(get_type_hints(ModelConfig)["init"])


@pytest.mark.parametrize(
    ("name", "deviation"),
    [("kaiming", math.sqrt(2 / FAN_OUT)), ("xavier", math.sqrt(2 / (FAN_IN + FAN_OUT))), ("trunc_normal", 0.88 * 0.02)],
)
def test_weights_have_the_deviation_of_the_formula(name: str, deviation: float) -> None:
    net = network()
    initialise(net, name, keep=None)
    weight = net[0].weight.detach()
    assert float(weight.std()) == pytest.approx(deviation, rel=0.02)
    assert float(weight.mean()) == pytest.approx(0, abs=deviation / 50)
    assert not net[0].bias.any()
    assert not net[2].bias.any()


def test_orthogonal_rows_have_length_1_and_right_angles() -> None:
    net = network()
    initialise(net, "orthogonal", keep=None)
    rows = net[0].weight.flatten(1)
    torch.testing.assert_close(rows @ rows.T, torch.eye(128), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", sorted(INITIALISERS))
def test_norms_and_what_is_kept_stay(name: str) -> None:
    net = network()
    before = {key: tensor.clone() for key, tensor in net.state_dict().items()}
    initialise(net, name, keep=net[0])
    changed = {key for key, tensor in net.state_dict().items() if not torch.equal(tensor, before[key])}
    assert changed == {"2.weight", "2.bias"}


def test_the_key_draws_the_whole_model_where_nothing_is_pretrained() -> None:
    def build(init: str) -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        config = ModelConfig(name="lite_unet", encoder="resnet18", pretrained="none", init=init)  # type: ignore[arg-type]
        return build_model(config, 3).state_dict()

    plain, drawn, again = build("default"), build("orthogonal"), build("orthogonal")
    for name in ("network.encoder.conv1.weight", "network.head.weight"):
        assert not torch.equal(plain[name], drawn[name])
        assert torch.equal(drawn[name], again[name])
