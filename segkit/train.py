"""Train a model: one loop, top to bottom. To do something else with it, copy this file and edit it; there are no hooks.

    set up      data -> model -> loss -> optimizer -> a look at two validation batches -> the run folder
    each step   (a) once in a while: an epoch begins, the encoder thaws   (b) load   (c) forward, backward   (d) update
                (e) once in a while: show the loss   (f) at the end of an epoch: validate, log   (g) now and then: save

One step is one batch of `train.batch_size` pictures, on any number of ranks and micro-batches: losses are divided by
what the whole batch holds, so the gradient is the same however the batch is split. Every random number is a function
of seed, epoch, step, view and rank, so a run that goes on from a checkpoint is, bit for bit, the run that never broke.
"""

import contextlib
import copy
import functools
import itertools
import logging
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import nn
from tqdm import tqdm

from segkit.classes import Classes
from segkit.config.schema import RunConfig
from segkit.datasets.masks import MaskReader
from segkit.errors import ConfigError, DeviceError, first_line
from segkit.evaluation.confusion import ConfusionMatrix, Scores
from segkit.evaluation.evaluate import Evaluation, evaluate
from segkit.imaging.argmax import argmax
from segkit.imaging.overlay import panel
from segkit.inference.backend import segment
from segkit.inference.folding import for_inference
from segkit.loading.augment.pipeline import build_augment
from segkit.loading.batch_plan import BatchPlan, shard_sizes
from segkit.loading.cache import build_cache
from segkit.loading.evaluation_set import EvaluationSet
from segkit.loading.loader import evaluation_batches, training_batches
from segkit.loading.prepare import PreparedData, prepare_data
from segkit.loading.sampler import expected_views
from segkit.loading.training_set import TrainingSet
from segkit.losses.class_weights import class_weights
from segkit.losses.table import build_loss
from segkit.models.checkpoint import Checkpoint, Progress, restore
from segkit.models.segmenter import Segmenter
from segkit.models.table import build_model
from segkit.runtime.device import (
    autocast,
    count_workers,
    describe_environment,
    make_deterministic,
    seed_step,
    select_device,
    select_precision,
    sum_dtype,
)
from segkit.runtime.machine import count_threads, keep_freed_memory, under_torchrun
from segkit.runtime.ranks import (
    Ranks,
    data_parallel,
    gradient_exchange,
    process_group,
    synchronize_batch_norm,
    unused_parameters,
)
from segkit.runtime.sharding import fit_state, gathered, shard, whole
from segkit.runtime.signals import StopRequest
from segkit.training.console import describe_data, describe_epoch, describe_run, progress_bar
from segkit.training.divergence import Divergence, all_finite
from segkit.training.ema import MovingAverage
from segkit.training.optim import build_optimizer
from segkit.training.profile import StepProfiler, Stopwatch
from segkit.training.resume import check_continues, check_same_run, load_newest
from segkit.training.run_folder import EpochRow, RunFolder
from segkit.training.saver import BackgroundSaver
from segkit.training.schedule import lr_factor, scale_lr, set_lr

log = logging.getLogger(__name__)

SLOW_STEP = 0.5  # seconds; after longer ones it is looked each time whether anything is up
TORCHRUN_GRACE = 5.0  # seconds in which torchrun passes a signal on to processes that have it already


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


def train(
    config: RunConfig,
    *,
    resume: bool | Literal["auto"] = False,
    max_steps: int | None = None,
    ranks: Ranks | None = None,
) -> TrainResult:
    """Train by a config, alone or as one of the ranks that torchrun started, and write the run folder.

    With `resume`, go on from checkpoints/last.pt at the very step it was saved at; with auto, if there is one. The
    first Ctrl-C or SIGTERM finishes the step, saves and returns a result that is not `finished`; so does `max_steps`.
    `ranks` are given by a caller that has joined their group already.

    Raises:
        SegkitError: anything that the user can mend; a new run that fails before its first checkpoint leaves no folder.
    """
    joined = process_group(config.train.device, timeout_minutes=config.train.timeout_minutes)
    with contextlib.nullcontext(ranks) if ranks else joined as ranks:
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


def _train(
    config: RunConfig, folder: RunFolder, ranks: Ranks, *, resume: bool | Literal["auto"], max_steps: int | None
) -> TrainResult:
    # ---- set up: the run, its data
    settings = config.train
    batch_size = settings.fixed_batch_size
    device = select_device(settings.device, local_rank=ranks.local_rank)
    precision = select_precision(settings.precision, device)
    keep_freed_memory()
    if settings.deterministic:
        make_deterministic(device)
    ranks.first(folder.lock)
    if resume == "auto":
        resume = ranks.first(folder.holds_checkpoint)
    ranks.first(folder.check_resumable if resume else folder.check_new)
    old = ranks.first(lambda: load_newest(folder)) if resume else None
    if old:
        ranks.first(functools.partial(check_same_run, old.config, config, folder))
    data: PreparedData = ranks.first(
        lambda: prepare_data(config.data, seed=settings.seed, held_out=old.held_out if old else None)
    )
    classes = data.classes
    if old:
        ranks.first(functools.partial(check_continues, old, data, folder, root=config.data.root))
    reader = MaskReader.build(config.data, classes)
    sizes, views = shard_sizes(data.train), expected_views(config.data, data.survey.presence)
    plan = BatchPlan(len(data.train), batch_size, settings.seed, settings.accumulate, ranks.size, sizes, views)
    recipe = build_augment(
        config.augment, canvas_hw=config.data.canvas, ignore_index=classes.ignore_index,
        class_pixels=data.survey.class_pixels,
    )  # fmt: skip
    cache = build_cache(config.data, data.train, recipe)
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
        class_images=data.survey.class_images,
        num_images=data.survey.num_images,
    )
    loss = build_loss(
        config.loss, num_classes=len(classes), ignore_index=classes.ignore_index, class_weights=weights, device=device,
        compiled=settings.compile,
    )  # fmt: skip
    average = MovingAverage(segmenter, decay=settings.ema) if settings.ema else None
    progress = Progress()
    if old:
        progress = old.progress
        if progress.best_epoch and not ranks.first(folder.best.is_file):
            if ranks.is_first:
                log.warning("warning: %s isn't there any more; the next validated epoch counts as best", folder.best)
            progress.best_epoch, progress.best_confusion = 0, None
        restore(segmenter, old.weights, model=config.model)
        if average and old.ema:
            restore(average.model, old.ema, model=config.model)
            average.updates = old.ema_updates
    example = torch.zeros(1, 3, *recipe.canvas_hw, device=device)
    unused = unused_parameters(segmenter, example) if ranks.size > 1 else set()
    plain = None  # the model in one piece, where the one that trains is spread over ranks
    if settings.sharding == "fsdp2" and ranks.size > 1:
        plain = copy.deepcopy(segmenter).cpu()
        for model in (segmenter, average.model) if average else (segmenter,):
            shard(model, ranks, device, example=example)
    lr = scale_lr(config.optim, batch_size)
    optimizer = build_optimizer(config.optim, segmenter, encoder=segmenter.encoder, lr=lr)
    scaler = torch.amp.GradScaler(device.type, enabled=precision == torch.float16)
    if old:
        optimizer.load_state_dict(fit_state(old.optimizer or {}, optimizer))
        scaler.load_state_dict(old.scaler or {})
        old.weights, old.ema, old.optimizer = {}, None, None  # they would stay for the whole run

    # ---- set up: what validation sees; two batches of it now, so that what would fail after an hour fails here
    validation_set = EvaluationSet(data.val, reader, canvas_hw=config.data.canvas)

    def ready_model() -> Segmenter:
        trained = average.model if average else segmenter
        if plain is not None:
            trained = gathered(trained, plain).to(device)
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

    def open_folder() -> None:
        if old:
            folder.reopen(progress.step, progress.step // steps_per_epoch + 1)
            return
        num_bytes = sum(tensor.nbytes for tensor in segmenter.state_dict().values())
        folder.check_space(needed=num_bytes * 15)  # last, previous, best, and one of them being written
        held_out = {config.data.val: data.held_out} if data.held_out else {}
        folder.create(config, describe_environment(device), splits=held_out, files=data.files)

    ranks.first(open_folder)
    if ranks.is_first:
        log.info("run     %s", config.run)
        log.info(
            "%s",
            describe_data(
                config.data.root, classes, data.survey, num_val=len(data.val), class_weights=weights, views=views
            ),
        )
        size = sum(parameter.numel() for parameter in segmenter.parameters())
        log.info(
            "%s",
            describe_run(
                config, num_parameters=size, device=device, precision=precision, num_ranks=ranks.size,
                num_train=len(data.train), steps_per_epoch=steps_per_epoch, lr=lr,
            ),
        )  # fmt: skip
        if progress.step >= num_steps:
            log.info("resume  nothing left to do: step %d of %d; raise train.epochs to go on", progress.step, num_steps)
        elif old:
            epoch = progress.step // steps_per_epoch + 1
            log.info("resume  at epoch %d, after step %d of %d", epoch, progress.step, num_steps)

    def checkpoint() -> Checkpoint:
        first = ranks.is_first
        return Checkpoint(
            weights=whole(segmenter.state_dict(), keep=first),
            config=config,
            classes=classes,
            progress=progress,
            held_out=data.held_out,
            data_id=data.id,
            ema=whole(average.model.state_dict(), keep=first) if average else None,
            ema_updates=average.updates if average else 0,
            optimizer=whole(optimizer.state_dict(), keep=first),
            scaler=scaler.state_dict(),
        ).on_host()

    def save(best: Scores | None) -> None:
        """Begin to write a checkpoint, of the best epoch so far where its scores are given."""
        divergence.check_weights(segmenter, progress.step)
        if not ranks.is_first and plain is None:
            return  # a model that is spread over ranks is collected from all of them
        last = checkpoint()

        def write() -> None:  # last.pt comes last: a run that is killed in here goes on before it
            if best:
                chosen = replace(last, optimizer=None, scaler=None)
                chosen.save(folder.best)
                chosen.save_weights(folder.best_weights)
                folder.write_metrics(best, classes)
            last.save(folder.last, previous=folder.previous)
            folder.saved()

        if ranks.is_first:
            saver.start(write)

    batches = training_batches(
        TrainingSet(data.train, reader, recipe, seed=settings.seed, cache=cache),
        plan,
        rank=ranks.rank,
        first_step=progress.step,
        num_steps=num_steps,
        workers=count_workers(settings.workers, device, start_method=settings.start_method),
        start_method=settings.start_method,
        timeout=settings.timeout_minutes * 60,
        device=device,
    )
    show_every = 1 if device.type == "cpu" else 10  # reading the loss makes the host wait for the GPU
    same_ranks = len(progress.epoch_losses) == ranks.size
    mine = progress.epoch_losses[ranks.rank] if same_ranks else sum(progress.epoch_losses) / ranks.size
    epoch_loss = torch.tensor(mine, dtype=sum_dtype(device), device=device)
    skipping = settings.on_nonfinite == "skip"
    divergence = Divergence(device, ranks, skipping=skipping)
    bar: tqdm[Any] | None = None
    network: nn.Module | None = None

    # ---- the loop
    watch = Stopwatch(synchronize=settings.profile or max_steps is not None)
    profile = settings.profile and ranks.is_first
    profiling = StepProfiler(folder.path, watch, device) if profile else contextlib.nullcontext()
    grace = TORCHRUN_GRACE if under_torchrun() else 0.0
    with StopRequest(grace=grace) as stop, BackgroundSaver() as saver, profiling as profiler:
        saved_at = looked_at = time.monotonic()
        last_look, next_look = progress.step - 1, progress.step
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
                _set_trained(segmenter, unused, frozen=step < thaw_step)
                network = segmenter
                if plain is None:
                    network = data_parallel(
                        segmenter, ranks, device, example=example, compression=settings.gradient_compression
                    )
                if settings.compile:  # a wrapper: validation runs the plain model, as the evaluation tool does
                    network = cast(nn.Module, torch.compile(network))
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
            seed_step(settings.seed, step, ranks.rank)
            buffers = [buffer.clone() for buffer in segmenter.buffers()] if skipping else []
            step_loss = torch.zeros((), device=device)
            for part, batch in enumerate(micro):  # images uint8 [b, 3, H, W], masks uint8 [b, H, W]
                with gradient_exchange(network, wanted=part == len(micro) - 1):  # once, after the last part
                    with autocast(device, precision):
                        logits = network(batch.images)  # [b, C, H, W]
                    share = loss(logits, batch.masks, normalizers)
                    scaler.scale(share * ranks.size).backward()  # DDP averages
                step_loss += share.detach()

            watch.lap("forward and backward")

            # (d) update, or leave it out
            names = [name for batch in micro for name in batch.names]
            if settings.clip_norm or skipping:
                scaler.unscale_(optimizer)
            if settings.clip_norm:
                nn.utils.clip_grad_norm_(segmenter.parameters(), settings.clip_norm)
            if skipping and ranks.any([not _is_finite(step_loss, segmenter, scaler)], device)[0]:
                for buffer, before in zip(segmenter.buffers(), buffers, strict=True):
                    buffer.copy_(before)
                scaler.update()
                progress.skipped += 1
                progress.epoch_skipped += 1
                line = divergence.skip(step, lr=last_lr, names=names)
                if ranks.is_first:
                    log.warning("%s", line)
            else:
                divergence.record(step, step_loss, lr=last_lr, names=names)
                scaler.step(optimizer)
                scaler.update()
                ranks.average_buffers(segmenter)
                if average:
                    average.update(segmenter)
                epoch_loss += step_loss
            optimizer.zero_grad(set_to_none=True)
            progress.step = step + 1
            watch.lap("update")
            if profiler:
                profiler.step()

            # (e) once in a while: show the loss, and see whether anything is up on any rank
            bar.update()
            at_end = place == steps_per_epoch - 1
            enough = progress.step == max_steps
            stopping, saving = False, _is_multiple(progress.step, settings.checkpoint_every_steps)
            if step >= next_look or at_end or enough or saving:
                now = time.monotonic()
                is_time = ranks.is_first and 0 < settings.checkpoint_every_minutes <= (now - saved_at) / 60
                slow = now - looked_at > SLOW_STEP * (step - last_look)
                asked = (stop.asked or enough, saving or is_time, divergence.found(), slow)
                stopping, saving, diverged, slow = ranks.any(asked, device)
                looked_at, last_look, next_look = now, step, step + (1 if slow else show_every)
                if diverged:
                    raise divergence.explain()
                seconds = progress.epoch_seconds + time.perf_counter() - started
                speed = (place + 1) * batch_size / seconds
                bar.set_postfix(loss=f"{float(step_loss) * ranks.size:.4f}", lr=f"{last_lr:.2e}", img_s=f"{speed:.1f}")

            # (f) at the end of an epoch: validate, log
            best = None
            if at_end:
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
                    train_loss=float(ranks.sum(epoch_loss)) / max(1, steps_per_epoch - progress.epoch_skipped),
                    seconds=round(seconds, 3),
                    images_per_second=round(steps_per_epoch * batch_size / seconds, 3),
                    skipped=progress.epoch_skipped,
                    val_loss=validation.loss if validation else None,
                    miou=validation.scores.miou if validation else None,
                    pixel_accuracy=validation.scores.pixel_accuracy if validation else None,
                )
                if validation and _is_better(validation.scores, progress):
                    best = validation.scores
                    progress.best_epoch, progress.best_confusion = epoch + 1, best.counts.tolist()
                progress.epoch_seconds, progress.epoch_skipped = 0.0, 0
                epoch_loss.zero_()
                if ranks.is_first:
                    log.info("%s", describe_epoch(row, num_epochs=settings.epochs, is_best=best is not None))
                    folder.add(row)  # before the checkpoint: a row too many is dropped when a run goes on, none is lost
                    if validation:
                        folder.add_scores(validation.scores, classes, epoch + 1)
                        _log_pictures(folder, model, validation_set, config.eval.pictures, precision, epoch + 1)

            # (g) now and then: save
            if at_end or stopping or saving:
                progress.epoch_losses = ranks.gather(float(epoch_loss))
                now = time.perf_counter()
                if not at_end:
                    progress.epoch_seconds, started = progress.epoch_seconds + now - started, now
                save(best)
                saved_at = time.monotonic()
            if stopping:
                break
        ranks.first(saver.wait)  # the others stay as long: torchrun would end the first one with them
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


def _set_trained(segmenter: Segmenter, unused: set[str], *, frozen: bool) -> None:
    """Choose which parameters train. A frozen encoder stays in eval mode, so that its statistics are frozen too."""
    for name, parameter in segmenter.named_parameters():
        parameter.requires_grad_(name not in unused)
    segmenter.train()
    if frozen:
        segmenter.encoder.requires_grad_(False).eval()


# ---- along the way


def _is_finite(loss: torch.Tensor, segmenter: Segmenter, scaler: torch.amp.GradScaler) -> bool:
    """True if the loss and every gradient are finite numbers. Waits for the device.

    In fp16 the gradients are left to the scaler: it leaves steps out by itself while it looks for its scale.
    """
    if scaler.is_enabled():
        return bool(torch.isfinite(loss))
    return bool(torch.isfinite(loss)) and all_finite(p.grad for p in segmenter.parameters() if p.grad is not None)


def _is_multiple(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


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
