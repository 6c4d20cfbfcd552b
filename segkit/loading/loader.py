"""Batches for training and evaluation, loaded while the model computes.

Training's loading processes write samples straight into a ring of batches in memory that they share with the main
process: through their pipes goes only which batch is ready. Evaluation and prediction load by threads.
"""

import functools
import mmap
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import cv2
import torch

from segkit.loading.batch_plan import BatchPlan
from segkit.loading.collate import Batch, SceneBatch, collate_scenes, one_hot
from segkit.loading.evaluation_set import EvaluationSet
from segkit.loading.training_set import TrainingSet
from segkit.loading.workers import map_in_processes
from segkit.runtime.machine import count_threads
from segkit.runtime.threads import prefetch

AHEAD = 2  # batches that each worker loads ahead
Key = tuple[int, int]  # (epoch, view), see TrainingSet


def training_batches(
    dataset: TrainingSet,
    plan: BatchPlan,
    *,
    rank: int,
    first_step: int,
    num_steps: int,
    workers: int,
    timeout: float = 600,
    device: torch.device | None = None,
    onehot_classes: int | None = None,
) -> Iterator[Batch]:
    """Yield this rank's micro-batches of the steps [first_step, num_steps), across borders of epochs, on `device`.

    One stream for the whole run: the workers go on loading while an epoch is being validated. With 0 workers, batches
    are loaded when they are asked for, by as many threads as there are cores. On a CPU, a batch's memory is used again:
    it holds until a step's worth of further batches (`plan.accumulate`) has been asked for.

    Raises:
        DataError: while iterating, for a sample that can't be read, or on which a loading process died, or hung for
            more than `timeout` seconds.
    """
    assert plan.num_items == len(dataset), (plan.num_items, len(dataset))
    batches = plan.micro_batches(rank=rank, first_step=first_step, num_steps=num_steps)
    to_gpu = device is not None and device.type == "cuda"
    ring = Ring(
        num_slots=AHEAD * workers + plan.accumulate + 1,
        batch_size=plan.batch_size // (plan.accumulate * plan.num_ranks),
        canvas_hw=dataset.recipe.placement.canvas_hw,
        pinned=to_gpu,
    )
    if workers:
        stream = _load_by_processes(dataset, ring, batches, workers=workers, timeout=timeout)
    else:
        stream = _load_by_threads(dataset, ring, batches)
    copied: deque[torch.cuda.Event] = deque()
    try:
        for slot, names in stream:
            images, masks = ring.batch(slot)
            if device is not None:
                images, masks = images.to(device, non_blocking=to_gpu), masks.to(device, non_blocking=to_gpu)
            if to_gpu:
                copied.append(torch.cuda.Event())
                copied[-1].record()
            yield Batch(images, masks, names, None if onehot_classes is None else one_hot(masks, onehot_classes))
            if len(copied) > plan.accumulate:
                copied.popleft().synchronize()  # its slot is about to be written again
    finally:
        ring.unpin()


def evaluation_batches(
    dataset: EvaluationSet, *, batch_size: int, rank: int = 0, num_ranks: int = 1, workers: int
) -> Iterator[SceneBatch]:
    """Yield this rank's batches: every num_ranks-th batch of the set, so each scene comes exactly once.

    Batches are the same for any number of ranks, hence so are the sums of their confusion matrices, to the last bit.
    `workers` threads load up to two batches ahead, however large the set is.

    Raises:
        DataError: while iterating, for a scene that can't be read.
    """
    batches = [list(range(k, min(k + batch_size, len(dataset)))) for k in range(0, len(dataset), batch_size)]
    mine = batches[rank::num_ranks]
    scenes = prefetch(
        dataset.__getitem__, (index for batch in mine for index in batch), threads=workers, ahead=2 * batch_size
    )
    for batch in mine:
        yield collate_scenes([next(scenes) for _ in batch])


class Ring:
    """A fixed number of batches, used over and over, in memory that forked processes share."""

    def __init__(self, *, num_slots: int, batch_size: int, canvas_hw: tuple[int, int], pinned: bool) -> None:
        height, width = canvas_hw
        pixels = num_slots * batch_size * height * width
        # An anonymous map, not /dev/shm, which is small in containers and kills who fills it.
        memory = torch.frombuffer(mmap.mmap(-1, 4 * pixels), dtype=torch.uint8)
        self.images = memory[: 3 * pixels].view(num_slots, batch_size, height, width, 3)
        self.masks = memory[3 * pixels :].view(num_slots, batch_size, height, width)
        self.num_slots = num_slots
        self._pinned = None
        if pinned and int(torch.cuda.cudart().cudaHostRegister(memory.data_ptr(), memory.numel(), 0)) == 0:
            self._pinned = memory  # copies to the GPU don't wait; where it fails, they do

    def unpin(self) -> None:
        """Hand pinned memory back; every copy from it must be over."""
        if self._pinned is not None:
            torch.cuda.synchronize()
            torch.cuda.cudart().cudaHostUnregister(self._pinned.data_ptr())
            self._pinned = None

    def batch(self, slot: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the images uint8 [B, 3, H, W], channels_last, and masks uint8 [B, H, W] of a slot."""
        return self.images[slot].permute(0, 3, 1, 2), self.masks[slot]

    def write(self, slot: int, dataset: TrainingSet, place: int, key: Key) -> str:
        """Put a sample into its place; return its name."""
        dataset.draw(key, out=(self.images[slot, place].numpy(), self.masks[slot, place].numpy()))
        return dataset.item(key).name


def _load_by_processes(
    dataset: TrainingSet, ring: Ring, batches: Iterator[list[Key]], *, workers: int, timeout: float
) -> Iterator[tuple[int, list[str]]]:
    # Job k + AHEAD * workers is handed out when batch k is taken, so a slot's turn comes again only after that.
    jobs: Iterator[tuple[int, list[Key]]] = ((number % ring.num_slots, keys) for number, keys in enumerate(batches))

    def fill(job: tuple[int, list[Key]], at: Callable[[int], None]) -> tuple[int, list[str]]:
        slot, keys = job
        names = []
        for place, key in enumerate(keys):
            at(place)
            names.append(ring.write(slot, dataset, place, key))
        return slot, names

    return map_in_processes(
        fill,
        jobs,
        workers=workers,
        ahead=AHEAD,
        timeout=timeout,
        describe=lambda job, place: str(dataset.item(job[1][place]).image),
    )


def _load_by_threads(dataset: TrainingSet, ring: Ring, batches: Iterator[list[Key]]) -> Iterator[tuple[int, list[str]]]:
    cv2.setNumThreads(0)  # each thread works alone
    with ThreadPoolExecutor(count_threads(), thread_name_prefix="segkit") as pool:
        for number, keys in enumerate(batches):
            slot = number % ring.num_slots
            write = functools.partial(ring.write, slot, dataset)
            yield slot, list(pool.map(write, range(len(keys)), keys))
