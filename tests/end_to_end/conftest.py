"""A config that trains in seconds, and a run made with it."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from segkit.config.reading import override_config
from segkit.config.schema import RunConfig
from segkit.train import TrainResult, train

MakeConfig = Callable[..., RunConfig]


@pytest.fixture(scope="session")
def make_config(shapes: Path) -> MakeConfig:
    """Return a small config on the drawn data set for a run folder, with overrides."""

    def make(run: Path, *overrides: str) -> RunConfig:
        settings = [
            f"data.root={shapes}", "data.canvas=[64, 64]", "model.name=lite_unet",
            "model.encoder=tu-mobilenetv3_small_050", "model.pretrained=none",
            "model.options.decoder_channels=[16, 16, 16, 16, 16]", "optim.lr=0.003", "train.epochs=2",
            "train.batch_size=4", "train.workers=0", "train.device=cpu", "eval.batch_size=4", "eval.pictures=2",
            *overrides,
        ]  # fmt: skip
        return override_config(dataclasses.replace(RunConfig(), run=str(run)), settings, where="test")

    return make


@pytest.fixture(scope="session")
def trained(make_config: MakeConfig, tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    """A finished run with a moving average and two losses. Read it, don't change it."""
    config = make_config(
        tmp_path_factory.mktemp("trained") / "run", "train.ema=0.5", "loss.dice=0.5", "loss.class_weights=log"
    )
    return train(config)
