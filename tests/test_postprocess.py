"""Rules from a checkpoint's own validation split: found, stored in both of its forms, applied by evaluation."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from segkit.cli import main
from segkit.config.schema import RunConfig
from segkit.datasets.images import read_image
from segkit.datasets.layouts import list_items
from segkit.datasets.masks import write_mask
from segkit.errors import CheckpointError, ConfigError, DataError, RunFolderError
from segkit.eval_miou import eval_miou
from segkit.evaluation import tuning
from segkit.inference.postprocess import ClassRule, Postprocess
from segkit.inference.predictor import Predictor
from segkit.inference.trained import stored_rules
from segkit.models.checkpoint import Checkpoint
from segkit.models.table import build_model
from segkit.postprocess import tune_postprocessing
from segkit.train import TrainResult, train
from segkit.training.run_folder import RunFolder

DROP_ALL = Postprocess({k: ClassRule(min_component=10**6) for k in (1, 2, 3)}, tuned_on="val")


@pytest.fixture(scope="module")
def speckled(trained: TrainResult, shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose model sees specks: its predictions, less their small components, are the truth of its validation.

    Its weights are random, with the bias that lets each class win about as often as the others.
    """
    root, run = tmp_path_factory.mktemp("data") / "shapes", tmp_path_factory.mktemp("speckled") / "run"
    shutil.copytree(shapes, root)
    checkpoint = Checkpoint.load(trained.best)
    data = replace(checkpoint.config.data, root=str(root))
    config = replace(checkpoint.config, run=str(run), data=data)
    torch.manual_seed(0)
    weights = build_model(config.model, 4, pretrained=False).state_dict()
    images = [read_image(item.image) for item in list_items(data, "val")]
    path = run / "checkpoints" / "best.pt"

    def predictor() -> Predictor:
        replace(checkpoint, config=config, weights=weights, ema=weights).save(path)
        return Predictor.load(path, device="cpu")

    first = predictor()
    weights["network.head.bias"] -= torch.stack([first.logits(image).mean(dim=(1, 2)) for image in images]).mean(dim=0)
    clean = Postprocess({class_id: ClassRule(min_component=16) for class_id in range(4)})
    last = predictor()
    for item, image in zip(list_items(data, "val"), images, strict=True):
        write_mask(item.mask, clean(last(image)), checkpoint.classes)
    Checkpoint.load(path).save_weights(path.with_suffix(".safetensors"))
    return run


@pytest.fixture
def best(speckled: Path, tmp_path: Path) -> Path:
    """The best.pt of a copy of that run, with best.safetensors beside it."""
    shutil.copytree(speckled, tmp_path / "run")
    return tmp_path / "run" / "checkpoints" / "best.pt"


def store(path: Path, rules: Postprocess | None) -> None:
    replace(Checkpoint.load(path), postprocess=rules.to_dict() if rules else None).save(path)


# ---- found and stored


def test_evaluation_gives_the_figures_of_the_tuning_to_the_last_digit(best: Path, tmp_path: Path) -> None:
    raw = eval_miou(best, output=tmp_path / "raw").scores
    found = tune_postprocessing(best)
    assert found.tuning.postprocess.rules
    assert found.tuning.before == raw.miou
    after = eval_miou(best, output=tmp_path / "after")
    assert after.scores.miou == found.tuning.after != raw.miou
    assert after.protocol.postprocess == found.tuning.postprocess
    assert eval_miou(best, output=tmp_path / "off", postprocess=False).scores.miou == raw.miou


def test_both_forms_of_the_weights_get_the_rules_and_nothing_else_changes(best: Path) -> None:
    before = Checkpoint.load(best)
    found = tune_postprocessing(best)
    forms = (best, best.with_suffix(".safetensors"))
    assert found.written == forms
    for path in forms:
        assert Checkpoint.load(path).postprocess == found.tuning.postprocess.to_dict()
    after = Checkpoint.load(best)
    assert replace(after, weights={}, ema={}) == replace(before, weights={}, ema={}, postprocess=after.postprocess)
    assert before.ema is not None
    assert after.ema is not None
    assert all(torch.equal(before.ema[name], after.ema[name]) for name in before.ema)
    assert tune_postprocessing(best).written == ()  # the same rules again


def test_other_weights_beside_a_checkpoint_are_left_alone(best: Path) -> None:
    other = best.with_suffix(".safetensors")
    checkpoint = Checkpoint.load(other)
    replace(checkpoint, weights={name: tensor + 1 for name, tensor in checkpoint.weights.items()}).save_weights(other)
    assert tune_postprocessing(best).written == (best,)
    assert Checkpoint.load(other).postprocess is None


def test_rules_that_no_longer_help_are_taken_out(best: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store(best, DROP_ALL)
    monkeypatch.setattr(tuning, "miou_gain_interval", lambda before, after: (-1, 1))
    assert tune_postprocessing(best).written == (best,)
    assert Checkpoint.load(best).postprocess is None


def test_a_dry_run_writes_nothing(best: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = best.read_bytes()
    assert main(["postprocess", str(best), "--dry-run"]) == 0
    assert best.read_bytes() == before
    said = capsys.readouterr().out
    assert "split val: 6 images at their own size, canvas 64x64" in said
    assert "before" in said
    assert "written" not in said


def test_the_command_prints_the_table_and_what_it_wrote(best: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["postprocess", str(best), "eval.batch_size=2"]) == 0
    said = capsys.readouterr().out
    for words in ("gain, 95 % interval", "background", "yes", f"written, with rules: {best}, ", "--no-postprocess"):
        assert words in said


def test_a_run_that_is_training_is_not_written_to(best: Path) -> None:
    folder = RunFolder(best.parent.parent)
    folder.lock()
    try:
        with pytest.raises(RunFolderError, match="another segkit is training into it"):
            tune_postprocessing(best)
    finally:
        folder.close()


def test_settings_without_effect_and_a_split_of_one_image_are_refused(best: Path, shapes: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"train\.epochs: without effect"):
        tune_postprocessing(best, ["train.epochs=3"])
    copy = tmp_path / "data"
    shutil.copytree(shapes, copy)
    (copy / "ImageSets" / "Segmentation" / "one.txt").write_text("shapes_0000\n")
    with pytest.raises(DataError, match="split one has 1 image, expected at least 2"):
        tune_postprocessing(best, [f"data.root={copy}", "data.val=one"])


# ---- applied


def test_eval_applies_stored_rules_states_them_and_can_leave_them_out(
    best: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    raw = eval_miou(best, output=out).measured.to_dict()
    store(best, DROP_ALL)
    assert main(["eval", str(best), "--output", str(out)]) == 0
    assert "post-processing of 3 classes (tuned on val)" in capsys.readouterr().out
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["classes"][1]["predicted_pixels"] == 0
    assert metrics["protocol"]["postprocess"] == DROP_ALL.to_dict()
    assert main(["eval", str(best), "--output", str(out), "--no-postprocess"]) == 0
    assert "post-processing none" in capsys.readouterr().out
    without = json.loads((out / "metrics.json").read_text())
    assert without.pop("protocol")["postprocess"] is None
    assert without == raw


def test_an_ensemble_applies_the_rules_that_all_members_hold_and_no_others(
    best: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = tmp_path / "other.pt"
    store(best, DROP_ALL)
    shutil.copy(best, other)
    same = eval_miou([best, other], output=tmp_path / "same")
    assert same.protocol.postprocess == DROP_ALL
    assert same.scores.predicted_pixels[1] == 0
    assert "different rules" not in caplog.text
    store(other, None)
    differing = eval_miou([best, other], output=tmp_path / "differing")
    assert differing.protocol.postprocess is None
    assert "these checkpoints hold different rules" in caplog.text


@pytest.mark.parametrize(
    ("plain", "found"),
    [
        ({"rules": [{"class": 9, "max_hole": 4}], "ignore_index": 255, "tuned_on": ""}, "a rule for class 9"),
        ({"rules": [{"class": 1, "smooth": 4}], "ignore_index": 255, "tuned_on": ""}, "found a rule smooth"),
        ({"rules": [{"class": 1, "max_hole": "x"}], "ignore_index": 255, "tuned_on": ""}, "not supported"),
        ({"other": 1}, "rules"),
    ],
)
def test_rules_of_another_kind_are_named(trained: TrainResult, plain: dict[str, object], found: str) -> None:
    checkpoint = replace(Checkpoint.load(trained.best), postprocess=plain)
    with pytest.raises(CheckpointError, match=rf"post-processing: .*{found}.*--no-postprocess"):
        stored_rules([checkpoint])


# ---- and training


def test_a_resumed_run_writes_a_best_checkpoint_without_rules(
    trained: TrainResult, make_config: Callable[..., RunConfig], tmp_path: Path
) -> None:
    shutil.copytree(trained.folder, tmp_path / "run")
    best = tmp_path / "run" / "checkpoints" / "best.pt"
    settings = ("train.ema=0.5", "loss.dice=0.5", "loss.class_weights=log", "train.epochs=3")
    for name in ("best.pt", "last.pt"):
        store(best.with_name(name), DROP_ALL)
    train(make_config(best.parent.parent, *settings), resume=True)
    last, kept = Checkpoint.load(best.with_name("last.pt")), Checkpoint.load(best)
    assert last.postprocess is None
    assert (kept.postprocess is None) == (kept.progress.best_epoch == 3)  # the same weights keep their rules


def test_validation_with_test_time_augmentation_equals_evaluation_with_it(
    make_config: Callable[..., RunConfig], tmp_path: Path
) -> None:
    result = train(make_config(tmp_path / "run", "train.epochs=1", "eval.tta=[flip, 1.25]"))
    trained = json.loads((result.folder / "metrics.json").read_text())
    again = eval_miou(result.best, output=tmp_path / "eval")
    assert json.loads(json.dumps(again.scores.to_dict(again.classes))) == {
        key: value for key, value in trained.items() if key != "protocol"
    }
    assert trained["protocol"]["tta"] == ["flip", 1.25]
    assert "tta flip, 1.25," in str(again.protocol)


def test_views_change_what_is_scored_and_rules_are_tuned_on_what_they_give(best: Path, tmp_path: Path) -> None:
    plain, flipped = (eval_miou(best, [f"eval.tta={views}"], output=tmp_path / "out") for views in ("[]", "[flip]"))
    assert (plain.protocol.tta, flipped.protocol.tta) == ((), ("flip",))
    assert plain.scores.miou > flipped.scores.miou  # the truth is made of what the model sees unflipped
    assert tune_postprocessing(best, ["eval.tta=[flip]"], store=False).tuning.before == flipped.scores.miou
