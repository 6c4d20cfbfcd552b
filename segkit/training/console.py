"""What a run says to the terminal while it trains."""

from collections.abc import Sequence
from typing import Any

import torch
from tqdm import tqdm

from segkit.classes import Classes
from segkit.config.schema import RunConfig
from segkit.datasets.survey import Survey
from segkit.loading.sampler import num_draws
from segkit.report.class_tables import classes_table
from segkit.report.tables import percent
from segkit.runtime.progress import progress
from segkit.training.run_folder import EpochRow


def describe_data(
    root: str,
    classes: Classes,
    found: Survey,
    *,
    num_val: int,
    class_weights: Sequence[float] | None,
    views: Sequence[float],
) -> str:
    """Return lines that say what is trained on: images, whose expected views per epoch are `views`, and classes."""
    lines = [
        f"data    {root}: {found.num_images} to train on, {num_val} to validate, {len(classes)} classes",
        classes_table(classes, found, class_weights, views),
    ]
    if set(views) != {1.0}:
        lines.append(f"        an epoch is {num_draws(views)} samples of these {found.num_images} images")
    if absent := found.absent(classes):
        lines.append(f"        note: no training pixel of {', '.join(absent)}; that can't be learned")
    return "\n".join(lines)


def describe_run(
    config: RunConfig,
    *,
    num_parameters: int,
    device: torch.device,
    precision: torch.dtype,
    num_ranks: int,
    num_train: int,
    steps_per_epoch: int,
    lr: float,
) -> str:
    """Return lines that say what is trained, on what, and how: `lr` is the rate that is used, scaled or not."""
    batch_size, (height, width) = config.train.fixed_batch_size, config.data.canvas
    scaled = f" (scaled from {config.optim.lr:.3g})" if lr != config.optim.lr else ""
    lines = [
        f"model   {config.model.name}, encoder {config.model.encoder}, {num_parameters / 1e6:.1f} M parameters",
        f"device  {device}, {str(precision).removeprefix('torch.')}, {num_ranks} process(es)",
        f"train   {config.train.epochs} epochs of {steps_per_epoch} steps, batch {batch_size}, "
        f"canvas {width}x{height}, lr {lr:.3g}{scaled}",
    ]
    if batch_size > num_train:
        lines.append(f"        note: a batch of {batch_size} repeats the {num_train} training images")
    return "\n".join(lines)


def describe_epoch(row: EpochRow, *, num_epochs: int, is_best: bool) -> str:
    """Return the line that a finished epoch leaves behind."""
    line = f"epoch {row.epoch:3d}/{num_epochs}  loss {row.train_loss:.4f}"
    if row.miou is not None:
        line += f"  val loss {row.val_loss:.4f}  mIoU {percent(row.miou)}{' (best)' if is_best else ''}"
    return f"{line}  {row.images_per_second:.1f} images/s  {row.seconds:.0f} s"


def epoch_bar(*, epoch: int, num_epochs: int, first_step: int, num_steps: int, show: bool) -> "tqdm[Any]":
    """Return the bar of an epoch (counted from 1)."""
    return progress(title=f"epoch {epoch}/{num_epochs}", unit="step", total=num_steps, first=first_step, show=show)
