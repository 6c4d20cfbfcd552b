import pytest
import torch
from torch import nn

from segkit.models.segmenter import Segmenter


class Probe(nn.Module):
    """A network that checks what it is given and answers at a chosen fraction of its size."""

    def __init__(self, divide_hw: tuple[int, int] = (1, 1)) -> None:
        super().__init__()
        self.encoder = nn.Conv2d(3, 2, 1)
        self.divide_hw = divide_hw
        self.seen = torch.empty(0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen = x
        height, width = x.shape[-2] // self.divide_hw[0], x.shape[-1] // self.divide_hw[1]
        return self.encoder(x)[..., :height, :width]


def segmenter(network: nn.Module, stride: int = 32) -> Segmenter:
    return Segmenter(network, stride=stride, mean=(0.5, 0.4, 0.3), std=(0.5, 0.25, 0.2))


@pytest.mark.parametrize("hw", [(32, 64), (33, 64), (32, 65), (1, 1), (100, 37)])
@pytest.mark.parametrize("divide_hw", [(1, 1), (4, 4), (2, 1), (1, 2)])
def test_logits_have_the_size_of_the_images_whatever_the_network_returns(
    hw: tuple[int, int], divide_hw: tuple[int, int]
) -> None:
    model = segmenter(Probe(divide_hw))
    images = torch.randint(0, 256, (2, 3, *hw), dtype=torch.uint8)
    assert model(images).shape == (2, 2, *hw)


def test_the_network_sees_normalised_pixels_and_the_mean_beside_them() -> None:
    network = Probe()
    images = torch.randint(0, 256, (1, 3, 20, 30), dtype=torch.uint8)
    segmenter(network)(images)
    mean, std = torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1), torch.tensor([0.5, 0.25, 0.2]).view(3, 1, 1)
    assert network.seen.shape == (1, 3, 32, 32)
    torch.testing.assert_close(network.seen[0, :, :20, :30], (images[0] / 255 - mean) / std)
    assert not network.seen[..., 20:, :].any()
    assert not network.seen[..., :, 30:].any()


def test_uint8_and_float_images_give_the_same_logits() -> None:
    model = segmenter(Probe())
    images = torch.randint(0, 256, (1, 3, 32, 32), dtype=torch.uint8)
    assert torch.equal(model(images), model(images.float()))


def test_normalisation_belongs_to_the_weights() -> None:
    assert {"mean", "std"} <= set(segmenter(Probe()).state_dict())


def test_alignment_is_bilinear_between_pixel_centres() -> None:
    class Ramp(Probe):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.arange(16.0).expand(1, 1, 16, 16)

    logits = segmenter(Ramp())(torch.zeros(1, 3, 32, 32, dtype=torch.uint8))
    assert logits[0, 0, 0, 1:-1].tolist() == [(k - 0.5) / 2 for k in range(1, 31)]


def test_a_device_gets_its_memory_order_and_no_result_changes() -> None:
    model = segmenter(nn.Sequential())
    model.network = Probe()
    images = torch.randint(0, 256, (2, 3, 40, 40), dtype=torch.uint8)
    before = model(images)
    model.to_device(torch.device("cpu"), channels_last=True)
    torch.testing.assert_close(model(images), before)
    assert model.network.seen.is_contiguous(memory_format=torch.channels_last)
