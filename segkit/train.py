"""Train a model: one loop, top to bottom. To do something else with it, copy this file and edit it; there are no hooks.

    set up      data -> model -> loss -> optimizer -> a look at two validation batches -> the run folder
    each step   (a) once in a while: an epoch begins, the encoder thaws   (b) load   (c) forward, backward   (d) update
                (e) once in a while: show the loss   (f) at the end of an epoch: validate, save

One step is one batch of `train.batch_size` pictures, on any number of ranks and micro-batches: losses are divided by
what the whole batch holds, so the gradient is the same however the batch is split.
"""

import contextlib
import itertools
import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from segkit.checkpoint import Checkpoint, Progress, restore
from segkit.classes import Classes
from segkit.config import RunConfig
from segkit.data.augment import build_augment
from segkit.data.cache import build_cache
from segkit.data.dataset import BatchPlan, EvaluationSet, TrainingSet
from segkit.data.loader import evaluation_batches, training_batches
from segkit.data.masks import MaskReader
from segkit.data.prepare import PreparedData, prepare_data
from segkit.errors import ConfigError, DeviceError, TrainingDiverged, first_line
from segkit.evaluate import Evaluation, evaluate, segment
from segkit.labels import argmax
from segkit.losses import build_loss, class_weights
from segkit.metrics import ConfusionMatrix, Scores
from segkit.models.inference import for_inference
from segkit.models.segmenter import Segmenter
from segkit.models.table import build_model
from segkit.optim import MovingAverage, build_optimizer, lr_factor, scale_lr, set_lr
from segkit.ranks import Ranks, data_parallel, process_group, synchronize_batch_norm, unused_parameters
from segkit.report.console import describe_data, describe_epoch, progress_bar
from segkit.report.pictures import panel
from segkit.report.profile import StepProfiler, Stopwatch
from segkit.report.runlog import EpochRow, RunFolder
from segkit.resume import check_continues, check_same_run
from segkit.runtime import (
    StopRequest,
    autocast,
    count_threads,
    count_workers,
    describe_environment,
    keep_freed_memory,
    seed_step,
    select_device,
    select_precision,
    sum_dtype,
)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainResult:
    """What a run came to: its folder, and the scores of the best checkpoint on the validation split."""

    folder: Path
    best: Path
    best_epoch: int
    scores: Scores | None
    classes: Classes
    finished: bool
    stopped: bool  # by a signal
    watch: Stopwatch


def train(config: RunConfig, *, resume: bool = False, max_steps: int | None = None) -> TrainResult:
    """Train by a config, alone or as one of the ranks that torchrun started, and write the run folder.

    With `resume`, go on from checkpoints/last.pt at the very step it was saved at. The first Ctrl-C or SIGTERM finishes
    the step, saves and returns a result that is not `finished`; so does step `max_steps`.

    Raises:
        SegkitError: anything that the user can mend; a new run that fails before its first checkpoint leaves no folder.
    """
    with process_group(config.train.device) as ranks:
        folder = RunFolder(Path(config.run))
        try:
            return _train(config, folder, ranks, resume=resume, max_steps=max_steps)
        except torch.OutOfMemoryError as error:
            raise DeviceError(
                f"train.batch_size: {config.train.batch_size} pictures don't fit into the device's memory "
                f"({first_line(error)}); raise train.accumulate, or lower train.batch_size or data.canvas"
            ) from error
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise ConfigError(
                f"train.batch_size: {config.model.name} normalises over a batch (BatchNorm) and found one picture per "
                "process and micro-batch, expected at least 2; raise train.batch_size or lower train.accumulate"
            ) from error
        finally:
            if ranks.is_first:
                folder.discard_if_empty()


def _train(config: RunConfig, folder: RunFolder, ranks: Ranks, *, resume: bool, max_steps: int | None) -> TrainResult:
    # ---- set up: the run, its data
    settings = config.train
    batch_size = settings.fixed_batch_size
    device = select_device(settings.device, local_rank=ranks.local_rank)
    precision = select_precision(settings.precision, device)
    keep_freed_memory()
    ranks.first(folder.check_resumable if resume else folder.check_new)
    old = Checkpoint.load(folder.last) if resume else None
    if old:
        check_same_run(old.config, config, folder)
    data: PreparedData = ranks.first(
        lambda: prepare_data(config.data, seed=settings.seed, held_out=old.held_out if old else None)
    )
    classes = data.classes
    if old:
        check_continues(old, data, folder, root=config.data.root)
    reader = MaskReader.build(config.data, classes)
    plan = BatchPlan(len(data.train), batch_size, settings.seed, settings.accumulate, ranks.size)
    recipe = build_augment(config.augment, canvas_hw=config.data.canvas, ignore_index=classes.ignore_index)
    cache = build_cache(config.data, data.train, reduction=recipe.placement.reduction)
    steps_per_epoch = plan.batches_per_epoch
    num_steps = settings.epochs * steps_per_epoch
    thaw_step = settings.freeze_epochs * steps_per_epoch

    # ---- set up: model, loss, optimizer
    torch.manual_seed(settings.seed)
    segmenter = build_model(config.model, len(classes), pretrained=old is None)
    segmenter.place(device, channels_last=settings.channels_last)
    if settings.sync_bn and ranks.size > 1:
        segmenter.network = synchronize_batch_norm(segmenter.network, device)
    weights = class_weights(
        config.loss.class_weights,
        class_pixels=data.survey.class_pixels,
        surrounding_pixels=data.survey.surrounding_pixels,
    )
    loss = build_loss(
        config.loss, num_classes=len(classes), ignore_index=classes.ignore_index, class_weights=weights, device=device,
        compiled=settings.compile,
    )  # fmt: skip
    lr = scale_lr(config.optim, batch_size)
    optimizer = build_optimizer(config.optim, segmenter, encoder=segmenter.encoder, lr=lr)
    scaler = torch.amp.GradScaler(device.type, enabled=precision == torch.float16)
    average = MovingAverage(segmenter, decay=settings.ema) if settings.ema else None
    progress = Progress()
    if old:
        progress = old.progress
        restore(segmenter, old.weights, model=config.model)
        optimizer.load_state_dict(old.optimizer or {})
        scaler.load_state_dict(old.scaler or {})
        if average and old.ema:
            restore(average.model, old.ema, model=config.model)
            average.updates = old.ema_updates

    # ---- set up: what validation sees; two batches of it now, so that what would fail after an hour fails here
    validation_set = EvaluationSet(data.val, reader, canvas_hw=config.data.canvas)

    def ready_model() -> Segmenter:
        trained = average.model if average else segmenter
        return for_inference(trained, canvas_hw=config.data.canvas, precision=precision)

    def validate(model: Segmenter, *, num_batches: int | None = None) -> Evaluation:
        batches = evaluation_batches(
            validation_set,
            batch_size=config.eval.batch_size,
            rank=ranks.rank,
            num_ranks=ranks.size,
            workers=count_threads(),
        )
        chosen = itertools.islice(batches, num_batches)
        return evaluate(model, chosen, classes=classes, precision=precision, ranks=ranks, loss=loss)

    validate(ready_model(), num_batches=2)
    unused = set()
    if ranks.size > 1:
        unused = unused_parameters(segmenter, torch.zeros(1, 3, *config.data.canvas, device=device))

    def open_folder() -> None:
        if old:
            folder.trim_log(progress.step)
            return
        num_bytes = sum(tensor.nbytes for tensor in segmenter.state_dict().values())
        folder.check_space(needed=num_bytes * 10)  # last and best, with optimizer and average, and one being written
        held_out = {config.data.val: data.held_out} if data.held_out else {}
        folder.create(config, describe_environment(device), held_out)

    ranks.first(open_folder)
    if ranks.is_first:
        log.info("run     %s", config.run)
        log.info(
            "%s",
            describe_data(config.data.root, classes, data.survey, num_val=len(data.val), class_weights=weights),
        )
        size = sum(parameter.numel() for parameter in segmenter.parameters()) / 1e6
        log.info("model   %s, encoder %s, %.1f M parameters", config.model.name, config.model.encoder, size)
        log.info("device  %s, %s, %d process(es)", device, str(precision).removeprefix("torch."), ranks.size)
        if batch_size > len(data.train):
            log.info("        note: a batch of %d repeats the %d training pictures", batch_size, len(data.train))
        if progress.step >= num_steps:
            log.info("resume  nothing left to do: step %d of %d; raise train.epochs to go on", progress.step, num_steps)
        elif old:
            log.info(
                "resume  at epoch %d, after step %d of %d",
                progress.step // steps_per_epoch + 1,
                progress.step,
                num_steps,
            )
        scaled = f" (scaled from {config.optim.lr:.3g})" if lr != config.optim.lr else ""
        log.info(
            "train   %d epochs of %d steps, batch %d, canvas %dx%d, lr %.3g%s",
            settings.epochs, steps_per_epoch, batch_size, *config.data.canvas[::-1], lr, scaled,
        )  # fmt: skip

    def save(path: Path, *, resumable: bool) -> None:
        checkpoint = Checkpoint(
            weights=segmenter.state_dict(),
            config=config,
            classes=classes,
            progress=progress,
            held_out=data.held_out,
            data_id=data.id,
            ema=average.model.state_dict() if average else None,
            ema_updates=average.updates if average else 0,
            optimizer=optimizer.state_dict() if resumable else None,
            scaler=scaler.state_dict() if resumable else None,
        )
        ranks.first(lambda: checkpoint.save(path))

    batches = training_batches(
        TrainingSet(data.train, reader, recipe, seed=settings.seed, cache=cache),
        plan,
        rank=ranks.rank,
        first_step=progress.step,
        num_steps=num_steps,
        workers=count_workers(settings.workers, device),
        timeout=settings.timeout_minutes * 60,
        device=device,
    )
    show_every = 1 if device.type == "cpu" else 10  # reading the loss makes the host wait for the GPU
    epoch_loss = torch.tensor(progress.epoch_loss, dtype=sum_dtype(device), device=device)
    bar: tqdm[Any] | None = None
    network: nn.Module | None = None

    # ---- the loop
    watch = Stopwatch(synchronize=settings.profile or max_steps is not None)
    profile = settings.profile and ranks.is_first
    profiling = StepProfiler(folder.path, watch, device) if profile else contextlib.nullcontext()
    with StopRequest() as stop, profiling as profiler:
        for step in range(progress.step, num_steps):
            epoch, place = divmod(step, steps_per_epoch)  # both from 0

            # (a) once in a while: an epoch begins; the encoder thaws
            if bar is None:
                started = time.perf_counter()
                bar = progress_bar(
                    epoch=epoch + 1, num_epochs=settings.epochs, first_step=place, num_steps=steps_per_epoch,
                    show=ranks.is_first,
                )  # fmt: skip
            if network is None or step == thaw_step:
                network = _trainable(segmenter, unused, frozen=step < thaw_step, ranks=ranks, compiled=settings.compile)
            last_lr = set_lr(
                optimizer,
                lr_factor(config.optim, step=step, num_steps=num_steps, steps_per_epoch=steps_per_epoch),
            )

            watch.start()

            # (b) load this rank's micro-batches, and learn what the whole batch's losses are divided by
            micro = [next(batches) for _ in range(settings.accumulate)]
            watch.lap("loading")
            normalizers = ranks.sum(torch.stack([loss.normalizers(batch.masks) for batch in micro]).sum(dim=0))

            # (c) forward, backward: each part contributes its share of the whole batch's loss
            seed_step(settings.seed, step, ranks.rank)  # after loading: a new loader draws a number of its own
            step_loss = torch.zeros((), device=device)
            for part, batch in enumerate(micro):  # images uint8 [b, 3, H, W], masks uint8 [b, H, W]
                with contextlib.ExitStack() as stack:
                    if part < len(micro) - 1 and ranks.size > 1:
                        stack.enter_context(
                            cast(DistributedDataParallel, network).no_sync()
                        )  # gradients are exchanged once, after the last part
                    with autocast(device, precision):
                        logits = network(batch.images)  # [b, C, H, W]
                    share = loss(logits, batch.masks, normalizers)
                    scaler.scale(share * ranks.size).backward()  # DDP averages
                step_loss += share.detach()

            watch.lap("forward and backward")

            # (d) update
            if settings.clip_norm:
                scaler.unscale_(optimizer)
                nn.utils.clip_grad_norm_(segmenter.parameters(), settings.clip_norm)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad(set_to_none=True)
            ranks.average_buffers(segmenter)
            if average:
                average.update(segmenter)
            epoch_loss += step_loss
            progress.step = step + 1
            watch.lap("update")
            if profiler:
                profiler.step()

            # (e) once in a while: show the loss, and stop if it is none, or if a user or a scheduler asks
            bar.update()
            stopping = False
            enough = progress.step == max_steps
            if place % show_every == 0 or place == steps_per_epoch - 1 or enough:
                stopping = ranks.any(stop.asked or enough, device)
                _check_finite(float(step_loss), step, last_lr, [name for batch in micro for name in batch.names])
                seconds = progress.epoch_seconds + time.perf_counter() - started
                speed = (place + 1) * batch_size / seconds
                bar.set_postfix(loss=f"{float(step_loss) * ranks.size:.4f}", lr=f"{last_lr:.2e}", img_s=f"{speed:.1f}")

            # (f) at the end of an epoch: validate, log, save
            if place == steps_per_epoch - 1:
                bar.close()
                bar = None
                validation = None
                if (epoch + 1) % config.eval.every == 0 or epoch + 1 == settings.epochs:
                    model = ready_model()
                    validation = validate(model)
                row = EpochRow(
                    epoch=epoch + 1,
                    step=step + 1,
                    lr=last_lr,
                    train_loss=float(ranks.sum(epoch_loss)) / steps_per_epoch,
                    seconds=round(seconds, 3),
                    images_per_second=round(steps_per_epoch * batch_size / seconds, 3),
                    val_loss=validation.loss if validation else None,
                    miou=validation.scores.miou if validation else None,
                    pixel_accuracy=validation.scores.pixel_accuracy if validation else None,
                )
                better = validation is not None and _is_better(validation.scores, progress)
                if better and validation:
                    progress.best_epoch, progress.best_confusion = epoch + 1, validation.scores.counts.tolist()
                progress.epoch_loss = progress.epoch_seconds = 0.0
                epoch_loss.zero_()
                if better:
                    save(folder.best, resumable=False)
                save(folder.last, resumable=True)
                if ranks.is_first:
                    log.info("%s", describe_epoch(row, num_epochs=settings.epochs, is_best=better))
                    folder.add(row)
                    if validation and better:
                        folder.write_metrics(validation.scores, classes)
                    if validation:
                        folder.add_scores(validation.scores, classes, epoch + 1)
                        _log_pictures(folder, model, validation_set, config.eval.pictures, precision, epoch + 1)
            elif stopping:
                progress.epoch_loss = float(ranks.sum(epoch_loss)) / ranks.size
                progress.epoch_seconds += time.perf_counter() - started
                save(folder.last, resumable=True)
            if stopping:
                break
    if bar is not None:
        bar.close()
    if profiler:
        log.info("profile %s", "\n        ".join(profiler.summary))
    folder.close()
    scores = None
    if progress.best_confusion is not None:
        scores = ConfusionMatrix.from_counts(progress.best_confusion, num_images=len(data.val)).scores()
    finished = progress.step >= num_steps
    return TrainResult(folder.path, folder.best, progress.best_epoch, scores, classes, finished, stop.asked, watch)


# ---- set up


def _trainable(segmenter: Segmenter, unused: set[str], *, frozen: bool, ranks: Ranks, compiled: bool) -> nn.Module:
    """Return the module whose forward trains: `segmenter`, its encoder frozen or not, over ranks, compiled."""
    for name, parameter in segmenter.named_parameters():
        parameter.requires_grad_(name not in unused)
    if frozen:
        segmenter.encoder.requires_grad_(False)
    _set_mode(segmenter, frozen=frozen)
    network = data_parallel(segmenter, ranks, segmenter.mean.device)
    # A compiled wrapper, not segmenter.compile(): validation runs the plain model, as the evaluation tool does.
    return cast(nn.Module, torch.compile(network)) if compiled else network


def _set_mode(segmenter: Segmenter, *, frozen: bool) -> None:
    """Training mode; a frozen encoder stays in eval mode, so that its BatchNorm statistics are frozen too."""
    segmenter.train()
    if frozen:
        segmenter.encoder.eval()


# ---- along the way


def _check_finite(value: float, step: int, lr: float, names: Sequence[str]) -> None:
    if not math.isfinite(value):
        raise TrainingDiverged(
            f"step {step + 1}: the loss is {value} at lr {lr:.3g}, expected a finite number; lower optim.lr, set "
            f"train.clip_norm=1, or try train.precision=fp32. Pictures of this batch: {', '.join(names[:8])}"
        )


def _is_better(scores: Scores, progress: Progress) -> bool:
    if progress.best_confusion is None:
        return True
    best = ConfusionMatrix.from_counts(progress.best_confusion, num_images=0).scores()
    return scores.miou > best.miou


def _log_pictures(
    folder: RunFolder, model: Segmenter, scenes: EvaluationSet, count: int, precision: torch.dtype, epoch: int
) -> None:
    """Show the same few validation pictures each time: image, truth, prediction."""
    count = min(count, len(scenes))
    for k in range(count):
        scene = scenes[k * len(scenes) // count]
        logits = segment(model, scene.image[None], precision=precision)[0]
        inner = scene.box.inner
        image = scene.image.permute(1, 2, 0).numpy()[inner]
        masks = [scene.canvas_mask.numpy()[inner], argmax(logits)[inner]]
        folder.add_picture(f"validation/{scene.name}", panel(image, masks, scenes.reader.classes), epoch)
