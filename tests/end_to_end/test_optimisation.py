"""Whole trainings by each optimizer and schedule: a resumed run is the straight one."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from segkit.config.schema import RunConfig
from segkit.models.checkpoint import Checkpoint
from segkit.train import train
from segkit.training.optim import OPTIMIZERS

MakeConfig = Callable[..., RunConfig]


def checkpoint_of(run: Path) -> Checkpoint:
    return Checkpoint.load(run / "checkpoints" / "last.pt")


def rates_of(run: Path) -> list[str]:
    return [line.split(",")[2] for line in (run / "log.csv").read_text().splitlines()[1:]]


def losses_of(run: Path) -> list[float]:
    return [float(line.split(",")[3]) for line in (run / "log.csv").read_text().splitlines()[1:]]


def train_straight_and_broken(make_config: MakeConfig, folder: Path, *settings: str) -> tuple[Checkpoint, Checkpoint]:
    """Return the ends of a run of 12 steps, and of the same run stopped within an epoch and resumed, twice."""
    settings = ("train.epochs=4", "train.precision=fp32", *settings)
    train(make_config(folder / "straight", *settings))
    for stop in (4, 8, None):
        train(make_config(folder / "broken", *settings), resume="auto", max_steps=stop)
    return checkpoint_of(folder / "straight"), checkpoint_of(folder / "broken")


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_a_resumed_run_equals_the_straight_one_with_each_optimizer(
    make_config: MakeConfig, tmp_path: Path, name: str
) -> None:
    settings = ("optim.lr=0.001", f"optim.name={name}", "optim.layer_decay=0.8", "optim.groups={head.*: {lr: 3}}")
    straight, broken = train_straight_and_broken(make_config, tmp_path, *settings)
    assert all(torch.equal(straight.weights[key], broken.weights[key]) for key in straight.weights)
    assert all(tensor.isfinite().all() for tensor in straight.weights.values())


@pytest.mark.slow
def test_a_resumed_run_equals_the_straight_one_with_group_norm(make_config: MakeConfig, tmp_path: Path) -> None:
    straight, broken = train_straight_and_broken(make_config, tmp_path, "model.norm=group", "model.init=kaiming")
    assert all(torch.equal(straight.weights[key], broken.weights[key]) for key in straight.weights)


@pytest.mark.slow
def test_a_resumed_run_drops_its_rate_at_the_plateaus_of_the_straight_one(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    # a rate too small to learn by: mIoU stays, so that the rate drops at each validation but the first
    settings = (
        "optim.schedule=plateau",
        "optim.patience=0",
        "optim.lr=1e-9",
        "optim.step_factor=0.5",
        "optim.warmup=0",
    )
    straight, broken = train_straight_and_broken(make_config, tmp_path, *settings)
    assert straight.progress.plateau_drops > 1
    assert all(torch.equal(straight.weights[key], broken.weights[key]) for key in straight.weights)
    for name in ("plateau_miou", "plateau_waited", "plateau_drops"):
        assert getattr(straight.progress, name) == getattr(broken.progress, name)
    assert rates_of(tmp_path / "straight") == rates_of(tmp_path / "broken")
    assert len(set(rates_of(tmp_path / "straight"))) > 1


def test_a_checkpoint_from_before_plateaus_and_their_keys_resumes(make_config: MakeConfig, tmp_path: Path) -> None:
    settings = ("train.precision=fp32",)
    train(make_config(tmp_path / "straight", *settings))
    train(make_config(tmp_path / "old", *settings), max_steps=2)
    path = tmp_path / "old" / "checkpoints" / "last.pt"
    content = torch.load(path, weights_only=True)
    for name in ("plateau_miou", "plateau_waited", "plateau_drops"):
        del content["progress"][name]
    known = {"name", "lr", "encoder_lr", "reference_batch_size", "weight_decay", "momentum", "schedule", "warmup"}
    known |= {"min_lr", "power", "step_epochs", "step_factor"}  # of the first release
    content["config"]["optim"] = {name: value for name, value in content["config"]["optim"].items() if name in known}
    torch.save(content, path)
    assert train(make_config(tmp_path / "old", *settings), resume=True).finished
    straight, old = checkpoint_of(tmp_path / "straight"), checkpoint_of(tmp_path / "old")
    assert all(torch.equal(straight.weights[key], old.weights[key]) for key in straight.weights)


# ---- freezing


@pytest.mark.slow
def test_a_resumed_run_equals_the_straight_one_while_parts_thaw(make_config: MakeConfig, tmp_path: Path) -> None:
    settings = (
        "train.freeze={encoder.model.blocks.*: 1, encoder.model.conv_stem.*: 2, '*.bn1.*': always}",
        "train.freeze_epochs=1", "optim.thaw_warmup=0.1", "optim.l1=0.001",
    )  # fmt: skip
    straight, broken = train_straight_and_broken(make_config, tmp_path, *settings)
    assert all(torch.equal(straight.weights[key], broken.weights[key]) for key in straight.weights)


@pytest.mark.slow
def test_a_warm_up_after_the_thaw_keeps_the_loss_from_jumping(make_config: MakeConfig, tmp_path: Path) -> None:
    plain = ("train.precision=fp32", "augment.scale=[1, 1]", "augment.aspect=0", "eval.every=100")
    train(make_config(tmp_path / "weights", *plain, "train.epochs=25", "optim.lr=0.005"))
    found = {}
    for warmup in (0.0, 0.6):  # of 9 steps: the encoder thaws before the last 3
        run = tmp_path / str(warmup)
        settings = (
            f"model.pretrained={tmp_path / 'weights' / 'checkpoints' / 'last.pt'}", "train.epochs=3", "optim.name=sgd",
            "optim.lr=0.3", "optim.schedule=constant", "optim.warmup=0", "train.freeze_epochs=2",
            f"optim.thaw_warmup={warmup}",
        )  # fmt: skip
        train(make_config(run, *plain, *settings))
        found[warmup] = losses_of(run)
    assert found[0.0][:2] == found[0.6][:2]
    jumps = {warmup: losses[2] - losses[1] for warmup, losses in found.items()}
    assert jumps[0.0] > 0.05 * found[0.0][1]  # the rate of the decoder is too high for weights that were good
    assert jumps[0.6] < jumps[0.0] / 2  # the rest differs with rounding, hence with the number of threads
