import pytest
import torch
import torch.nn.functional as F
from torch import nn

from segkit.models.resize import make_upsampling_deterministic, resize, resize_by_matrices

SIZES = [
    ((7, 9), (28, 36)),
    ((8, 8), (13, 5)),
    ((16, 12), (16, 24)),
    ((1, 1), (6, 4)),
    ((5, 1), (1, 7)),
    ((64, 80), (128, 160)),
]


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("given_hw", "size_hw"), SIZES)
def test_two_matrix_products_are_bilinear_interpolation_and_so_is_their_gradient(
    given_hw: tuple[int, int], size_hw: tuple[int, int], memory_format: torch.memory_format, align_corners: bool
) -> None:
    torch.manual_seed(0)
    x = torch.rand(2, 3, *given_hw).to(memory_format=memory_format).requires_grad_()
    outer = torch.rand(2, 3, *size_hw)
    found = resize_by_matrices(x, size_hw, align_corners=align_corners)
    expected = F.interpolate(x, size_hw, mode="bilinear", align_corners=align_corners)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    gradients = [torch.autograd.grad((y * outer).sum(), x)[0] for y in (found, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-5 * float(gradients[1].abs().max()))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_dtype_and_memory_order_stay(memory_format: torch.memory_format, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x = torch.rand(2, 3, 6, 10).to(dtype).to(memory_format=memory_format)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = resize_by_matrices(x, (12, 25))
    assert found.dtype == dtype
    assert found.is_contiguous(memory_format=memory_format)
    expected = F.interpolate(x, (12, 25), mode="bilinear", align_corners=False)
    tolerance = 1e-5 if dtype == torch.float64 else 2 * torch.finfo(dtype).eps
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


def test_a_cpu_keeps_its_bits_also_where_algorithms_must_be_deterministic() -> None:
    x = torch.rand(1, 3, 7, 9, requires_grad=True)
    torch.use_deterministic_algorithms(True)
    try:
        found = resize(x, (30, 31))
    finally:
        torch.use_deterministic_algorithms(False)
    assert torch.equal(found, F.interpolate(x, (30, 31), mode="bilinear", align_corners=False))


@pytest.mark.parametrize(
    "layer",
    [
        nn.UpsamplingBilinear2d(scale_factor=4),
        nn.Upsample(scale_factor=4, mode="bilinear", align_corners=True),
        nn.Upsample(scale_factor=2.5, mode="bilinear", align_corners=True),
        nn.Upsample(size=(9, 11), mode="bilinear"),
    ],
    ids=str,
)
def test_upsampling_layers_give_what_they_gave(layer: nn.Upsample) -> None:
    x = torch.rand(1, 3, 6, 8)
    model = nn.Sequential(layer)
    expected = model(x)
    assert make_upsampling_deterministic(model) == 1
    assert torch.equal(model(x), expected)


def test_nearest_upsampling_is_left_alone() -> None:
    assert make_upsampling_deterministic(nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(3, 3, 1))) == 0
