"""Everything that stands before the first step: data, model, loss, optimizer, a rehearsal, the run folder.

What `set_up` returns doesn't change while the run trains, but for its `state`. `segkit plan` and cross-validation build
data and batches by the same functions.
"""

import copy
import functools
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import nn

from segkit.config.schema import RunConfig
from segkit.datasets.masks import build_mask_reader
from segkit.evaluation.confusion import Scores
from segkit.evaluation.protocol import EvaluationProtocol
from segkit.evaluation.validation import Validation
from segkit.inference.backend import Backend
from segkit.inference.folding import for_inference
from segkit.inference.torch_backend import TorchBackend
from segkit.inference.tta import with_tta
from segkit.loading.augment.pipeline import build_augment
from segkit.loading.batch_plan import BatchPlan, shard_sizes
from segkit.loading.cache import build_cache
from segkit.loading.collate import Batch
from segkit.loading.evaluation_set import EvaluationSet
from segkit.loading.loader import training_batches
from segkit.loading.prepare import PreparedData, prepare_data
from segkit.loading.sampler import expected_views
from segkit.loading.training_set import TrainingSet
from segkit.losses.class_weights import class_weights
from segkit.losses.table import Criterion, build_criterion, build_loss
from segkit.models.checkpoint import Checkpoint, Progress, restore
from segkit.models.segmenter import Segmenter
from segkit.models.table import MODELS, build_model
from segkit.report.trackers import check_trackers
from segkit.runtime.device import (
    choose_kernels,
    count_workers,
    describe_environment,
    precision_name,
    select_device,
    select_precision,
    sum_dtype,
)
from segkit.runtime.machine import keep_freed_memory
from segkit.runtime.ranks import Ranks, data_parallel, synchronize_batch_norm, unused_parameters
from segkit.runtime.sharding import fit_state, gathered, shard, whole
from segkit.training.console import describe_data, describe_run
from segkit.training.distillation import Teacher, build_teacher, check_distillable
from segkit.training.divergence import Divergence
from segkit.training.ema import MovingAverage
from segkit.training.freezing import check_freeze, frozen_at, set_trained
from segkit.training.optim import build_optimizer
from segkit.training.resume import check_continues, check_same_run, load_newest
from segkit.training.run_folder import RunFolder
from segkit.training.saver import BackgroundSaver, repair_best, save_run
from segkit.training.schedule import lr_factor, scale_lr, thaw_steps
from segkit.training.self_training import SelfTraining
from segkit.training.state import TrainState

log = logging.getLogger(__name__)


def build_plan(config: RunConfig, data: PreparedData, *, num_ranks: int = 1) -> BatchPlan:
    """Return which samples make up which batch of a run.

    Raises:
        ConfigError: the batch size doesn't fit the data set, the ranks or train.accumulate.
    """
    settings = config.train
    views = expected_views(config.data, data.survey.presence)
    views += (1.0,) * (len(data.train) - len(views))  # images without masks
    return BatchPlan(
        len(data.train), settings.fixed_batch_size, settings.seed, settings.accumulate, num_ranks,
        shard_sizes(data.train), views,
    )  # fmt: skip


def build_training_set(config: RunConfig, data: PreparedData, *, cached: bool) -> TrainingSet:
    """Return the training images of a run, augmented; with `cached` also kept decoded, as data.cache says."""
    recipe = build_augment(
        config.augment, canvas_hw=config.data.canvas, ignore_index=data.classes.ignore_index,
        class_pixels=data.survey.class_pixels, labelled_crops=config.data.unlabeled == "ignore",
    )  # fmt: skip
    cache = build_cache(config.data, data.train, recipe) if cached else None
    reader = build_mask_reader(config.data, data.classes)
    return TrainingSet(data.train, reader, recipe, seed=config.train.seed, cache=cache)


def build_validation_set(config: RunConfig, data: PreparedData) -> EvaluationSet:
    """Return the validation images of a run, letterboxed."""
    return EvaluationSet(data.val, build_mask_reader(config.data, data.classes), canvas_hw=config.data.canvas)


@dataclass
class Run:
    """A run that is ready to train. `unsharded` is a full copy of the model, for validation under FSDP2."""

    config: RunConfig
    folder: RunFolder
    ranks: Ranks
    device: torch.device
    precision: torch.dtype
    data: PreparedData
    plan: BatchPlan
    training_set: TrainingSet
    validation: Validation
    criterion: Criterion  # what is minimised; validation reports the configured loss
    lr: float
    state: TrainState
    example: torch.Tensor  # one canvas, to try the network with
    unused: set[str]  # parameters that no output depends on
    unsharded: Segmenter | None
    teacher: Teacher | None
    self_training: SelfTraining | None

    @property
    def term_names(self) -> tuple[str, ...]:
        """The name of each term of the loss."""
        return (*self.criterion.names, *_added_terms(self.teacher, self.self_training))

    @property
    def steps_per_epoch(self) -> int:
        return self.plan.batches_per_epoch

    @property
    def num_steps(self) -> int:
        return self.config.train.epochs * self.steps_per_epoch

    @functools.cached_property
    def thaw_steps(self) -> Sequence[int]:
        """The steps at which frozen parameters begin to train."""
        return thaw_steps(self.config.train, steps_per_epoch=self.steps_per_epoch)

    @property
    def is_stale(self) -> bool:
        """True if train.patience has run out: too many validations without a better mIoU, up to the present step."""
        since = self.state.progress.step // self.steps_per_epoch - self.state.progress.best_epoch
        patience = self.config.train.patience
        return patience > 0 and since >= patience * self.config.eval.every

    def lr_factor(self, step: int) -> float:
        """Return what every learning rate is multiplied by at a step (from 0)."""
        return lr_factor(
            self.config.optim, step=step, num_steps=self.num_steps, steps_per_epoch=self.steps_per_epoch,
            drops=self.state.progress.plateau_drops, thaw_steps=self.thaw_steps,
        )  # fmt: skip

    @property
    def protocol(self) -> EvaluationProtocol:
        """How the run validates."""
        config = self.config
        return EvaluationProtocol(
            config.data.val, len(self.data.val), config.data.canvas, precision_name(self.precision), config.eval.tta
        )

    def batches(self) -> Iterator[Batch]:
        """Return this rank's micro-batches of all steps that are left, on the device."""
        settings = self.config.train
        return training_batches(
            self.training_set,
            self.plan,
            rank=self.ranks.rank,
            first_step=self.state.progress.step,
            num_steps=self.num_steps,
            workers=count_workers(settings.workers, self.device, start_method=settings.start_method),
            start_method=settings.start_method,
            timeout=settings.timeout_minutes * 60,
            device=self.device,
        )

    def network(self, step: int) -> nn.Module:
        """Return the segmenter as it trains from a step on: partly frozen, gradients exchanged, compiled if wanted."""
        settings = self.config.train
        frozen = frozen_at(step, settings, self.state.segmenter, steps_per_epoch=self.steps_per_epoch)
        network: nn.Module = set_trained(self.state.segmenter, self.unused, frozen=frozen)
        if self.unsharded is None:
            network = data_parallel(
                self.state.segmenter, self.ranks, self.device, example=self.example,
                compression=settings.gradient_compression,
            )  # fmt: skip
        if settings.compile:  # a wrapper: validation runs the plain model, as the evaluation tool does
            network = cast(nn.Module, torch.compile(network))
        return network

    def model_to_validate(self) -> Backend:
        """Return the model as it would be saved, the moving average where there is one, as evaluation sees it."""
        average = self.state.average
        trained = average.model if average else self.state.segmenter
        if self.unsharded is not None:
            trained = gathered(trained, self.unsharded).to(self.device)
        canvas_hw = self.config.data.canvas
        model = for_inference(trained, canvas_hw=canvas_hw, precision=self.precision)
        backend = TorchBackend(model, self.data.classes, canvas_hw, self.precision)
        return with_tta(backend, self.config.eval.tta)

    def checkpoint(self) -> Checkpoint:
        """Return the state of the run in host memory. Every rank of a sharded model must call this."""
        state, first = self.state, self.ranks.is_first
        return Checkpoint(
            weights=whole(state.segmenter.state_dict(), keep=first),
            config=self.config,
            classes=self.data.classes,
            progress=state.progress,
            held_out=self.data.held_out,
            data_id=self.data.id,
            ema=whole(state.average.model.state_dict(), keep=first) if state.average else None,
            ema_updates=state.average.updates if state.average else 0,
            optimizer=whole(state.optimizer.state_dict(), keep=first),
            scaler=state.scaler.state_dict(),
            zoom=self.data.survey.median_fit(self.config.data.canvas),
            pretrained=state.segmenter.origin,
        ).on_host()

    def save(self, saver: BackgroundSaver, best: Scores | None) -> None:
        """Begin to write a checkpoint, and what is kept of the best epoch where its scores are given.

        Raises:
            TrainingDiverged: a weight is non-finite.
        """
        state = self.state
        state.progress.epoch_losses = self.ranks.gather(float(state.epoch_loss))
        state.progress.epoch_terms = self.ranks.gather(state.epoch_terms.tolist())
        state.divergence.check_weights(state.segmenter, state.progress.step)
        if not self.ranks.is_first and self.unsharded is None:
            return  # a sharded model is collected from all ranks
        last = self.checkpoint()
        if self.ranks.is_first:
            saver.start(lambda: save_run(self.folder, last, best=best, protocol=self.protocol))


def set_up(config: RunConfig, folder: RunFolder, ranks: Ranks, *, resume: bool | Literal["auto"]) -> Run:
    """Build a run, or rebuild it from its newest checkpoint, and open its folder.

    Raises:
        SegkitError: anything that the user can fix, before the folder is touched.
    """
    check_trackers(config.report.trackers)
    # ---- the run, its data
    settings = config.train
    device = select_device(settings.device, local_rank=ranks.local_rank)
    precision = select_precision(settings.precision, device)
    keep_freed_memory()
    choose_kernels(device, deterministic=settings.deterministic)
    ranks.first(folder.lock)
    old = _load_old(config, folder, ranks, resume=resume)
    data: PreparedData = ranks.first(
        lambda: prepare_data(config.data, seed=settings.seed, held_out=old.held_out if old else None)
    )
    if old:
        ranks.first(functools.partial(check_continues, old, data, folder, root=config.data.root))
    plan = build_plan(config, data, num_ranks=ranks.size)
    training_set = build_training_set(config, data, cached=True)
    validation_set = build_validation_set(config, data)

    # ---- model, loss, optimizer
    torch.manual_seed(settings.seed)
    segmenter = build_model(config.model, len(data.classes), pretrained=old is None, classes=data.classes.names)
    check_freeze(settings, segmenter)
    segmenter.to_device(device, channels_last=settings.channels_last)
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
        config.loss, num_classes=len(data.classes), ignore_index=data.classes.ignore_index, class_weights=weights,
        device=device, compiled=settings.compile,
    )  # fmt: skip
    criterion = build_criterion(loss, MODELS[config.model.name].criterion)
    check_distillable(config, has_logits=criterion is loss)
    teacher = build_teacher(
        config, data.classes.names, device=device, precision=precision, canvas_hw=training_set.recipe.canvas_hw
    )
    average = MovingAverage(segmenter, decay=settings.ema) if settings.ema else None
    if old:
        restore(segmenter, old.weights, model=config.model)
        segmenter.origin = old.pretrained
        if average and old.ema:
            restore(average.model, old.ema, model=config.model)
            average.updates = old.ema_updates
    self_training = None
    if config.semi.weight and average:
        self_training = SelfTraining(config.semi, average, data.classes.ignore_index, precision)
    example = torch.zeros(1, 3, *training_set.recipe.canvas_hw, device=device)
    unused = unused_parameters(segmenter, example) if ranks.size > 1 else set()
    unsharded = None
    if settings.sharding == "fsdp2" and ranks.size > 1:
        unsharded = copy.deepcopy(segmenter).cpu()
        for model in (segmenter, average.model) if average else (segmenter,):
            shard(model, ranks, device, example=example)
    lr = scale_lr(config.optim, settings.fixed_batch_size)
    optimizer = build_optimizer(config.optim, segmenter, encoder=segmenter.encoder, lr=lr)
    scaler = torch.amp.GradScaler(device.type, enabled=precision == torch.float16)
    progress = old.progress if old else Progress()
    if old:
        optimizer.load_state_dict(fit_state(old.optimizer or {}, optimizer))
        scaler.load_state_dict(old.scaler or {})
    same_ranks = len(progress.epoch_losses) == ranks.size
    mine = progress.epoch_losses[ranks.rank] if same_ranks else sum(progress.epoch_losses) / ranks.size
    # also where a checkpoint has them of other ranks, or from before they were kept
    terms = [0.0] * (len(criterion.names) + len(_added_terms(teacher, self_training)))
    if len(progress.epoch_terms) == ranks.size:
        terms = progress.epoch_terms[ranks.rank]
    dtype = sum_dtype(device)
    state = TrainState(
        segmenter, average, optimizer, scaler, progress, torch.tensor(mine, dtype=dtype, device=device),
        torch.tensor(terms, dtype=dtype, device=device),
        Divergence(device, ranks, skipping=settings.on_nonfinite == "skip"), ranks,
    )  # fmt: skip
    validation = Validation(validation_set, config.eval.batch_size, ranks, loss)
    run = Run(
        config, folder, ranks, device, precision, data, plan, training_set, validation, criterion, lr, state, example,
        unused, unsharded, teacher, self_training,
    )  # fmt: skip

    # ---- what would fail after an hour fails here; only then is the folder touched
    validation.rehearse(run.model_to_validate(), largest=device.type != "cpu")
    progress.best_epoch, progress.best_confusion = ranks.first(lambda: _open_folder(run, old))
    if ranks.is_first:
        _describe(run, weights, resumed=old is not None)
    return run


def _added_terms(teacher: Teacher | None, self_training: SelfTraining | None) -> tuple[str, ...]:
    """Return the names of the terms that are added to those of the criterion, in their order."""
    return (*(("distillation",) if teacher else ()), *(("self_training",) if self_training else ()))


def _load_old(
    config: RunConfig, folder: RunFolder, ranks: Ranks, *, resume: bool | Literal["auto"]
) -> Checkpoint | None:
    """Return the checkpoint that the run resumes from, on every rank; None where it starts."""
    if resume == "auto":
        resume = ranks.first(folder.holds_checkpoint)
    if not resume:
        ranks.first(folder.check_new)
        return None
    ranks.first(folder.check_resumable)
    old = ranks.first(lambda: load_newest(folder))
    ranks.first(functools.partial(check_same_run, old.config, config, folder))
    return old


def _open_folder(run: Run, old: Checkpoint | None) -> tuple[int, list[list[int]] | None]:
    """Make the folder, or open it again; return the best epoch so far, and its confusion matrix."""
    folder, config, data = run.folder, run.config, run.data
    if old:
        step = old.progress.step
        folder.reopen(step, step // run.steps_per_epoch + 1)
        best_step = old.progress.best_epoch * run.steps_per_epoch
        return repair_best(folder, old, best_step=best_step, protocol=run.protocol)
    num_bytes = sum(tensor.nbytes for tensor in run.state.segmenter.state_dict().values())
    folder.check_space(needed=num_bytes * 15)  # last, previous, best, and one of them being written
    held_out = {config.data.val: data.held_out} if data.held_out else {}
    folder.create(config, describe_environment(run.device), splits=held_out, files=data.files)
    return 0, None


def _describe(run: Run, weights: list[float] | None, *, resumed: bool) -> None:
    """Log what is trained, on what, and where it resumes."""
    config, data, step = run.config, run.data, run.state.progress.step
    assert run.plan.views is not None  # as build_plan makes it
    log.info("run     %s", config.run)
    about_data = describe_data(
        config.data.root, data.classes, data.survey, num_val=len(data.val), class_weights=weights,
        views=run.plan.views,
    )  # fmt: skip
    log.info("%s", about_data)
    about_run = describe_run(
        config, num_parameters=sum(parameter.numel() for parameter in run.state.segmenter.parameters()),
        device=run.device, precision=run.precision, num_ranks=run.ranks.size, num_train=len(data.train),
        steps_per_epoch=run.steps_per_epoch, lr=run.lr,
    )  # fmt: skip
    log.info("%s", about_run)
    if (origin := run.state.segmenter.origin) is not None:
        log.info("weights from %s", origin)
        if origin.is_non_commercial:
            log.warning("warning: the licence of these weights, %s, excludes commercial use", origin.licence)
    if step >= run.num_steps:
        log.info("resume  nothing left to do: step %d of %d; raise train.epochs to train on", step, run.num_steps)
    elif resumed:
        log.info("resume  at epoch %d, after step %d of %d", step // run.steps_per_epoch + 1, step, run.num_steps)
