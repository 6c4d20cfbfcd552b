"""PIDNet: its size against the paper, its outputs, and what it is trained by."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from segkit.config.schema import LossConfig, ModelConfig, RunConfig
from segkit.errors import ConfigError
from segkit.losses.table import build_criterion, build_loss
from segkit.models.checkpoint import Checkpoint
from segkit.models.pidnet import PidOutputs
from segkit.models.pidnet_loss import PidLoss, aware_loss, edge_loss, edges_of
from segkit.models.segmenter import Segmenter
from segkit.models.table import MODELS, build_model
from segkit.train import train


def build(size: str = "pidnet_s", num_classes: int = 5) -> Segmenter:
    torch.manual_seed(0)
    return build_model(ModelConfig(name="pidnet", encoder=size, pretrained="none"), num_classes)


@pytest.mark.parametrize(
    ("size", "parameters", "macs"),
    [
        ("pidnet_s", 7.6e6, 47.6e9),
        # The paper says 34.4 M and 197.4 G, which the authors' code doesn't build with its own numbers for M.
        ("pidnet_m", 28.54e6, 177.3e9),
        ("pidnet_l", 36.9e6, 275.8e9),
    ],
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


def criterion(**weights: float) -> PidLoss:
    config = LossConfig(**weights)  # type: ignore[arg-type]
    loss = build_loss(config, num_classes=5, ignore_index=255, class_weights=None, device=torch.device("cpu"))
    found = build_criterion(loss, MODELS["pidnet"].criterion)
    assert isinstance(found, PidLoss)
    return found


def batch(num_images: int, hw: tuple[int, int] = (72, 100)) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    coarse = torch.randint(0, 5, (num_images, 1, 6, 8), generator=generator).float()
    target = torch.nn.functional.interpolate(coarse, hw)[:, 0].to(torch.uint8)
    target[:, :10] = 255
    return torch.randint(0, 256, (num_images, 3, *hw), dtype=torch.uint8, generator=generator), target


def test_training_reaches_every_parameter_at_any_size() -> None:
    model = build().train()
    images, target = batch(2)
    outputs = model(images)
    assert isinstance(outputs, PidOutputs)
    found = criterion()
    with torch.no_grad():
        outputs.edges.add_(5)  # so that there are pixels that are taken for an edge
    value = found(outputs, target)
    assert len(value.terms) == len(found.names) == 4
    assert (value.terms > 0).all()
    value.total.backward()
    assert [name for name, each in model.named_parameters() if each.grad is None] == []


def outputs_for(target: torch.Tensor) -> PidOutputs:
    generator = torch.Generator().manual_seed(2)
    shape = (len(target), 16, 16)  # 72x100 is padded to 128x128
    logits, detail = (torch.randn(shape[0], 5, *shape[1:], generator=generator, requires_grad=True) for _ in range(2))
    return PidOutputs(logits, detail, (3 * torch.randn(shape[0], 1, *shape[1:], generator=generator)).requires_grad_())


@pytest.mark.parametrize("weights", [{}, {"cross_entropy": 0.0, "ohem": 1.0}, {"dice": 0.5}])
def test_parts_of_a_batch_add_up_to_it(weights: dict[str, float]) -> None:
    _, target = batch(3)
    target[2] = 255  # an image without a label
    outputs, loss = outputs_for(target), criterion(**weights)
    whole = loss(outputs, target)
    divisors = loss.normalizers(target)
    parts = [loss(PidOutputs(*(each[k : k + 1] for each in outputs)), target[k : k + 1], divisors) for k in range(3)]
    torch.testing.assert_close(torch.stack([part.total for part in parts]).sum(), whole.total)
    torch.testing.assert_close(torch.stack([part.terms for part in parts]).sum(dim=0), whole.terms)


def test_ignored_pixels_get_no_gradient_and_no_label_gives_0() -> None:
    _, target = batch(2)
    scores = torch.randn(2, 72, 100, requires_grad=True)
    edge_loss(scores, target, ignore_index=255).backward()
    assert scores.grad is not None
    assert (scores.grad[target == 255] == 0).all()
    assert (scores.grad[target != 255] != 0).all()
    nothing = torch.full_like(target, 255)
    value = criterion()(outputs_for(nothing), nothing)
    assert value.total.item() == 0


def test_edges_are_where_a_class_ends_and_not_where_labels_do() -> None:
    target = torch.zeros(1, 9, 20, dtype=torch.uint8)
    target[:, :, 10:] = 1
    target[:, :3] = 255
    edges = edges_of(target, ignore_index=255)[0]
    assert edges[5].nonzero().flatten().tolist() == [8, 9, 10, 11]
    assert not edges[:, :8].any()


def test_edge_loss_weighs_both_sides_alike() -> None:
    target = torch.zeros(1, 40, 40, dtype=torch.uint8)
    target[:, :, 20:] = 1
    edge = edges_of(target, ignore_index=255)
    wrong_edges = torch.where(edge, -4.0, -20.0)
    wrong_rest = torch.where(edge, 20.0, 4.0)
    costs = [edge_loss(scores, target, ignore_index=255).item() for scores in (wrong_edges, wrong_rest)]
    assert costs[0] == pytest.approx(costs[1], rel=1e-3)


def test_the_aware_loss_is_cross_entropy_of_what_is_taken_for_an_edge() -> None:
    _, target = batch(1)
    logits = torch.randn(1, 5, 72, 100)
    scores = torch.full((1, 72, 100), -9.0)
    assert aware_loss(logits, scores, target, ignore_index=255).item() == 0
    scores[:, 20:30, 5:25] = 9
    inside = torch.nn.functional.cross_entropy(logits[:, :, 20:30, 5:25], target[:, 20:30, 5:25].long())
    assert aware_loss(logits, scores, target, ignore_index=255).item() == pytest.approx(inside.item(), rel=1e-5)


def test_a_run_trains_and_resumes_to_the_same_bits(make_config: Callable[..., RunConfig], tmp_path: Path) -> None:
    words = ["model.name=pidnet", "model.encoder=pidnet_s", "model.options={}", "data.canvas=[128, 128]"]
    straight = train(make_config(tmp_path / "straight", *words))
    config = make_config(tmp_path / "resumed", *words)
    train(config, max_steps=4)
    resumed = train(config, resume=True)
    weights = [Checkpoint.load(run.folder / "checkpoints" / "last.pt").weights for run in (straight, resumed)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_another_encoder_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"model\.encoder: found 'resnet18', expected one of pidnet: pidnet_s"):
        build("resnet18")


def test_a_file_of_the_authors_names_loads_into_its_encoder(tmp_path: Path) -> None:
    theirs = {name: torch.randn_like(each) for name, each in build("pidnet_s", 19).network.encoder.state_dict().items()
              if each.is_floating_point()}  # fmt: skip
    torch.save({f"model.{name}": each for name, each in theirs.items()}, tmp_path / "pidnet_s.pth")
    model = build_model(ModelConfig("pidnet", "pidnet_s", pretrained=str(tmp_path / "pidnet_s.pth")), 5)
    loaded = model.encoder.state_dict()
    assert all(torch.equal(loaded[name], each) for name, each in theirs.items())
