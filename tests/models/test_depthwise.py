import pytest
import torch
from timm.layers import Conv2dSame
from torch import nn

from segkit.models.depthwise import speed_up_depthwise


def layer(kind: type[nn.Conv2d], kernel: int, stride: int, channels: int = 8) -> nn.Conv2d:
    padding = kernel // 2 if kind is nn.Conv2d else 0
    return kind(channels, channels, kernel, stride, padding, groups=channels, bias=False).double()


@pytest.mark.parametrize("kind", [nn.Conv2d, Conv2dSame])
@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("hw", [(20, 28), (21, 27), (7, 5)])
def test_results_and_gradients_are_those_of_the_plain_layer(
    kind: type[nn.Conv2d], kernel: int, stride: int, hw: tuple[int, int]
) -> None:
    torch.manual_seed(0)
    plain = layer(kind, kernel, stride)
    x = torch.randn(2, 8, *hw, dtype=torch.double, requires_grad=True)
    expected = plain(x)
    grad = torch.randn_like(expected)
    expected_gradients = torch.autograd.grad(expected, (x, plain.weight), grad)
    assert speed_up_depthwise(plain) == 1
    result = plain(x)
    torch.testing.assert_close(result, expected)
    torch.testing.assert_close(torch.autograd.grad(result, (x, plain.weight), grad), expected_gradients)


@pytest.mark.parametrize("kind", [nn.Conv2d, Conv2dSame])
def test_without_gradients_the_result_is_the_same_to_the_last_bit(kind: type[nn.Conv2d]) -> None:
    plain = layer(kind, 5, 2).float()
    x = torch.randn(2, 8, 33, 30)
    with torch.no_grad():
        expected = plain(x)
        speed_up_depthwise(plain)
        assert torch.equal(plain(x), expected)


def test_autocast_computes_in_bf16() -> None:
    fast = layer(nn.Conv2d, 3, 1).float()
    speed_up_depthwise(fast)
    with torch.autocast("cpu", torch.bfloat16):
        result = fast(torch.randn(1, 8, 9, 9))
    assert result.dtype == torch.bfloat16
    result.sum().backward()
    assert fast.weight.grad is not None
    assert fast.weight.grad.dtype == torch.float32


@pytest.mark.parametrize(
    "other",
    [
        nn.Conv2d(8, 8, 3),
        nn.Conv2d(8, 8, 3, groups=8),  # has a bias
        nn.Conv2d(8, 16, 3, groups=8, bias=False),
        nn.Conv2d(8, 8, 7, groups=8, bias=False),
        nn.Conv2d(8, 8, 3, groups=8, bias=False, dilation=2),
        nn.Conv2d(8, 8, 3, groups=8, bias=False, padding_mode="reflect"),
        nn.Conv2d(8, 8, 3, stride=3, groups=8, bias=False),
        nn.Conv2d(8, 8, 3, groups=8, bias=False, padding="same"),
    ],
)
def test_other_layers_are_left_alone(other: nn.Conv2d) -> None:
    assert speed_up_depthwise(other) == 0
    assert type(other) is nn.Conv2d


def test_names_and_values_of_the_weights_stay() -> None:
    model = nn.Sequential(layer(nn.Conv2d, 3, 1), nn.BatchNorm2d(8))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert speed_up_depthwise(model) == 1
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
