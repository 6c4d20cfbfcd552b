from dataclasses import replace

import pytest
import torch
from torch import nn

from segkit.config.schema import ModelConfig, OptimConfig, TrainConfig
from segkit.errors import ConfigError
from segkit.models.segmenter import Segmenter
from segkit.models.table import build_model
from segkit.training.freezing import check_freeze, frozen_at, set_trained
from segkit.training.schedule import lr_factor, thaw_steps


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return build_model(ModelConfig(name="lite_unet", encoder="resnet18", pretrained="none"), 3)


def names(segmenter: Segmenter, prefix: str) -> set[str]:
    return {name for name, _ in segmenter.named_parameters() if name.startswith(f"network.{prefix}")}


def test_freeze_epochs_freezes_the_whole_encoder_and_nothing_else(segmenter: Segmenter) -> None:
    config = TrainConfig(freeze_epochs=2)
    for step, expected in ((0, names(segmenter, "encoder.")), (19, names(segmenter, "encoder.")), (20, set())):
        assert frozen_at(step, config, segmenter, steps_per_epoch=10) == expected


def test_each_pattern_freezes_for_its_own_epochs(segmenter: Segmenter) -> None:
    config = TrainConfig(freeze={"encoder.conv1.*": "always", "encoder.layer1.*": 3, "encoder.layer2.*": 1})
    first, second, third = (names(segmenter, f"encoder.{part}.") for part in ("conv1", "layer1", "layer2"))
    assert min(map(len, (first, second, third))) > 0
    for step, expected in ((0, first | second | third), (10, first | second), (30, first), (10_000, first)):
        assert frozen_at(step, config, segmenter, steps_per_epoch=10) == expected
    assert list(thaw_steps(config, steps_per_epoch=10)) == [10, 30]
    assert list(thaw_steps(replace(config, freeze_epochs=2), steps_per_epoch=10)) == [10, 20, 30]
    assert list(thaw_steps(TrainConfig(), steps_per_epoch=10)) == []


def test_frozen_batch_norm_keeps_weights_and_statistics_and_the_rest_changes() -> None:
    segmenter = build_model(ModelConfig(name="lite_unet", encoder="resnet18", pretrained="none"), 3)
    config = TrainConfig(freeze={"encoder.layer1.*": 1, "encoder.bn1.*": 1})
    set_trained(segmenter, set(), frozen=frozen_at(0, config, segmenter, steps_per_epoch=1))
    before = {name: tensor.clone() for name, tensor in segmenter.state_dict().items()}
    optimizer = torch.optim.SGD(segmenter.parameters(), lr=0.1, weight_decay=0.1)
    segmenter(torch.randint(0, 255, (2, 3, 64, 64), dtype=torch.uint8)).square().mean().backward()
    optimizer.step()
    changed = {name for name, tensor in segmenter.state_dict().items() if not torch.equal(tensor, before[name])}
    frozen = {name for name in before if name.startswith(("network.encoder.layer1.", "network.encoder.bn1."))}
    assert any("running_mean" in name for name in frozen)
    assert not changed & frozen
    assert {"network.encoder.layer2.0.bn1.running_mean", "network.encoder.conv1.weight"} <= changed


def test_thawing_trains_everything_again_but_what_is_unused(segmenter: Segmenter) -> None:
    set_trained(segmenter, set(), frozen=names(segmenter, "encoder."))
    assert not segmenter.encoder.training
    unused = {"network.encoder.conv1.weight"}
    set_trained(segmenter, unused, frozen=set())
    assert all(module.training for module in segmenter.modules() if isinstance(module, nn.BatchNorm2d))
    assert {name for name, parameter in segmenter.named_parameters() if not parameter.requires_grad} == unused


@pytest.mark.parametrize(
    ("freeze", "message"),
    [({"encodr.*": 2}, r"train.freeze: found 'encodr.\*', which fits no parameter"), ({"*": 2}, "every parameter")],
)
def test_what_cannot_be_frozen_is_said(segmenter: Segmenter, freeze: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_freeze(TrainConfig(freeze=freeze), segmenter)  # type: ignore[arg-type]
    check_freeze(TrainConfig(freeze={"encoder.*": 2}), segmenter)


def test_the_rate_warms_up_again_after_each_thaw() -> None:
    config = OptimConfig(schedule="constant", warmup=0.1, thaw_warmup=0.05)

    def factor(step: int, thaws: tuple[int, ...]) -> float:
        return lr_factor(config, step=step, num_steps=100, steps_per_epoch=10, thaw_steps=thaws)

    plain = [factor(step, ()) for step in range(100)]
    thawed = [factor(step, (30, 60)) for step in range(100)]
    again = [(k + 1) / 6 for k in range(5)]
    assert thawed[30:35] == pytest.approx(again)
    assert thawed[60:65] == pytest.approx(again)
    assert [thawed[step] for step in (*range(30), *range(35, 60), *range(65, 100))] == [
        plain[step] for step in (*range(30), *range(35, 60), *range(65, 100))
    ]
    off = replace(config, thaw_warmup=0.0)
    assert [
        lr_factor(off, step=step, num_steps=100, steps_per_epoch=10, thaw_steps=(30, 60)) for step in range(100)
    ] == plain
