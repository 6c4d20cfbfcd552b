import copy
import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from segkit.config.schema import OptimConfig
from segkit.training.ema import MovingAverage
from segkit.training.optim import build_optimizer
from segkit.training.schedule import lr_factor, scale_lr, set_lr

PLAIN = OptimConfig(warmup=0, min_lr=0)


def model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))


def factors(config: OptimConfig, num_steps: int = 100) -> list[float]:
    return [lr_factor(config, step=step, num_steps=num_steps, steps_per_epoch=10) for step in range(num_steps)]


# ---- schedules


def test_poly_is_its_formula() -> None:
    assert factors(replace(PLAIN, power=0.9)) == pytest.approx([(1 - step / 100) ** 0.9 for step in range(100)])


def test_cosine_is_its_formula() -> None:
    expected = [(1 + math.cos(math.pi * step / 100)) / 2 for step in range(100)]
    assert factors(replace(PLAIN, schedule="cosine")) == pytest.approx(expected)


def test_step_drops_after_its_epochs() -> None:
    values = factors(replace(PLAIN, schedule="step", step_epochs=(3, 6), step_factor=0.5))
    assert [values[k] for k in (0, 29, 30, 59, 60, 99)] == [1, 1, 0.5, 0.5, 0.25, 0.25]


def test_constant_stays() -> None:
    assert set(factors(replace(PLAIN, schedule="constant"))) == {1.0}


@pytest.mark.parametrize("schedule", ["poly", "cosine"])
def test_decay_ends_at_the_least_rate(schedule: str) -> None:
    values = factors(replace(PLAIN, schedule=schedule, min_lr=0.1), num_steps=10_000)  # type: ignore[arg-type]
    assert values[-1] == pytest.approx(0.1, abs=1e-3)
    assert min(values) >= 0.1
    assert values == sorted(values, reverse=True)


@pytest.mark.parametrize("schedule", ["poly", "cosine", "constant"])
def test_warm_up_rises_evenly_to_the_peak(schedule: str) -> None:
    values = factors(replace(PLAIN, schedule=schedule, warmup=0.2))  # type: ignore[arg-type]
    assert values[:20] == pytest.approx([(step + 1) / 21 for step in range(20)])
    assert values[20] == 1
    assert max(values) == 1


def test_warm_up_may_fill_the_whole_run() -> None:
    assert factors(replace(PLAIN, warmup=1.0), num_steps=4) == pytest.approx([0.2, 0.4, 0.6, 0.8])


# ---- optimizers


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd"])
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
