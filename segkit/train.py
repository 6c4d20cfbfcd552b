"""Train a model: one loop, top to bottom. To do something else with it, copy this file and edit it; there are no hooks.

    set up      data -> model -> loss -> optimizer -> a look at two validation batches -> the run folder
    each step   (a) once in a while: an epoch begins, the encoder thaws   (b) load   (c) forward, backward   (d) update
                (e) once in a while: show the loss, hear requests   (f) at the end of an epoch: validate, log
                (g) now and then: save

One step is one batch of `train.batch_size` images, on any number of ranks and micro-batches: losses are divided by
what the whole batch holds, so the gradient is the same however the batch is split. Every random number is a function
of seed, epoch, step, view and rank, so a run that resumes from a checkpoint is, bit for bit, the run that never broke.
The set-up is in training/setup.py, what changes from step to step in training/state.py.
"""

import contextlib
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn
from tqdm import tqdm

from segkit.classes import Classes
from segkit.config.reading import config_to_dict, flatten
from segkit.config.schema import RunConfig
from segkit.errors import ConfigError, DeviceError, first_line
from segkit.evaluation.confusion import ConfusionMatrix, Scores
from segkit.runtime.device import autocast, seed_step
from segkit.runtime.machine import under_torchrun
from segkit.runtime.ranks import Ranks, gradient_exchange, process_group
from segkit.runtime.signals import StopRequest
from segkit.training.console import describe_epoch, epoch_bar
from segkit.training.profile import StepProfiler, Stopwatch
from segkit.training.range_test import RangeTest
from segkit.training.requests import Requests
from segkit.training.run_folder import RunFolder
from segkit.training.saver import BackgroundSaver
from segkit.training.schedule import set_lr
from segkit.training.setup import set_up
from segkit.training.state import note_plateau

log = logging.getLogger(__name__)

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
    range_test: RangeTest | None = None,
) -> TrainResult:
    """Train by a config, alone or as one of the ranks that torchrun started, and write the run folder.

    With `resume`, continue from checkpoints/last.pt at the very step it was saved at; with auto, if there is one. The
    first Ctrl-C or SIGTERM finishes the step, saves and returns a result that is not `finished`; so does `max_steps`.
    `ranks` are given by a caller that has joined their group already. A `range_test` sets the rate instead of the
    schedule, hears the loss of each step, and ends the run where it has seen enough (`segkit lr-find`).

    Raises:
        SegkitError: anything that the user can fix; a new run that fails before its first checkpoint leaves no folder.
    """
    joined = process_group(config.train.device, timeout_minutes=config.train.timeout_minutes)
    with contextlib.nullcontext(ranks) if ranks else joined as ranks:
        settings = flatten(config_to_dict(config))
        folder = RunFolder(Path(config.run), report=config.report, settings=settings)
        try:
            return _train(config, folder, ranks, resume=resume, max_steps=max_steps, range_test=range_test)
        except torch.OutOfMemoryError as error:
            raise DeviceError(
                f"training: train.batch_size: {config.train.batch_size} images don't fit into the device's memory "
                f"({first_line(error)}); raise train.accumulate, or lower train.batch_size or data.canvas"
            ) from error
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise ConfigError(
                f"train.batch_size: {config.model.name} normalises over a batch (BatchNorm) and found one image per "
                "process and micro-batch, expected at least 2; raise train.batch_size or lower train.accumulate"
            ) from error
        finally:
            if ranks.is_first:
                folder.discard_if_empty()


def _train(
    config: RunConfig,
    folder: RunFolder,
    ranks: Ranks,
    *,
    resume: bool | Literal["auto"],
    max_steps: int | None,
    range_test: RangeTest | None,
) -> TrainResult:
    run = set_up(config, folder, ranks, resume=resume)
    settings, device, criterion, state = config.train, run.device, run.criterion, run.state
    segmenter, progress, divergence = state.segmenter, state.progress, state.divergence
    skipping = settings.on_nonfinite == "skip"
    batches = run.batches()
    bar: tqdm[Any] | None = None
    network: nn.Module | None = None

    watch = Stopwatch(synchronize=settings.profile or max_steps is not None)
    profile = settings.profile and ranks.is_first
    profiling = StepProfiler(folder.path, watch, device) if profile else contextlib.nullcontext()
    grace = TORCHRUN_GRACE if under_torchrun() else 0.0
    with StopRequest(grace=grace) as stop, BackgroundSaver() as saver, profiling as profiler:
        requests = Requests(
            stop, divergence, ranks, device, first_step=progress.step, max_steps=max_steps,
            save_every_steps=settings.checkpoint_every_steps, save_every_minutes=settings.checkpoint_every_minutes,
        )  # fmt: skip
        for step in range(progress.step, progress.step if run.is_stale else run.num_steps):
            epoch, position = divmod(step, run.steps_per_epoch)  # both from 0
            at_end = position == run.steps_per_epoch - 1

            # (a) once in a while: an epoch begins; what was frozen thaws
            if bar is None:
                state.start_clock()
                bar = epoch_bar(
                    epoch=epoch + 1, num_epochs=settings.epochs, first_step=position, num_steps=run.steps_per_epoch,
                    show=ranks.is_first,
                )  # fmt: skip
            if network is None or step in run.thaw_steps:
                network = run.network(step)
            lr = set_lr(state.optimizer, range_test.factor(step) if range_test else run.lr_factor(step))
            criterion = run.criterion.at(step / run.num_steps)  # the weights of its terms may be scheduled
            watch.start()

            # (b) load this rank's micro-batches, and learn what the whole batch's losses are divided by
            micro = [next(batches) for _ in range(settings.accumulate)]
            watch.lap("loading")
            seed_step(settings.seed, step, ranks.rank)
            if run.self_training:  # the moving average labels what has no label
                micro = [run.self_training.label(batch) for batch in micro]
                second = ranks.sum(run.self_training.normalizers(criterion, micro))
            normalizers = ranks.sum(torch.stack([criterion.normalizers(batch.masks) for batch in micro]).sum(dim=0))

            # (c) forward, backward: each part contributes its share of the whole batch's loss
            buffers = state.snapshot_buffers() if skipping else []
            step_loss = torch.zeros((), device=device)
            step_terms = torch.zeros(len(run.term_names), device=device)
            for part, batch in enumerate(micro):  # images uint8 [b, 3, H, W], masks uint8 [b, H, W]
                with gradient_exchange(network, wanted=part == len(micro) - 1):  # once, after the last part
                    with autocast(device, run.precision):
                        logits = network(batch.images)  # [b, C, H, W]
                    share = criterion(logits, batch.masks, normalizers)
                    if run.teacher:
                        share = run.teacher.add_to(share, logits, batch.images)
                    if run.self_training:
                        share = run.self_training.add_to(share, criterion, logits, batch, second)
                    state.scaler.scale(share.total * ranks.size).backward()  # DDP averages
                step_loss += share.total.detach()
                step_terms += share.terms
            watch.lap("forward and backward")
            if range_test and range_test.add(lr, float(step_loss) * ranks.size):
                break

            # (d) update, or leave it out
            names = [name for batch in micro for name in batch.names]
            if unscaled := settings.clip_norm > 0 or skipping:
                state.scaler.unscale_(state.optimizer)
            if settings.clip_norm:
                nn.utils.clip_grad_norm_(segmenter.parameters(), settings.clip_norm)
            if at_end and ranks.is_first and run.unsharded is None:  # shards of a gradient have no norm
                folder.add_gradients(segmenter, epoch + 1, scale=1.0 if unscaled else state.scaler.get_scale())
            if skipping and not state.all_finite(step_loss):
                state.skip_step(buffers)
                line = divergence.skip(step, lr=lr, names=names)
                if ranks.is_first:
                    log.warning("%s", line)
            else:
                divergence.record(step, step_loss, lr=lr, names=names)
                state.scaler.step(state.optimizer)
                state.scaler.update()
                ranks.average_buffers(segmenter)
                if state.average:
                    state.average.update(segmenter)
                state.epoch_loss += step_loss
                state.epoch_terms += step_terms
            state.optimizer.zero_grad(set_to_none=True)
            progress.step = step + 1
            watch.lap("update")
            if profiler:
                profiler.step()

            # (e) once in a while: hear what is asked of any rank, and show the loss
            bar.update()
            asked = requests.poll(step, at_end=at_end)
            if asked.polled:
                seconds = state.epoch_seconds()
                speed = (position + 1) * settings.fixed_batch_size / seconds
                bar.set_postfix(loss=f"{float(step_loss) * ranks.size:.4f}", lr=f"{lr:.2e}", img_s=f"{speed:.1f}")

            # (f) at the end of an epoch: validate, log
            best = None
            if at_end:
                bar.close()
                bar = None
                validation = None
                if (epoch + 1) % config.eval.every == 0 or epoch + 1 == settings.epochs:
                    model = run.model_to_validate()
                    validation = run.validation.score(model)
                terms = dict(zip(run.term_names, state.term_means(run.steps_per_epoch), strict=True))
                row = state.close_epoch(
                    epoch + 1, lr=lr, num_steps=run.steps_per_epoch, batch_size=settings.fixed_batch_size,
                    seconds=seconds, validation=validation,
                )  # fmt: skip
                best = state.note_best(validation, epoch + 1)
                if validation:
                    note_plateau(progress, validation.scores.miou, patience=config.optim.patience)
                if ranks.is_first:
                    log.info("%s", describe_epoch(row, num_epochs=settings.epochs, is_best=best is not None))
                    folder.add(row)  # before the checkpoint: a row too many is dropped when a run resumes, none is lost
                    folder.add_terms(terms, epoch + 1)
                    if validation:
                        folder.add_scores(validation.scores, run.data.classes, epoch + 1)
                        folder.add_weights(segmenter, epoch + 1)
                        for name, panel in run.validation.panels(model, config.eval.pictures):
                            folder.add_image(f"validation/{name}", panel, epoch + 1)

            # (g) now and then: save
            if at_end or asked.stop or asked.save:
                if not at_end:
                    state.stop_clock()
                run.save(saver, best)
                requests.saved()
            if asked.stop or (at_end and run.is_stale):
                break
        ranks.first(saver.wait)  # the others stay as long: torchrun would end the first one with them

    if bar is not None:
        bar.close()
    if profiler:
        log.info("profile %s", "\n        ".join(profiler.summary))
    scores = None
    if progress.best_confusion is not None:
        scores = ConfusionMatrix.from_counts(progress.best_confusion, num_images=len(run.data.val)).scores()
    finished = progress.step >= run.num_steps or run.is_stale
    if finished and ranks.is_first:
        folder.finish(scores)
    folder.close()
    return TrainResult(
        folder.path, folder.best, progress.best_epoch, scores, run.data.classes, finished, stop.asked, watch
    )
