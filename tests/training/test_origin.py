"""Where a run's weights come from: said when training starts, kept in its checkpoints, also over a resume."""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from segkit.classes import Classes
from segkit.config.schema import RunConfig
from segkit.models.checkpoint import Checkpoint
from segkit.models.origin import Origin
from segkit.models.table import build_model
from segkit.train import train


@pytest.mark.parametrize("licence", ["cc-by-nc-4.0", "apache-2.0"])
def test_a_run_says_where_its_weights_come_from_and_warns_of_non_commercial_licences(
    licence: str, tmp_path: Path, make_config: Callable[..., RunConfig], caplog: pytest.LogCaptureFixture
) -> None:
    model = make_config(tmp_path).model
    started = Checkpoint(
        build_model(model, 2).state_dict(),
        RunConfig(model=model),
        Classes.build(["background", "disc"]),
        pretrained=Origin("hub timm/x", licence),
    )
    started.save(tmp_path / "start.pt")
    expected = Origin("file start.pt, trained from hub timm/x", licence)
    for resume in (False, True):
        caplog.clear()
        epochs = f"train.epochs={2 if resume else 1}"
        config = make_config(tmp_path / "run", f"model.pretrained={tmp_path / 'start.pt'}", epochs)
        with caplog.at_level(logging.INFO):
            done = train(config, resume=resume)
        assert f"weights from {expected}" in caplog.text
        assert ("excludes commercial use" in caplog.text) is (licence == "cc-by-nc-4.0")
        assert ("class scores by name: background, disc from the file, new: " in caplog.text) is not resume
        assert Checkpoint.load(done.best).pretrained == expected
