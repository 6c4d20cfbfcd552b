import csv
import json
import logging
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from segkit import train as module
from segkit.config.reading import load_config
from segkit.config.schema import RunConfig
from segkit.errors import CheckpointError, ConfigError, DataError, DeviceError, RunFolderError, TrainingDiverged
from segkit.eval_miou import eval_miou
from segkit.models.checkpoint import Checkpoint
from segkit.runtime.ranks import Ranks
from segkit.train import TrainResult, train
from segkit.training.run_folder import RunFolder
from segkit.training.setup import set_up

MakeConfig = Callable[..., RunConfig]
TIMES = ("seconds", "images_per_second")


def log_of(run: Path) -> list[dict[str, str]]:
    with (run / "log.csv").open() as file:
        return [{key: value for key, value in row.items() if key not in TIMES} for row in csv.DictReader(file)]


def weights_of(run: Path) -> dict[str, torch.Tensor]:
    checkpoint = Checkpoint.load(run / "checkpoints" / "last.pt")
    return checkpoint.weights | {f"ema.{name}": tensor for name, tensor in (checkpoint.ema or {}).items()}


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


# ---- what a run leaves behind


def test_the_run_folder_holds_what_the_manual_says(trained: TrainResult) -> None:
    names = {path.name for path in trained.folder.iterdir() if "tfevents" not in path.name}
    assert names >= {"config.yaml", "environment.json", "log.csv", "metrics.json", "checkpoints"}
    assert {path.name for path in trained.best.parent.iterdir()} == {
        "best.pt", "best.safetensors", "last.pt", "previous.pt"
    }  # fmt: skip
    assert [row["epoch"] for row in log_of(trained.folder)] == ["1", "2"]
    assert all(float(row["miou"]) > 0 for row in log_of(trained.folder))


def test_tensorboard_holds_each_term_of_the_loss_and_their_weighted_sum_is_the_loss(trained: TrainResult) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(trained.folder))
    events.Reload()
    of = {name: [event.value for event in events.Scalars(name)] for name in ("loss/cross_entropy", "loss/dice")}
    total = [event.value for event in events.Scalars("train_loss")]
    assert len(total) == 2
    expected = [entropy + 0.5 * dice for entropy, dice in zip(*of.values(), strict=True)]  # loss.dice=0.5
    assert total == pytest.approx(expected, rel=1e-5)


def test_tensorboard_holds_the_curves_and_the_same_images_each_epoch(trained: TrainResult) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(trained.folder))
    events.Reload()
    assert {"train_loss", "val_loss", "miou", "lr", "iou/disc"} <= set(events.Tags()["scalars"])
    images = events.Tags()["images"]
    assert len(images) == 2
    assert [event.step for event in events.Images(images[0])] == [1, 2]


def test_the_resolved_config_runs_the_same_experiment(trained: TrainResult) -> None:
    assert load_config(trained.folder / "config.yaml") == Checkpoint.load(trained.best).config


# ---- the two pillars


def test_validation_in_training_equals_the_evaluation_tool(trained: TrainResult, tmp_path: Path) -> None:
    result = eval_miou(trained.best, output=tmp_path)
    metrics = json.loads((trained.folder / "metrics.json").read_text())
    del metrics["protocol"]
    assert json.loads(json.dumps(result.scores.to_dict(result.classes))) == metrics
    row = log_of(trained.folder)[trained.best_epoch - 1]
    assert repr(result.scores.miou) == row["miou"]


@pytest.mark.parametrize("stop_at", [1, 2, 3, 4])
def test_a_resumed_run_equals_a_straight_run(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_at: int
) -> None:
    settings = ("train.ema=0.9", "train.epochs=2", "train.precision=fp32", "model.options.dropout=0.5")
    straight = train(make_config(tmp_path / "straight", *settings))
    original = module.seed_step

    def interrupt(seed: int, step: int, rank: int) -> None:
        if step == stop_at:
            os.kill(os.getpid(), signal.SIGINT)
        original(seed, step, rank)

    config = make_config(tmp_path / "resumed", *settings)
    with monkeypatch.context() as patch:
        patch.setattr(module, "seed_step", interrupt)
        stopped = train(config)
    assert not stopped.finished
    assert Checkpoint.load(tmp_path / "resumed" / "checkpoints" / "last.pt").progress.step == stop_at + 1
    resumed = train(config, resume=True)
    assert straight.finished
    assert resumed.finished
    assert same(weights_of(tmp_path / "straight"), weights_of(tmp_path / "resumed"))
    assert log_of(tmp_path / "straight") == log_of(tmp_path / "resumed")


def test_a_finished_run_may_go_on_for_more_epochs(make_config: MakeConfig, tmp_path: Path) -> None:
    train(make_config(tmp_path / "run", "train.epochs=1"))
    result = train(make_config(tmp_path / "run", "train.epochs=2"), resume=True)
    assert result.finished
    assert [row["epoch"] for row in log_of(tmp_path / "run")] == ["1", "2"]


def test_a_run_without_progress_ends_where_its_patience_does(make_config: MakeConfig, tmp_path: Path) -> None:
    words = ["train.epochs=40", "optim.lr=1e-12"]  # BatchNorm settles, and then nothing changes
    ended = train(make_config(tmp_path, *words, "train.patience=2"))
    assert ended.finished
    assert not ended.stopped
    with (tmp_path / "log.csv").open() as file:
        mious = [float(row["miou"]) for row in csv.DictReader(file)]
    assert len(mious) < 40
    best = [mious.index(max(mious[: k + 1])) for k in range(len(mious))]
    waited = [k - best[k] for k in range(len(mious))]
    assert waited[-1] == 2
    assert max(waited[:-1]) < 2
    step = Checkpoint.load(tmp_path / "checkpoints" / "last.pt").progress.step
    assert step == 3 * len(mious)
    again = train(make_config(tmp_path, *words, "train.patience=2"), resume=True)
    assert again.finished
    assert Checkpoint.load(tmp_path / "checkpoints" / "last.pt").progress.step == step
    train(make_config(tmp_path, *words, "train.patience=3"), resume=True)
    assert Checkpoint.load(tmp_path / "checkpoints" / "last.pt").progress.step > step


def test_the_same_config_and_seed_give_the_same_numbers(make_config: MakeConfig, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        train(make_config(tmp_path / name, f"train.seed={seed}", "train.epochs=1"))
    assert same(weights_of(tmp_path / "a"), weights_of(tmp_path / "b"))
    assert log_of(tmp_path / "a") == log_of(tmp_path / "b")
    assert not same(weights_of(tmp_path / "a"), weights_of(tmp_path / "c"))


# ---- settings


def test_micro_batches_add_up_to_the_whole_batch(make_config: MakeConfig, tmp_path: Path) -> None:
    # an encoder with LayerNorm and a decoder without BatchNorm: nothing depends on how a batch is split
    settings = (
        "model.name=unet", "model.encoder=tu-convnext_atto", "train.precision=fp32", "loss.dice=0.5",
        "model.options={decoder_channels: [16, 16, 16, 16], encoder_depth: 4, decoder_use_norm: identity}",
        "loss.class_weights=balanced", "train.epochs=2",
    )  # fmt: skip
    for parts in (1, 4):
        train(make_config(tmp_path / f"{parts}", *settings, f"train.accumulate={parts}"))
    whole, split = log_of(tmp_path / "1"), log_of(tmp_path / "4")
    for one, other in zip(whole, split, strict=True):
        assert float(one["train_loss"]) == pytest.approx(float(other["train_loss"]), rel=1e-4)
        assert float(one["val_loss"]) == pytest.approx(float(other["val_loss"]), rel=1e-3)


def test_a_frozen_encoder_keeps_weights_and_statistics_until_it_thaws(make_config: MakeConfig, tmp_path: Path) -> None:
    states = []
    for epochs in (1, 2, 3):
        config = make_config(tmp_path / "run", "train.freeze_epochs=2", f"train.epochs={epochs}")
        train(config, resume=epochs > 1)
        states.append(weights_of(tmp_path / "run"))
    encoder = [name for name in states[0] if name.startswith("network.encoder.")]
    statistics = [name for name in encoder if "running_mean" in name]
    assert statistics
    assert all(torch.equal(states[0][name], states[1][name]) for name in encoder)
    assert not any(torch.equal(states[1][name], states[2][name]) for name in statistics)
    assert not torch.equal(states[0]["network.head.weight"], states[1]["network.head.weight"])


def test_the_moving_average_is_what_is_validated(trained: TrainResult) -> None:
    best = Checkpoint.load(trained.best)
    assert best.ema is not None
    assert not same(best.ema, best.weights)
    built = best.build().state_dict()
    assert same(built, best.ema)


@pytest.fixture(scope="module")
def plain_weights(make_config: MakeConfig, tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    """What two epochs of the small config come to."""
    folder = tmp_path_factory.mktemp("plain") / "run"
    train(make_config(folder, "train.precision=fp32"))
    return weights_of(folder)


@pytest.mark.parametrize(
    "overrides",
    [
        ("train.precision=bf16",),
        ("optim.name=sgd",),
        ("optim.name=adam",),
        ("optim.schedule=cosine",),
        ("optim.schedule=step", "optim.step_epochs=[1]"),
        ("optim.encoder_lr=0.1",),
        ("train.clip_norm=0.001",),
        ("train.seed=1",),
        ("loss.cross_entropy=0", "loss.focal=1"),
        ("loss.class_weights=median_frequency",),
        ("augment.crop=[32, 48]",),
    ],
    ids=lambda overrides: overrides[0],
)
def test_a_setting_of_training_changes_what_is_learned(
    make_config: MakeConfig, tmp_path: Path, plain_weights: dict[str, torch.Tensor], overrides: tuple[str, ...]
) -> None:
    precision = () if overrides[0].startswith("train.precision") else ("train.precision=fp32",)
    train(make_config(tmp_path / "run", *precision, *overrides))
    found = weights_of(tmp_path / "run")
    assert not torch.equal(found["network.head.weight"], plain_weights["network.head.weight"])
    assert all(torch.isfinite(tensor).all() for tensor in found.values())


@pytest.mark.parametrize("override", ["eval.every=5", "train.workers=1", "eval.batch_size=1", "data.cache=ram"])
def test_a_setting_of_loading_or_validation_changes_nothing_that_is_learned(
    make_config: MakeConfig, tmp_path: Path, plain_weights: dict[str, torch.Tensor], override: str
) -> None:
    train(make_config(tmp_path / "run", "train.precision=fp32", override))
    assert same(weights_of(tmp_path / "run"), plain_weights)


@pytest.mark.parametrize("channels_last", [True, False])
def test_the_memory_format_is_the_one_that_was_asked_for(
    make_config: MakeConfig, tmp_path: Path, channels_last: bool
) -> None:
    config = make_config(tmp_path / "run", f"train.channels_last={str(channels_last).lower()}")
    run = set_up(config, RunFolder(tmp_path / "run"), Ranks(), resume=False)
    run.folder.close()
    weights = [module.weight for module in run.state.segmenter.modules() if isinstance(module, torch.nn.Conv2d)]
    wide = [weight for weight in weights if weight.shape[1] > 1 and weight.shape[2] > 1]
    assert wide
    assert all(weight.is_contiguous(memory_format=torch.channels_last) is channels_last for weight in wide)


def test_epochs_without_validation_leave_their_columns_empty(make_config: MakeConfig, tmp_path: Path) -> None:
    train(make_config(tmp_path / "run", "eval.every=2", "train.epochs=3"))
    assert [bool(row["miou"]) for row in log_of(tmp_path / "run")] == [False, True, True]


def test_a_drawn_validation_share_is_written_down_and_evaluated_again(
    make_config: MakeConfig, shapes: Path, tmp_path: Path
) -> None:
    root = tmp_path / "folders"
    root.mkdir()
    (root / "images").symlink_to(shapes / "JPEGImages")
    (root / "masks").symlink_to(shapes / "SegmentationClass")
    result = train(
        make_config(
            tmp_path / "run",
            f"data.root={root}",
            "data.layout=folders",
            "data.val_fraction=0.25",
            "train.epochs=1",
            "data.classes=[background, disc, square, star]",
        )
    )
    names = (tmp_path / "run" / "splits" / "val.txt").read_text().split()
    assert len(names) == 4
    again = eval_miou(result.best, output=tmp_path / "eval")
    assert again.scores.num_images == 4
    assert result.scores is not None
    assert again.scores.miou == result.scores.miou


def test_absent_classes_are_mentioned(
    make_config: MakeConfig, shapes: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        train(make_config(tmp_path / "run", "train.epochs=1", "data.classes=[background, disc, square, star, ghost]"))
    assert "no training pixel of ghost" in caplog.text


def test_classes_are_described_before_training(
    make_config: MakeConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = make_config(tmp_path / "run", "data.sampler=class_balanced", "loss.class_weights=sqrt", "train.epochs=1")
    with caplog.at_level(logging.INFO):
        train(config)
    lines = caplog.text.splitlines()
    head = next(k for k, line in enumerate(lines) if line.split()[:2] == ["class", "pixels"])
    assert lines[head].split() == ["class", "pixels", "images", "weight", "seen", "per", "epoch"]
    assert lines[head + 1].split()[0] == "background"
    assert "12 -> 12.0" in lines[head + 1]  # every image shows it
    assert "an epoch is 12 samples of these 12 images" in caplog.text
    assert next(k for k, line in enumerate(lines) if "epoch   1/1" in line) > head


# ---- refusals leave no half-written run


@pytest.mark.parametrize(
    ("overrides", "error", "words"),
    [
        (("data.root=nowhere",), DataError, "is not a folder"),
        (("data.train=missing",), DataError, "no such split file; there are: train, val"),
        (("data.classes=[background, disc]",), DataError, "is no class"),
        (("model.encoder=resnet1",), ConfigError, "did you mean resnet18"),
        (("train.device=cuda:77",), DeviceError, "doesn't exist"),
        (("train.precision=fp16",), DeviceError, "fp16 needs a GPU"),
        (("loss.class_weights=[1, 2]",), ConfigError, "found 2 numbers, expected 4"),
        (("data.sampler=repeat_factor", "data.repeat_threshold=0.01"), ConfigError, "which changes nothing here"),
        (("optim.lr=1e30", "optim.warmup=0"), TrainingDiverged, "lower optim.lr"),
    ],
)
def test_what_cannot_be_trained_is_named_and_leaves_no_folder(
    make_config: MakeConfig, tmp_path: Path, overrides: tuple[str, ...], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        train(make_config(tmp_path / "run", *overrides))
    assert not (tmp_path / "run").exists()


def test_a_run_is_never_overwritten(trained: TrainResult, make_config: MakeConfig) -> None:
    with pytest.raises(RunFolderError, match="not empty"):
        train(make_config(trained.folder))


def test_without_space_for_checkpoints_nothing_begins(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil
    from collections import namedtuple

    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(100, 99, 1))
    with pytest.raises(RunFolderError, match="MiB free on its disk"):
        train(make_config(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_resuming_with_other_settings_is_refused(trained: TrainResult, make_config: MakeConfig) -> None:
    with pytest.raises(ConfigError, match=r"optim\.lr: the run has 0\.003, now 0\.1"):
        train(
            make_config(trained.folder, "train.ema=0.5", "loss.dice=0.5", "loss.class_weights=log", "optim.lr=0.1"),
            resume=True,
        )


def test_resuming_with_other_classes_is_refused(trained: TrainResult, shapes: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(shapes, tmp_path / "data")
    (tmp_path / "data" / "classes.txt").write_text("a\nb\nc\nd\n")
    shutil.copytree(trained.folder, tmp_path / "run")
    config = load_config(trained.folder / "config.yaml", [f"data.root={tmp_path / 'data'}", f"run={tmp_path / 'run'}"])
    with pytest.raises(CheckpointError, match="trained on background, disc, square, star"):
        train(config, resume=True)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: drop_the_last(data / "ImageSets" / "Segmentation" / "train.txt"), "1 missing: train/shapes_0011"),
        (lambda data: reverse(data / "ImageSets" / "Segmentation" / "train.txt"), "the same ones, in another order"),
        (
            lambda data: lengthen(data / "JPEGImages" / "shapes_0003.jpg"),
            "1 changed: train/shapes_0003",
        ),
    ],
)
def test_resuming_on_other_images_is_refused_and_says_which(
    trained: TrainResult, shapes: Path, tmp_path: Path, change: Callable[[Path], None], words: str
) -> None:
    import shutil

    shutil.copytree(shapes, tmp_path / "data")
    change(tmp_path / "data")
    shutil.copytree(trained.folder, tmp_path / "run")
    config = load_config(trained.folder / "config.yaml", [f"data.root={tmp_path / 'data'}", f"run={tmp_path / 'run'}"])
    with pytest.raises(CheckpointError, match=f"(?s)other images.*{words}"):
        train(config, resume=True)


def drop_the_last(split: Path) -> None:
    split.write_text("\n".join(split.read_text().split()[:-1]))


def lengthen(file: Path) -> None:
    file.write_bytes(file.read_bytes() + bytes(1))


def reverse(split: Path) -> None:
    split.write_text("\n".join(split.read_text().split()[::-1]))


def test_resuming_from_a_file_without_training_state_is_refused(trained: TrainResult, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(trained.folder, tmp_path / "run")
    shutil.copy(trained.best, tmp_path / "run" / "checkpoints" / "last.pt")
    with pytest.raises(CheckpointError, match="no training state"):
        train(load_config(trained.folder / "config.yaml", [f"run={tmp_path / 'run'}"]), resume=True)


def test_one_image_per_batch_is_refused_where_the_model_cannot(make_config: MakeConfig, tmp_path: Path) -> None:
    settings = ("model.name=deeplabv3plus", "model.encoder=resnet18", "train.batch_size=1")
    config = make_config(tmp_path / "run", *settings)
    config = replace(config, model=replace(config.model, options={}))
    with pytest.raises(ConfigError, match="expected at least 2"):
        train(config)
    assert not (tmp_path / "run").exists()


# ---- evaluation


def test_classes_that_the_config_named_are_evaluated_by_their_own_names(
    make_config: MakeConfig, shapes: Path, tmp_path: Path
) -> None:
    result = train(make_config(tmp_path / "run", "train.epochs=1", "data.classes=[a, b, c, d]"))
    assert eval_miou(result.best).classes.names == ("a", "b", "c", "d")


def test_everything_can_be_evaluated(trained: TrainResult, tmp_path: Path) -> None:
    assert eval_miou(trained.best, split="all", output=tmp_path).scores.num_images == 18


def test_evaluation_of_other_classes_is_refused(trained: TrainResult, shapes: Path) -> None:
    with pytest.raises(CheckpointError, match=r"trained on 4 classes .* the data set has 2"):
        eval_miou(trained.best, ["data.classes=[a, b]"])


@pytest.mark.parametrize("override", ["optim.lr=1", "data.ignore_index=254", "data.train=x"])
def test_overrides_without_effect_on_a_trained_model_are_refused(trained: TrainResult, override: str) -> None:
    with pytest.raises(ConfigError, match="without effect on a trained checkpoint"):
        eval_miou(trained.best, [override])


def test_another_split_and_batch_size_can_be_evaluated(trained: TrainResult, tmp_path: Path) -> None:
    result = eval_miou(trained.best, ["eval.batch_size=1"], split="train", output=tmp_path)
    assert result.scores.num_images == 12
    assert (tmp_path / "confusion.csv").is_file()


def test_a_checkpoint_with_itself_scores_as_it_does_alone(trained: TrainResult, tmp_path: Path) -> None:
    last = trained.folder / "checkpoints" / "last.pt"
    alone, twice = (eval_miou(paths, output=tmp_path).scores for paths in ([last], [last, last]))
    assert (alone.counts != twice.counts).sum() <= 4  # classes that tie, up to rounding
    assert twice.miou == pytest.approx(alone.miou, abs=1e-3)


def test_an_ensemble_is_not_scored_on_images_that_part_of_it_was_trained_on(
    trained: TrainResult, tmp_path: Path
) -> None:
    other = Checkpoint.load(trained.best)
    other.config = replace(other.config, data=replace(other.config.data, train="val", val="train"))
    other.save(tmp_path / "other.pt")
    paths = [trained.best, tmp_path / "other.pt"]
    for split in (None, "val", "train"):
        with pytest.raises(ConfigError, match=r"others were trained on its images .*--split test"):
            eval_miou(paths, split=split, output=tmp_path)
    assert eval_miou(paths, split="all", output=tmp_path).scores.num_images == 18


def test_the_scores_of_an_ensemble_need_a_folder(trained: TrainResult) -> None:
    with pytest.raises(ConfigError, match="--output: not given"):
        eval_miou([trained.best, trained.best])


def test_results_go_into_the_run_by_default(trained: TrainResult) -> None:
    assert eval_miou(trained.best).output == trained.folder / "eval_val"


# ---- real data


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "canvas"),
    [
        ("voc2012_sample", "[128, 128]"),
        ("weizmann_horses", "[96, 128]"),
        ("drive", "[128, 128]"),
        ("camvid_tiny", "[96, 128]"),
    ],
)
def test_one_epoch_of_real_data(make_config: MakeConfig, shared_data, tmp_path: Path, name: str, canvas: str) -> None:  # type: ignore[no-untyped-def]
    config = make_config(tmp_path / "run", f"data.root={shared_data(name)}", f"data.canvas={canvas}", "train.epochs=1")
    result = train(config)
    assert result.scores is not None
    assert result.scores.miou > 0
