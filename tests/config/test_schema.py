from typing import get_args

import pytest

from segkit.config import schema
from segkit.config.schema import DataConfig, LossConfig, ModelConfig, RunConfig, TrainConfig
from segkit.errors import ConfigError


def test_names_in_the_config_are_those_of_the_tables() -> None:
    from segkit.datasets.layouts import LAYOUTS
    from segkit.loading.sampler import SAMPLERS
    from segkit.losses.table import LOSSES
    from segkit.models.table import MODELS

    assert set(get_args(schema.LayoutName)) == set(LAYOUTS)
    assert set(get_args(schema.ModelName)) == set(MODELS)
    assert set(get_args(schema.SamplerName)) == set(SAMPLERS)
    assert set(LossConfig().weights) == set(LOSSES)


@pytest.mark.parametrize("name", LossConfig().weights)
def test_every_loss_that_the_config_has_can_be_built_alone(name: str) -> None:
    import torch

    from segkit.losses.table import build_loss

    config = LossConfig(**{other: float(other == name) for other in LossConfig().weights})
    loss = build_loss(config, num_classes=2, ignore_index=255, class_weights=None, device=torch.device("cpu"))
    target = torch.zeros(1, 16, 16, dtype=torch.uint8)
    target[:, 4:9, 3:12] = 1
    (value,) = loss.sums(torch.randn(1, 2, 16, 16, generator=torch.Generator().manual_seed(0)), target)
    assert value.isfinite()
    assert value > 0


@pytest.mark.parametrize("name", LossConfig().weights)
def test_weights_are_the_keys_of_their_names(name: str) -> None:
    assert LossConfig(**{name: 0.125}).weights[name] == 0.125


def test_configs_share_no_options() -> None:
    assert ModelConfig().options is not ModelConfig().options
    assert RunConfig().model == ModelConfig()


def test_a_batch_size_is_a_number_but_for_plan() -> None:
    assert TrainConfig(batch_size=6).fixed_batch_size == 6
    with pytest.raises(ConfigError, match=r"train.batch_size: found auto.*segkit plan"):
        _ = TrainConfig(batch_size="auto").fixed_batch_size


def test_sections_are_frozen() -> None:
    with pytest.raises(AttributeError):
        DataConfig().root = "elsewhere"  # type: ignore[misc]
