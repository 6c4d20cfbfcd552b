"""A temperature from a checkpoint's own validation split: found, stored in both of its forms, used where asked for."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from segkit.calibrate import calibrate
from segkit.cli import main
from segkit.datasets.images import read_image
from segkit.errors import ConfigError
from segkit.eval_miou import eval_miou
from segkit.inference.postprocess import ClassRule, Postprocess
from segkit.inference.predictor import Predictor
from segkit.models.checkpoint import Checkpoint


@pytest.fixture
def best(varied: Path, tmp_path: Path) -> Path:
    """A checkpoint of a model whose classes vary and that is far too sure of them, in both of its forms."""
    path = tmp_path / "checkpoints" / "best.pt"
    path.parent.mkdir()
    checkpoint = Checkpoint.load(varied)
    for name in ("network.head.weight", "network.head.bias"):
        checkpoint.weights[name] *= 500
    checkpoint.save(path)
    checkpoint.save_weights(path.with_suffix(".safetensors"))
    return path


@pytest.fixture
def image(shapes: Path) -> np.ndarray:
    return read_image(sorted((shapes / "JPEGImages").glob("*.jpg"))[0])


def test_both_forms_of_the_weights_get_it_and_evaluation_becomes_better_calibrated(best: Path, tmp_path: Path) -> None:
    found = calibrate(best)
    forms = (best, best.with_suffix(".safetensors"))
    assert found.written == forms
    for path in forms:
        assert Checkpoint.load(path).temperature == found.temperature
    assert calibrate(best).written == ()  # the same again
    raw = eval_miou(best, output=tmp_path / "raw")
    calibrated = eval_miou(best, output=tmp_path / "calibrated", calibrated=True)
    assert calibrated.measured.figures["ece"] < raw.measured.figures["ece"]
    assert calibrated.scores.counts.tolist() == raw.scores.counts.tolist()
    assert f"temperature {found.temperature:.3f}" in str(calibrated.protocol)
    assert "temperature" not in str(raw.protocol)
    assert json.loads((tmp_path / "calibrated" / "metrics.json").read_text())["protocol"]["temperature"] == (
        found.temperature
    )


def test_probabilities_follow_it_and_class_ids_do_not(best: Path, image: np.ndarray) -> None:
    calibrate(best)
    temperature = Checkpoint.load(best).temperature
    assert temperature
    raw, calibrated = (Predictor.load(best, device="cpu", calibrated=asked).segment(image) for asked in (False, True))
    powers = raw.probabilities.astype(np.float64) ** (1 / temperature)
    assert calibrated.probabilities == pytest.approx(powers / powers.sum(axis=0), abs=1e-5)
    assert np.array_equal(calibrated.mask, raw.mask)


def test_a_dry_run_writes_nothing(best: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = best.read_bytes()
    assert main(["calibrate", str(best), "--dry-run"]) == 0
    assert best.read_bytes() == before
    assert "temperature" in capsys.readouterr().out


def with_rules(path: Path, rules: dict[int, ClassRule]) -> None:
    replace(Checkpoint.load(path), temperature=2.0, postprocess=Postprocess(rules).to_dict()).save(path)


def test_rules_without_a_confidence_go_with_it_and_others_are_refused(best: Path, image: np.ndarray) -> None:
    with_rules(best, {1: ClassRule(min_component=4)})
    assert Predictor.load(best, device="cpu", calibrated=True)(image).dtype == np.uint8
    with_rules(best, {1: ClassRule(min_confidence=0.5)})
    with pytest.raises(ConfigError, match="--calibrated: the model's rules of post-processing look at confidences"):
        Predictor.load(best, device="cpu", calibrated=True)
    Predictor.load(best, device="cpu", calibrated=True, postprocess=False)


@pytest.mark.parametrize(
    ("models", "message"),
    [
        (lambda path: path, "--calibrated: the model holds no temperature; find it with segkit calibrate"),
        (lambda path: [path, path], "--calibrated: found 2 models, expected one"),
    ],
)
def test_where_there_is_none_it_is_refused(
    best: Path, models: Callable[[Path], Path | list[Path]], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        Predictor.load(models(best), device="cpu", calibrated=True)
