"""Checkpoints of a run, written while it trains on: in which order, and in which thread."""

import logging
import threading
from collections.abc import Callable
from dataclasses import replace

from segkit.errors import CheckpointError
from segkit.evaluation.confusion import ConfusionMatrix, Scores
from segkit.evaluation.protocol import EvaluationProtocol
from segkit.models.checkpoint import Checkpoint
from segkit.training.run_folder import RunFolder

log = logging.getLogger(__name__)


class BackgroundSaver:
    """Runs one piece of writing at a time in a thread, while the run trains on.

    Whatever was raised in the thread is raised again by the next call. As a context manager, it waits for the writing
    at the end; but not after Ctrl-C: a write that is broken off leaves the older file whole.
    """

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._problem: BaseException | None = None

    def start(self, work: Callable[[], None]) -> None:
        """Wait for the last piece, then begin with this one."""
        self.wait()
        self._thread = threading.Thread(target=self._run, args=(work,), name="segkit-save", daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Wait for the last piece; raise what it ended with, if anything."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        problem, self._problem = self._problem, None
        if problem is not None:
            raise problem

    def _run(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            self._problem = error

    def __enter__(self) -> "BackgroundSaver":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.wait()
        elif issubclass(kind, Exception) and self._thread is not None:
            self._thread.join()  # the exception on its way says what went wrong first


def save_run(folder: RunFolder, last: Checkpoint, *, best: Scores | None, protocol: EvaluationProtocol) -> None:
    """Write last.pt and, where the scores of this epoch are the best so far, what is kept of the best one.

    `protocol` says how the run validates, for metrics.json.

    last.pt comes first: it holds the best epoch's weights as well as the note that it is the best, so `repair_best`
    can finish what a kill broke off. In any other order a kill leaves a best.pt that no checkpoint knows of.

    Raises:
        RunFolderError: no space or no permission; older files of these names are still whole.
    """
    last.save(folder.last, previous=folder.previous)
    folder.saved()
    if best:
        _save_best(folder, last, best, protocol)


def repair_best(
    folder: RunFolder, resumed: Checkpoint, *, best_step: int, protocol: EvaluationProtocol
) -> tuple[int, list[list[int]] | None]:
    """Make the files of the best epoch agree with the checkpoint that a run resumes from.

    A kill may have come between last.pt and them: then they are written from it. Or last.pt was damaged, and best.pt is
    of an epoch after the generation before it: then it is the best one so far. `best_step` is the step at the end of
    the best epoch that `resumed` notes, `protocol` how the run validates.

    Returns the best epoch and its confusion matrix, or 0 and None if its file is lost: then a new one is looked for.

    Raises:
        RunFolderError: as `save_run`.
    """
    noted, best = resumed.progress, _load_best(folder)
    if best is not None and best.progress.step > noted.step:
        source = best
    elif noted.best_epoch and best_step == noted.step:
        source = resumed
    elif noted.best_epoch and best is None:
        log.warning("warning: %s is missing or damaged; the next validated epoch counts as best", folder.best)
        return 0, None
    else:
        return noted.best_epoch, noted.best_confusion
    found = source.progress
    complete = best is not None and best.progress.step == found.step and folder.confusion() == found.best_confusion
    if not complete:
        scores = ConfusionMatrix.from_counts(found.best_confusion, num_images=protocol.num_images).scores()
        _save_best(folder, source, scores, protocol)
    return found.best_epoch, found.best_confusion


def _load_best(folder: RunFolder) -> Checkpoint | None:
    try:
        return Checkpoint.load(folder.best)
    except CheckpointError:
        return None


def _save_best(folder: RunFolder, checkpoint: Checkpoint, scores: Scores, protocol: EvaluationProtocol) -> None:
    chosen = replace(checkpoint, optimizer=None, scaler=None)
    chosen.save(folder.best)
    chosen.save_weights(folder.best_weights)
    folder.write_metrics(scores, checkpoint.classes, protocol)
