"""Batches by spawned processes: torch's DataLoader over the same data set and keys, for systems without fork.

The same bytes as by forked processes, but slower: each worker imports torch anew, gets a copy of the data set, and
sends batches through shared memory that is allocated for each. Not here: forked workers, which know what they were at
when they died (workers.py); here only the process is known.
"""

import multiprocessing
import signal
import traceback
import warnings
from collections.abc import Iterator, Sequence

import cv2
import torch
from torch.utils.data import DataLoader, Dataset

from segkit.errors import DataError, SegkitError
from segkit.loading.batch_plan import Key, MicroBatches
from segkit.loading.collate import Batch, Sample, collate
from segkit.loading.training_set import TrainingSet
from segkit.loading.workers import end_with_program

Problem = SegkitError | RuntimeError


def load_by_spawned(
    dataset: TrainingSet, keys: MicroBatches, *, workers: int, ahead: int, timeout: float, pinned: bool
) -> Iterator[Batch]:
    """Yield the batches of `keys`, in order, from up to `ahead` batches early in each of `workers` processes.

    Raises:
        SegkitError: the one that a worker raised, when its batch is due.
        DataError: a worker died, or no batch came for `timeout` seconds.
        RuntimeError: any other exception of a worker, with its traceback.
    """
    others = set(multiprocessing.active_children())
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "This DataLoader will create")  # as many as were asked for
        loader: DataLoader[Sample] = DataLoader(
            _Told(dataset),
            batch_sampler=keys,
            num_workers=workers,
            collate_fn=_collate_or_tell,
            multiprocessing_context="spawn",
            prefetch_factor=ahead,
            timeout=timeout,
            pin_memory=pinned,
            worker_init_fn=_set_up_worker,
            generator=torch.Generator(),  # it draws a seed, which is not to be one of the model's numbers
        )
        iterator = iter(loader)
    processes = [process for process in multiprocessing.active_children() if process not in others]
    for process in processes:
        end_with_program(process)
    try:
        while True:
            failure = None
            try:
                batch: Batch | Problem = next(iterator)
            except StopIteration:
                return
            except RuntimeError as error:  # of the DataLoader itself: what workers raise comes as a result
                failure = _describe(str(error), timeout)
            if failure:  # raised here, or it would hold the frames of the DataLoader, which then wouldn't end
                raise DataError(failure)
            if isinstance(batch, Exception):
                raise batch
            yield batch
    finally:
        del iterator  # asks the workers to end
        for process in processes:
            process.kill()  # those that hang
            process.join(10)


def _describe(message: str, timeout: float) -> str:
    if "timed out" in message:
        return (
            f"loading: no batch came from the loading processes for {timeout:.0f} s, expected less than "
            "train.timeout_minutes\ncheck the disk or network share that the images are on, and resume with --resume"
        )
    return (
        f"loading: a loading process died ({message})\nlower train.workers (0: no processes), and resume with --resume"
    )


# ---- in the process


class _Told(Dataset[Sample]):
    """A data set whose exceptions are results, so that they reach the main process as they are."""

    def __init__(self, dataset: TrainingSet) -> None:
        self.dataset = dataset

    def __getitems__(self, keys: Sequence[Key]) -> list[Sample] | Problem:
        try:
            return [self.dataset[key] for key in keys]
        except SegkitError as error:
            return error
        except Exception:
            return RuntimeError(f"in a loading process:\n{traceback.format_exc()}")


def _collate_or_tell(samples: list[Sample] | Problem) -> Batch | Problem:
    return samples if isinstance(samples, Exception) else collate(samples)


def _set_up_worker(_: int) -> None:
    # Ctrl-C, torchrun and schedulers signal every process of a run; the main one decides what to do about it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    cv2.setNumThreads(0)
