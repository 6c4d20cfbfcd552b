"""Batches for training, loaded while the model computes.

Training's loading processes are forked, and write samples straight into a ring of batches in memory that they share
with the main process: through their pipes goes only which batch is ready. Where processes can't be forked, they are
spawned (spawned.py). Evaluation and prediction load by threads (evaluation_set.py, segkit/prediction).
"""

import functools
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Literal

import cv2
import torch

from segkit.errors import ConfigError
from segkit.loading.batch_plan import BatchPlan, Key, MicroBatches
from segkit.loading.collate import Batch, one_hot
from segkit.loading.ring import Ring
from segkit.loading.spawned import load_by_spawned
from segkit.loading.training_set import TrainingSet
from segkit.loading.workers import map_in_processes
from segkit.runtime.machine import count_threads
from segkit.runtime.threads import thread_pool

AHEAD = 2  # batches that each worker loads ahead


def training_batches(
    dataset: TrainingSet,
    plan: BatchPlan,
    *,
    rank: int,
    first_step: int,
    num_steps: int,
    workers: int,
    start_method: Literal["auto", "fork", "spawn"] = "auto",
    timeout: float = 600,
    device: torch.device | None = None,
    onehot_classes: int | None = None,
) -> Iterator[Batch]:
    """Return this rank's micro-batches of the steps [first_step, num_steps), across borders of epochs, on `device`.

    One stream for the whole run: the workers go on loading while an epoch is being validated. With 0 workers, batches
    are loaded when they are asked for, by as many threads as there are cores. On a CPU, a batch's memory is used again:
    it holds until a step's worth of further batches (`plan.accumulate`) has been asked for.

    `start_method` says how workers are started: forked where that exists (auto), or spawned.

    Raises:
        ConfigError: this system can't fork, or spawned processes would have to share a cache.
        DataError: while iterating, for a sample that can't be read, or on which a loading process died, or hung for
            more than `timeout` seconds.
    """
    assert plan.num_items == len(dataset), (plan.num_items, len(dataset))
    keys = plan.micro_batches(rank=rank, first_step=first_step, num_steps=num_steps)
    to_gpu = device is not None and device.type == "cuda"
    if workers and chosen_start_method(start_method) == "spawn":
        if dataset.cache is not None:
            raise ConfigError(
                "data.cache: found a cache, which spawned loading processes can't share; set data.cache: none, "
                "train.workers: 0, or (not on Windows) train.start_method: fork"
            )
        stream = load_by_spawned(dataset, keys, workers=workers, ahead=AHEAD, timeout=timeout, pinned=to_gpu)
        batches: Iterator[Batch] = (_on_device(batch, device) for batch in stream)
    else:
        batches = _by_ring(dataset, keys, workers=workers, timeout=timeout, device=device)
    if onehot_classes is None:
        return batches
    return (batch._replace(onehot=one_hot(batch.masks, onehot_classes)) for batch in batches)


def chosen_start_method(setting: Literal["auto", "fork", "spawn"]) -> Literal["fork", "spawn"]:
    """Turn `train.start_method` into how loading processes are started here: auto is fork where that exists.

    Raises:
        ConfigError: fork, on a system without it.
    """
    can_fork = hasattr(os, "fork")
    if setting == "fork" and not can_fork:
        raise ConfigError("train.start_method: found fork, which this system doesn't have; expected auto or spawn")
    return "spawn" if setting == "spawn" or not can_fork else "fork"


def _by_ring(
    dataset: TrainingSet, keys: MicroBatches, *, workers: int, timeout: float, device: torch.device | None
) -> Iterator[Batch]:
    """Yield batches that lie in a ring, on `device`."""
    plan = keys.plan
    to_gpu = device is not None and device.type == "cuda"
    ring = Ring(
        num_slots=AHEAD * workers + plan.accumulate + 1,
        batch_size=plan.batch_size // (plan.accumulate * plan.num_ranks),
        canvas_hw=dataset.recipe.canvas_hw,
        pinned=to_gpu,
    )
    if workers:
        stream = _load_by_processes(dataset, ring, keys, workers=workers, timeout=timeout)
    else:
        stream = _load_by_threads(dataset, ring, keys)
    copied: deque[torch.cuda.Event] = deque()
    try:
        for slot, names in stream:
            batch = _on_device(Batch(*ring.batch(slot), names), device)
            if to_gpu:
                copied.append(torch.cuda.Event())
                copied[-1].record()
            yield batch
            if len(copied) > plan.accumulate:
                copied.popleft().synchronize()  # its slot is about to be written again
    finally:
        ring.unpin()


def _on_device(batch: Batch, device: torch.device | None) -> Batch:
    if device is None:
        return batch
    to_gpu = device.type == "cuda"  # elsewhere a copy that doesn't wait could be read too early
    return batch._replace(
        images=batch.images.to(device, non_blocking=to_gpu), masks=batch.masks.to(device, non_blocking=to_gpu)
    )


def _load_by_processes(
    dataset: TrainingSet, ring: Ring, batches: Iterable[list[Key]], *, workers: int, timeout: float
) -> Iterator[tuple[int, list[str]]]:
    # Job k + AHEAD * workers is handed out when batch k is taken, so a slot's turn comes again only after that.
    jobs: Iterator[tuple[int, list[Key]]] = ((number % ring.num_slots, keys) for number, keys in enumerate(batches))

    def fill(job: tuple[int, list[Key]], at: Callable[[int], None]) -> tuple[int, list[str]]:
        slot, keys = job
        names = []
        for position, key in enumerate(keys):
            at(position)
            names.append(ring.write(slot, dataset, position, key))
        return slot, names

    return map_in_processes(
        fill,
        jobs,
        workers=workers,
        ahead=AHEAD,
        timeout=timeout,
        describe=lambda job, position: str(dataset.item(job[1][position]).image),
    )


def _load_by_threads(dataset: TrainingSet, ring: Ring, batches: Iterable[list[Key]]) -> Iterator[tuple[int, list[str]]]:
    cv2.setNumThreads(0)  # each thread works alone
    with thread_pool(count_threads()) as pool:
        for number, keys in enumerate(batches):
            slot = number % ring.num_slots
            write = functools.partial(ring.write, slot, dataset)
            yield slot, list(pool.map(write, range(len(keys)), keys))
