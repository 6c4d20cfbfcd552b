"""Learning from a teacher: on labelled images and on others, resumed, and what it refuses."""

import csv
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from segkit.config.schema import RunConfig
from segkit.datasets.images import read_image
from segkit.datasets.layouts import list_items
from segkit.errors import CheckpointError, DataError
from segkit.inference.predictor import Predictor
from segkit.loading.prepare import prepare_data
from segkit.models.checkpoint import Checkpoint
from segkit.train import train
from segkit.training.run_folder import RunFolder
from segkit.training.setup import build_training_set

MakeConfig = Callable[..., RunConfig]


def test_a_model_comes_to_say_what_its_teacher_says(make_config: MakeConfig, varied: Path, tmp_path: Path) -> None:
    """The teacher is random, so the labels would not tell what it says."""
    words = ["loss.cross_entropy=0.000001", "train.epochs=12", "eval.every=12", "optim.lr=0.01"]
    taught = train(make_config(tmp_path / "run", *words, f"distill.teachers=[{varied}]", "distill.temperature=0.02"))
    alone = train(make_config(tmp_path / "alone", *words))
    teacher = Predictor.load(varied, device="cpu")
    images = [read_image(item.image) for item in list_items(Checkpoint.load(taught.best).config.data, "val")]

    def agreement(checkpoint: Path) -> float:
        student = Predictor.load(checkpoint, device="cpu")
        return sum(float((student(image) == teacher(image)).mean()) for image in images) / len(images)

    assert (
        agreement(taught.folder / "checkpoints" / "last.pt") > agreement(alone.folder / "checkpoints" / "last.pt") + 0.1
    )


def test_its_term_is_logged_beside_the_others(make_config: MakeConfig, varied: Path, tmp_path: Path) -> None:
    train(make_config(tmp_path / "run", f"distill.teachers=[{varied}]", "report.trackers=[csv]"))
    rows = list(csv.DictReader((tmp_path / "run" / "figures.csv").read_text().splitlines()))
    found = {row["name"]: float(row["value"]) for row in rows if row["epoch"] == "1"}
    assert found["train_loss"] == pytest.approx(found["loss/cross_entropy"] + found["loss/distillation"], rel=1e-4)


def test_an_exported_model_teaches_as_its_checkpoint_does(
    make_config: MakeConfig, varied: Path, exported: Callable[..., Path], tmp_path: Path
) -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime isn't installed: pip install segkit[onnx]")
    losses = []
    for name, teacher in (("checkpoint", varied), ("onnx", exported("model.onnx"))):
        words = [f"distill.teachers=[{teacher}]", "report.trackers=[csv]", "train.epochs=1"]
        train(make_config(tmp_path / name, *words))
        rows = list(csv.DictReader((tmp_path / name / "figures.csv").read_text().splitlines()))
        losses.append({row["name"]: float(row["value"]) for row in rows}["loss/distillation"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


@pytest.mark.parametrize("parts", ["train.accumulate=2", "train.accumulate=1"])
def test_a_resumed_run_equals_a_straight_one(make_config: MakeConfig, varied: Path, tmp_path: Path, parts: str) -> None:
    words = [f"distill.teachers=[{varied}]", parts]
    straight = train(make_config(tmp_path / "straight", *words))
    config = make_config(tmp_path / "resumed", *words)
    train(config, max_steps=4)
    resumed = train(config, resume=True)
    weights = [Checkpoint.load(run.folder / "checkpoints" / "last.pt").weights for run in (straight, resumed)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_images_without_masks_train_beside_the_split_and_are_ignored_everywhere(
    make_config: MakeConfig, varied: Path, shapes: Path, tmp_path: Path
) -> None:
    more = tmp_path / "more"
    shutil.copytree(shapes / "JPEGImages", more / "deep")
    words = [f"distill.teachers=[{varied}]", f"data.more_images={more}"]
    config = make_config(tmp_path / "run", *words)
    data = prepare_data(config.data, seed=0)
    number = len(list((more / "deep").iterdir()))
    assert [item.mask for item in data.train[-number:]] == [None] * number
    assert data.survey.num_images == len(data.train) - number
    samples = build_training_set(config, data, cached=False)
    assert (samples[len(data.train) - 1].mask == 255).all()
    assert (samples[0].mask != 255).any()
    result = train(config)
    assert result.finished
    split = [row[0] for row in RunFolder(result.folder).files()]
    assert split.count("train") == len(data.train)


def test_what_cannot_teach_is_refused(make_config: MakeConfig, checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"distill\.teachers: .* has the classes .*, expected those of the data"):
        train(make_config(tmp_path / "run", f"distill.teachers=[{checkpoint}]"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("made", [True, False])
def test_a_folder_without_images_is_refused(make_config: MakeConfig, varied: Path, tmp_path: Path, made: bool) -> None:
    folder = tmp_path / "none"
    if made:
        folder.mkdir()
    with pytest.raises(DataError, match="no image in it" if made else "no such folder"):
        train(make_config(tmp_path / "run", f"distill.teachers=[{varied}]", f"data.more_images={folder}"))
