"""DDRNet: its size against the paper, its outputs, and the loss of its two heads."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from segkit.config.schema import LossConfig, ModelConfig, RunConfig
from segkit.losses.table import build_loss
from segkit.models.auxiliary_loss import WEIGHT, AuxiliaryLoss, aligned
from segkit.models.checkpoint import Checkpoint
from segkit.models.segmenter import Segmenter
from segkit.models.table import build_model
from segkit.models.two_resolutions import AuxiliaryOutputs
from segkit.train import train


def build(size: str = "ddrnet_23_slim", num_classes: int = 5) -> Segmenter:
    torch.manual_seed(0)
    return build_model(ModelConfig(name="ddrnet", encoder=size, pretrained="none"), num_classes)


@pytest.mark.parametrize(
    ("size", "parameters", "macs"), [("ddrnet_23_slim", 5.7e6, 36.3e9), ("ddrnet_23", 20.1e6, 143.1e9)]
)
def test_it_costs_what_is_published_for_cityscapes(size: str, parameters: float, macs: float) -> None:
    model = build(size, 19).eval().to("meta")
    used = sum(each.numel() for name, each in model.named_parameters() if "seghead" not in name)
    assert used == pytest.approx(parameters, rel=0.03)
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model(torch.empty(1, 3, 1024, 2048, device="meta"))
    assert counter.get_total_flops() / 2 == pytest.approx(macs, rel=0.03)


@pytest.mark.parametrize("hw", [(64, 64), (90, 130), (8, 200)])
def test_images_of_any_size_get_logits_of_their_own(hw: tuple[int, int]) -> None:
    model = build().eval()
    with torch.inference_mode():
        assert model(torch.randint(0, 256, (2, 3, *hw), dtype=torch.uint8)).shape == (2, 5, *hw)


def criterion() -> AuxiliaryLoss:
    config = LossConfig(dice=0.5)
    return AuxiliaryLoss(
        build_loss(config, num_classes=5, ignore_index=255, class_weights=None, device=torch.device("cpu"))
    )


def test_training_reaches_every_parameter_at_any_size() -> None:
    model = build().train()
    target = torch.randint(0, 5, (2, 72, 100), dtype=torch.uint8)
    value = criterion()(model(torch.randint(0, 256, (2, 3, 72, 100), dtype=torch.uint8)), target)
    value.total.backward()
    assert [name for name, each in model.named_parameters() if each.grad is None] == []


def test_the_second_head_counts_its_weight_and_parts_add_up() -> None:
    generator = torch.Generator().manual_seed(0)
    outputs = AuxiliaryOutputs(*(torch.randn(3, 5, 16, 16, generator=generator) for _ in range(2)))
    target = torch.randint(0, 5, (3, 72, 100), generator=generator, dtype=torch.uint8)
    target[0, :30] = 255
    loss = criterion()
    whole, plain = loss(outputs, target), [loss.loss(aligned(each, target), target) for each in outputs]
    torch.testing.assert_close(whole.total, plain[0].total + WEIGHT * plain[1].total)
    assert loss.names == ("cross_entropy", "dice", "auxiliary_cross_entropy", "auxiliary_dice")
    torch.testing.assert_close(whole.terms, torch.cat([each.terms for each in plain]))
    divisors = loss.normalizers(target)
    parts = [
        loss(AuxiliaryOutputs(*(each[k : k + 1] for each in outputs)), target[k : k + 1], divisors) for k in range(3)
    ]
    torch.testing.assert_close(torch.stack([part.total for part in parts]).sum(), whole.total)


def test_a_run_trains_and_resumes_to_the_same_bits(make_config: Callable[..., RunConfig], tmp_path: Path) -> None:
    words = ["model.name=ddrnet", "model.encoder=ddrnet_23_slim", "model.options={}", "data.canvas=[128, 128]"]
    straight = train(make_config(tmp_path / "straight", *words))
    config = make_config(tmp_path / "resumed", *words)
    train(config, max_steps=4)
    resumed = train(config, resume=True)
    weights = [Checkpoint.load(run.folder / "checkpoints" / "last.pt").weights for run in (straight, resumed)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
