import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
import torch.distributed as dist
from timm.optim import param_groups_layer_decay
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor

from segkit.config.schema import OptimConfig
from segkit.errors import ConfigError
from segkit.runtime.sharding import fit_state
from segkit.training.ema import MovingAverage
from segkit.training.optim import OPTIMIZERS, build_optimizer, encoder_heights, takes_muon
from segkit.training.schedule import scale_lr, set_lr


def model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[DeviceMesh]:
    """A group of this process alone: its tensors are sharded all the same."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        yield init_device_mesh("cpu", (1,))
    finally:
        dist.destroy_process_group()


# ---- optimizers


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_every_optimizer_lowers_a_loss(name: str) -> None:
    net = model()
    optimizer = build_optimizer(OptimConfig(name=name), net, encoder=net[0], lr=0.01)  # type: ignore[arg-type]
    x = torch.randn(8, 3, 6, 6)
    losses = []
    for _ in range(20):
        loss = net(x).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def test_the_encoder_has_its_own_rate() -> None:
    net = model()
    optimizer = build_optimizer(OptimConfig(encoder_lr=0.1), net, encoder=net[0], lr=0.02)
    assert set_lr(optimizer, 0.5) == pytest.approx(0.01)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert rates[id(net[0].weight)] == pytest.approx(0.001)
    assert rates[id(net[2].weight)] == pytest.approx(0.01)


def test_biases_and_normalisation_are_not_decayed_and_nothing_is_left_out() -> None:
    net = model()
    optimizer = build_optimizer(OptimConfig(weight_decay=0.3), net, encoder=net[0], lr=0.02)
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert {id(p) for p in net.parameters()} == decay.keys()
    assert all(decay[id(p)] == (0.3 if p.ndim > 1 else 0) for p in net.parameters())


@pytest.mark.parametrize(("reference", "expected"), [(None, 0.01), (16, 0.02), (64, 0.005)])
def test_the_rate_is_scaled_only_if_asked(reference: int | None, expected: float) -> None:
    assert scale_lr(OptimConfig(lr=0.01, reference_batch_size=reference), batch_size=32) == expected


def test_every_optimizer_of_the_config_is_in_the_table() -> None:
    assert tuple(OPTIMIZERS) == get_args(get_type_hints(OptimConfig)["name"])


def train_some(net: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        torch.manual_seed(step)
        set_lr(optimizer, 1 / (step + 1))
        net(torch.randn(4, 3, 6, 6)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_a_resumed_optimizer_continues_to_the_bit(name: str, tmp_path: Path) -> None:
    config = OptimConfig(name=name, l1=0.01, layer_decay=0.5, groups={"2.*": {"lr": 3.0}})  # type: ignore[arg-type]

    def built() -> tuple[nn.Sequential, torch.optim.Optimizer]:
        net = model()
        return net, build_optimizer(config, net, encoder=nn.Sequential(nn.Sequential(net[0])), lr=0.02)

    straight, optimizer = built()
    train_some(straight, optimizer, range(6))
    broken, optimizer = built()
    train_some(broken, optimizer, range(3))
    torch.save({"weights": broken.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "last.pt")
    resumed, optimizer = built()
    saved = torch.load(tmp_path / "last.pt", weights_only=True)
    resumed.load_state_dict(saved["weights"])
    optimizer.load_state_dict(fit_state(saved["optimizer"], optimizer))
    train_some(resumed, optimizer, range(3, 6))
    assert all(torch.equal(one, other) for one, other in zip(resumed.parameters(), straight.parameters(), strict=True))


def test_nesterov_can_be_switched_off() -> None:
    def momentum(**settings: Any) -> list[bool]:
        net = model()
        optimizer = build_optimizer(OptimConfig(name="sgd", **settings), net, encoder=net[0], lr=0.01)
        return [group["nesterov"] for group in optimizer.param_groups]

    assert all(momentum())
    assert not any(momentum(nesterov=False))
    assert not any(momentum(momentum=0.0))


def test_muon_turns_matrices_and_leaves_the_rest_to_adamw() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(4, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 2, 1))
    before = copy.deepcopy(net)
    config = OptimConfig(name="muon", weight_decay=0)
    optimizer = build_optimizer(config, net, encoder=net[0], lr=0.01)
    net(torch.randn(2, 4, 8, 8)).square().mean().backward()
    gradients = [parameter.grad.clone() for parameter in net.parameters() if parameter.grad is not None]
    optimizer.step()
    for parameter, old, gradient in zip(net.parameters(), before.parameters(), gradients, strict=True):
        change = (parameter - old).detach()
        if takes_muon(parameter):
            assert parameter is net[0].weight
            values = torch.linalg.svdvals(change.flatten(1)) / 0.01 / (0.2 * max(8, 36) ** 0.5)
            assert values.min() > 0.6  # orthogonalised: all singular values are about 1
            assert values.max() < 1.3
        else:  # AdamW's first step has the size of the rate
            seen = gradient.abs() > 1e-5  # not biases that BatchNorm takes away again
            torch.testing.assert_close(change[seen], -0.01 * gradient.sign()[seen], rtol=1e-2, atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((64, 32), True), ((64, 32, 3, 3), True), ((8, 3, 7, 7), True), ((64,), False), ((64, 1, 3, 3), False),
        ((1, 197, 192), False), ((1, 1, 192), False), ((2, 64, 1, 1), False), ((64, 3), False),
    ],
)  # fmt: skip
def test_muon_takes_what_is_a_matrix(shape: tuple[int, ...], expected: bool) -> None:
    assert takes_muon(torch.zeros(shape)) is expected


@pytest.mark.parametrize("name", sorted({*OPTIMIZERS} - {"muon"}))  # which the config refuses beside sharding
def test_sharded_parameters_learn_the_same(name: str, mesh: DeviceMesh) -> None:
    config = OptimConfig(name=name, l1=0.01)  # type: ignore[arg-type]
    plain = nn.Linear(4, 6)
    sharded = copy.deepcopy(plain)
    for key, parameter in list(sharded.named_parameters()):
        setattr(sharded, key, nn.Parameter(distribute_tensor(parameter.detach(), mesh, [Shard(0)])))
    optimizers = [build_optimizer(config, net, encoder=nn.Identity(), lr=0.01) for net in (plain, sharded)]
    for step in range(3):
        for parameter, spread in zip(plain.parameters(), sharded.parameters(), strict=True):
            parameter.grad = torch.full_like(parameter, step - 0.5) + parameter.detach()
            spread.grad = distribute_tensor(parameter.grad, mesh, [Shard(0)])
        for optimizer in optimizers:
            optimizer.step()
    for parameter, spread in zip(plain.parameters(), sharded.parameters(), strict=True):
        torch.testing.assert_close(spread.full_tensor(), parameter)  # type: ignore[attr-defined]


# ---- groups


def rates(config: OptimConfig, net: nn.Module, encoder: nn.Module) -> dict[str, float]:
    optimizer = build_optimizer(config, net, encoder=encoder, lr=1.0)
    found = {id(p): group["base_lr"] for group in optimizer.param_groups for p in group["params"]}
    return {name: found[id(parameter)] for name, parameter in net.named_parameters()}


def test_the_first_pattern_that_fits_gives_a_parameter_its_own_rate_and_decay() -> None:
    net = model()
    config = OptimConfig(groups={"2.*": {"lr": 10.0, "weight_decay": 0.5}, "*.bias": {"lr": 2.0}}, weight_decay=0.1)
    assert rates(config, net, net[0]) == {
        "0.weight": 1, "0.bias": 2, "1.weight": 1, "1.bias": 2, "2.weight": 10, "2.bias": 10,
    }  # fmt: skip
    optimizer = build_optimizer(config, net, encoder=net[0], lr=1.0)
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert [decay[id(p)] for p in net.parameters()] == [0.1, 0, 0, 0, 0.5, 0]  # biases and norms: never
    assert set_lr(optimizer, 0.5) == 0.5  # the rate that is reported has no factor


def test_a_pattern_that_fits_nothing_is_refused_with_those_that_would() -> None:
    net = model()
    with pytest.raises(ConfigError, match=r"optim.groups: found 'head.\*', which fits no .* such as 0.bias.\*"):
        build_optimizer(OptimConfig(groups={"head.*": {"lr": 2.0}}), net, encoder=net[0], lr=1.0)


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "deit3_small_patch16_224"])
def test_layer_decay_of_a_transformer_is_timms(name: str) -> None:
    net = timm.create_model(name, num_classes=2)
    expected = {
        id(parameter): group["lr_scale"]
        for group in param_groups_layer_decay(net, layer_decay=0.7)
        for parameter in group["params"]
    }
    encoder = copy.copy(net)  # the same parameters without those of the head, which stands for a decoder
    encoder._modules = {key: module for key, module in net._modules.items() if key != "head"}
    found = rates(OptimConfig(layer_decay=0.7), net, encoder)
    assert len(set(found.values())) == 14
    assert found == pytest.approx({key: expected[id(parameter)] for key, parameter in net.named_parameters()})


@pytest.mark.parametrize(
    ("name", "num_blocks"),
    [("resnet18", 8), ("tu-mobilenetv3_small_050", 12), ("tu-convnext_atto", 18), ("mit_b0", 8), ("mobilenet_v2", 19)],
)
def test_layer_decay_falls_block_by_block_from_the_decoder_to_the_input(name: str, num_blocks: int) -> None:
    encoder = smp.encoders.get_encoder(name, weights=None)
    heights = encoder_heights([key for key, _ in encoder.named_parameters()])
    assert max(heights) == num_blocks + (1 if name != "mobilenet_v2" else 0)  # and the stem, where it has no number
    assert heights == sorted(heights, reverse=True)


def test_layer_decay_needs_blocks_to_count() -> None:
    with pytest.raises(ConfigError, match=r"no blocks by number \(features.conv0.weight, ...\)"):
        encoder_heights(["features.conv0.weight", "features.norm0.bias"])


def test_l1_brings_weights_to_0_and_leaves_biases_alone() -> None:
    net = model()
    before = copy.deepcopy(net)
    config = OptimConfig(name="sgd", momentum=0.0, weight_decay=0.0, l1=5.0)
    optimizer = build_optimizer(config, net, encoder=net[0], lr=0.01)
    set_lr(optimizer, 0.5)
    for parameter in net.parameters():
        parameter.grad = torch.zeros_like(parameter)
    net[2].weight.grad = None  # frozen
    optimizer.step()
    shrunk = nn.functional.softshrink(before[0].weight, 0.025)
    assert (shrunk == 0).any()
    torch.testing.assert_close(net[0].weight, shrunk)
    for kept in ("0.bias", "1.weight", "1.bias", "2.weight", "2.bias"):
        assert torch.equal(net.get_parameter(kept), before.get_parameter(kept))


# ---- moving average


def test_the_average_is_its_formula_with_warm_up() -> None:
    net = model()
    average = MovingAverage(net, decay=0.8)
    expected = net[0].weight.detach().clone()
    for update in range(30):
        with torch.no_grad():
            net[0].weight.add_(torch.randn_like(net[0].weight))
        average.update(net)
        decay = min(0.8, (1 + update) / (10 + update))
        expected = decay * expected + (1 - decay) * net[0].weight.detach()
    torch.testing.assert_close(average.model[0].weight, expected)


def test_the_average_follows_batch_norm_and_leaves_the_model_alone() -> None:
    net = model()
    average = MovingAverage(net, decay=0.9)
    net(torch.randn(4, 3, 6, 6) + 5)
    before = copy.deepcopy(net.state_dict())
    average.update(net)
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
    assert average.model[1].running_mean.abs().sum() > 0  # type: ignore[union-attr, operator]
    assert average.model[1].num_batches_tracked == 1
    assert not average.model.training
    assert not any(parameter.requires_grad for parameter in average.model.parameters())
