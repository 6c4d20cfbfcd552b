"""What a run will take, measured before it: seconds per step, what they go into, memory, time and disk.

A few real steps of the real run in a folder that is thrown away: the same code, data, batches and schedule. Nothing is
extrapolated but from one step to many. Not here: what a run will score.
"""

import gc
import logging
import math
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from segkit.config.schema import RunConfig
from segkit.errors import DeviceError
from segkit.evaluation.validation import Validation
from segkit.inference.ready import ready
from segkit.inference.tta import with_tta
from segkit.loading.loader import AHEAD
from segkit.loading.prepare import PreparedData, prepare_data
from segkit.models.checkpoint import Checkpoint
from segkit.runtime.device import available_memory, count_workers, select_device, select_precision
from segkit.runtime.logs import quiet
from segkit.runtime.machine import peak_process_memory, processes_here
from segkit.train import TrainResult, train
from segkit.training.profile import WARM_UP_STEPS
from segkit.training.setup import build_plan, build_training_set, build_validation_set


@dataclass(frozen=True)
class Plan:
    """What was measured, in seconds, bytes and images. `largest_batch` only where it was asked for."""

    config: RunConfig
    device: torch.device
    num_steps: int
    load: float  # a step waits for its batch
    compute: float  # forward, backward, update
    draw: float  # one loading process (or thread) makes one sample
    validate: float  # one image
    workers: int
    peak_memory: int
    available_memory: int
    num_train: int
    num_val: int
    steps_per_epoch: int
    checkpoint_bytes: int
    largest_batch: int | None = None
    memory_share: float = 0.8

    @property
    def step(self) -> float:
        """Seconds per step."""
        return self.load + self.compute

    @property
    def epoch(self) -> float:
        """Seconds of training in an epoch, without validation."""
        return self.steps_per_epoch * self.step

    @property
    def validation(self) -> float:
        """Seconds of one validation."""
        return self.num_val * self.validate

    @property
    def run(self) -> float:
        """Seconds of the whole run."""
        return self.config.train.epochs * self.epoch + self.num_validations * self.validation

    @property
    def num_validations(self) -> int:
        """How often the run validates: every so many epochs, and after the last."""
        return -(-self.config.train.epochs // self.config.eval.every)

    @property
    def workers_needed(self) -> int:
        """How many loading processes keep up with the steps, if they have the cores."""
        return max(1, -int(-self.draw * self.batch_size // self.compute))

    @property
    def batch_size(self) -> int:
        return self.config.train.fixed_batch_size

    @property
    def loading_is_the_limit(self) -> bool:
        """True if steps wait for their batch for more than a tenth of their time."""
        return self.load > 0.1 * self.step


def make_plan(config: RunConfig, *, num_steps: int = 12, memory_share: float = 0.8) -> Plan:
    """Measure `num_steps` steps of the run of a config, with train.batch_size: auto at the largest batch that fits.

    A batch fits if training with it takes at most `memory_share` of the device's memory.

    Raises:
        SegkitError: as `train`.
    """
    if processes_here() > 1:
        raise DeviceError("plan: found several processes, expected one; start it without torchrun")
    config = replace(config, train=replace(config.train, profile=False))
    data = prepare_data(config.data, seed=config.train.seed)
    largest = None
    if config.train.batch_size == "auto":
        largest = _largest_batch(config, memory_share, num_train=len(data.train))
        config = _with_batch(config, largest)
    device = select_device(config.train.device)
    workers = count_workers(config.train.workers, device, start_method=config.train.start_method)
    num_steps = max(num_steps, WARM_UP_STEPS + 2 * AHEAD * workers)  # beyond what workers have loaded ahead at first
    steps_per_epoch = build_plan(config, data).batches_per_epoch
    if num_steps - WARM_UP_STEPS >= steps_per_epoch:  # whole epochs, since saving a checkpoint makes a step slow
        num_epochs = -(-(num_steps - WARM_UP_STEPS) // steps_per_epoch)
        num_steps = WARM_UP_STEPS + num_epochs * steps_per_epoch
    with tempfile.TemporaryDirectory(prefix="segkit-plan-") as folder:
        result, peak = _rehearse(config, Path(folder) / "run", num_steps)
        last = result.folder / "checkpoints" / "last.pt"
        checkpoint_bytes = last.stat().st_size
        validate = _seconds_per_validated_image(last, config, data, device)
    seconds = result.watch.means()
    return Plan(
        config=config,
        device=device,
        num_steps=result.watch.num_steps,
        load=seconds["loading"],
        compute=sum(value for name, value in seconds.items() if name != "loading"),
        draw=_seconds_per_sample(config, data),
        validate=validate,
        workers=workers,
        peak_memory=peak,
        available_memory=available_memory(device),
        num_train=len(data.train),
        num_val=len(data.val),
        steps_per_epoch=steps_per_epoch,
        checkpoint_bytes=checkpoint_bytes,
        largest_batch=largest,
        memory_share=memory_share,
    )


def describe_plan(plan: Plan) -> str:
    """Return what a user reads."""
    limit = f"computing: a step waits {100 * plan.load / plan.step:.0f} % of its time for its batch"
    if plan.loading_is_the_limit:
        now = f"{plan.workers} loading processes" if plan.workers else "loading between steps (train.workers: 0)"
        limit = f"loading: {100 * plan.load / plan.step:.0f} % of a step, with {now}"
        limit += f"; set train.workers={plan.workers_needed}, if that many cores are free"
        if plan.config.data.cache == "none":
            limit += ", or data.cache=ram"
    lines = [
        f"plan    {plan.num_steps} steps of {plan.batch_size} measured on {plan.device}, "
        f"canvas {plan.config.data.canvas[1]}x{plan.config.data.canvas[0]}",
        f"step    {plan.step:.3f} s, {plan.batch_size / plan.step:.1f} images/s: loading {plan.load:.3f} s, "
        f"computing {plan.compute:.3f} s",
        f"limit   {limit}",
        f"loader  {1 / plan.draw:.0f} samples/s by one process; {plan.workers_needed} would keep up with the steps",
        f"memory  {_gib(plan.peak_memory)} of {_gib(plan.available_memory)} at its peak",
        f"epoch   {plan.steps_per_epoch} steps: {_duration(plan.epoch)}; validation of {plan.num_val} images: "
        f"{_duration(plan.validation)}",
        f"run     {plan.config.train.epochs} epochs, validated {plan.num_validations} times: {_duration(plan.run)}",
        f"disk    {plan.checkpoint_bytes / 2**20:.0f} MiB for last.pt; with previous.pt, the best in both forms and "
        f"the one being written at most {4 * plan.checkpoint_bytes / 2**20:.0f} MiB",
    ]
    if plan.largest_batch is not None:
        reason = f"takes at most {100 * plan.memory_share:.0f} % of the memory"
        if plan.largest_batch + plan.config.train.accumulate > max(plan.num_train, 16):
            reason = f"{plan.num_train} training images make up"
        lines.append(
            f"batch   {plan.largest_batch} is the largest that {reason}: train.batch_size={plan.largest_batch}"
        )
    return "\n".join(lines)


# ---- measuring


def _rehearse(config: RunConfig, folder: Path, num_steps: int) -> tuple[TrainResult, int]:
    """Run the first steps into `folder`; return train's result and the peak of memory in bytes."""
    config = replace(config, run=str(folder))
    device = select_device(config.train.device)
    if device.type == "cuda":  # what earlier rehearsals reserved would count as this one's
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    with quiet("segkit", level=logging.WARNING):
        result = train(config, max_steps=num_steps)
    if result.stopped:
        raise KeyboardInterrupt
    return result, _peak_memory(device)


def _peak_memory(device: torch.device) -> int:
    """Return the most bytes in use so far: of a GPU what torch took, on a CPU the whole process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device)
    return peak_process_memory()


def _seconds_per_sample(config: RunConfig, data: PreparedData) -> float:
    """Draw samples in this thread for about a second."""
    dataset = build_training_set(config, data, cached=False)
    started, count = time.perf_counter(), 0
    while count < 4 or (time.perf_counter() - started < 1 and count < 200):
        dataset.draw((0, count % len(data.train)))
        count += 1
    return (time.perf_counter() - started) / count


def _seconds_per_validated_image(path: Path, config: RunConfig, data: PreparedData, device: torch.device) -> float:
    """Validate a few batches with what the rehearsal saved, twice; the first time is not counted."""
    precision = select_precision(config.train.precision, device)
    model = with_tta(ready(Checkpoint.load(path), device, precision=precision), config.eval.tta)
    few = replace(data, val=data.val[: 4 * config.eval.batch_size])
    validation = Validation(build_validation_set(config, few), config.eval.batch_size)
    seconds = 0.0
    for _ in range(2):
        started = time.perf_counter()
        validation.score(model)
        seconds = time.perf_counter() - started
    return seconds / len(few.val)


def _largest_batch(config: RunConfig, memory_share: float, *, num_train: int) -> int:
    """Measure memory at two small batches, extend the line through them, and try what it promises.

    Where that takes too much, the answer lies on the line from the second small batch to the one that was too large:
    memory grows at least as fast there as anywhere before, so this errs on the safe side. Nothing smaller is tried,
    since the peak of a process never comes down. A GPU that runs out of memory has no peak to draw a line to, but
    frees what it took: there the largest batch is found by halving (unproven on a GPU).
    """
    device = select_device(config.train.device)
    unit = config.train.accumulate
    available = available_memory(device)
    allowed = memory_share * available
    most = max(unit, max(num_train, 16) // unit * unit)
    small, large = min(most, 2 * unit), min(most, 6 * unit)
    peaks = [_peak_of(config, batch) for batch in (small, large)]
    if peaks[0] > allowed:
        takes = "don't fit" if math.isinf(peaks[0]) else f"take {_gib(peaks[0])}"
        raise DeviceError(
            f"train.batch_size: auto: {small} images {takes} already, expected at most "
            f"{100 * memory_share:.0f} % of {_gib(available)}; lower data.canvas, or choose a smaller model"
        )
    if math.isinf(peaks[1]):
        return _halved(config, small, large, allowed, unit)
    if peaks[1] > allowed:
        return _on_line(small, peaks[0], large, peaks[1], allowed) // unit * unit
    promised = _on_line(small, peaks[0], large, peaks[1], allowed) if peaks[1] > peaks[0] else most
    promised = min(most, promised // unit * unit)
    if promised <= large:
        return large
    peak = _peak_of(config, promised)
    if math.isinf(peak):
        return _halved(config, large, promised, allowed, unit)
    return promised if peak <= allowed else _on_line(large, peaks[1], promised, peak, allowed) // unit * unit


def _halved(config: RunConfig, fits: int, too_large: int, allowed: float, unit: int) -> int:
    """Return a batch that fits, between one that does and one that doesn't, to an eighth of its size."""
    while too_large - fits > max(unit, fits // 8):
        middle = (fits + too_large) // 2 // unit * unit
        if middle <= fits:
            break
        fits, too_large = (middle, too_large) if _peak_of(config, middle) <= allowed else (fits, middle)
    return fits


def _on_line(first: int, first_peak: float, second: int, second_peak: float, allowed: float) -> int:
    """Return the batch at which the line through two measured ones reaches `allowed` bytes."""
    return first + int((allowed - first_peak) * (second - first) / (second_peak - first_peak))


def _peak_of(config: RunConfig, batch_size: int) -> float:
    """Return the peak of memory in bytes with a batch size; infinity where the device runs out of it."""
    with tempfile.TemporaryDirectory(prefix="segkit-plan-") as folder:
        try:
            _, peak = _rehearse(_with_batch(config, batch_size), Path(folder) / "run", 2)
        except DeviceError as error:
            if not isinstance(error.__cause__, torch.OutOfMemoryError):
                raise
            return math.inf
        return peak


def _with_batch(config: RunConfig, batch_size: int) -> RunConfig:
    return replace(config, train=replace(config.train, batch_size=batch_size))


# ---- words


def _gib(num_bytes: float) -> str:
    return f"{num_bytes / 2**30:.2f} GiB"


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02d} min"
