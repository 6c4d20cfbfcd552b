"""Processes that work through jobs, and what a user is told when one of them dies or hangs.

They are forked, so jobs find the data set and the shared memory in place. Each has a pipe of its own and shares no
lock with the others: whatever becomes of one, the main process learns of it and the others can be ended.
Not here: what a job is (loader.py), and processes that can't be forked (spawned.py).
"""

import atexit
import contextlib
import faulthandler
import mmap
import multiprocessing
import os
import signal
import tempfile
import time
import traceback
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar, cast

import cv2
import numpy as np
import torch

from segkit.errors import DataError, SegkitError

Job = TypeVar("Job")
Result = TypeVar("Result")
Function = Callable[[Job, Callable[[int], None]], Result]

_POLL_SECONDS = 1.0


def map_in_processes(
    function: Function[Job, Result],
    jobs: Iterable[Job],
    *,
    workers: int,
    ahead: int,
    timeout: float,
    describe: Callable[[Job, int], str],
) -> Iterator[Result]:
    """Yield function(job, at) for each job, in order, from up to `ahead` jobs early in each of `workers` processes.

    `function` calls at(k) when it begins with part k of a job, so that `describe(job, k)` can name what a process was
    at. Job k + ahead * workers is handed out when result k is asked for. The processes end with the generator.

    Raises:
        SegkitError: the one that `function` raised, when its result is due.
        DataError: a process died, or has been at one part for more than `timeout` seconds; names the part, and shows
            where in the code it was.
        RuntimeError: any other exception of `function`, with its traceback.
    """
    beacons = np.frombuffer(mmap.mmap(-1, workers * 16), np.float64).reshape(workers, 2)  # (part, since when)
    crew: list[_Worker] = []
    pending: deque[tuple[_Worker, Job]] = deque()
    try:
        for beacon in beacons:
            crew.append(_Worker(function, beacon, inherited=[worker.connection for worker in crew]))
        for number, job in enumerate(jobs):
            worker = crew[number % workers]
            with contextlib.suppress(OSError):  # a dead one: its oldest job will tell, when that is due
                worker.connection.send(job)
            pending.append((worker, job))
            if len(pending) > ahead * workers:
                worker, job = pending.popleft()
                yield worker.answer(job, timeout, describe)
        for worker, job in pending:
            yield worker.answer(job, timeout, describe)
    finally:
        for worker in crew:
            worker.end()


class _Worker:
    """One process, seen from the main process."""

    def __init__(self, function: Function[Any, Any], beacon: np.ndarray, *, inherited: list[Connection]) -> None:
        context = multiprocessing.get_context("fork")
        self.connection, theirs = context.Pipe()
        self.beacon = beacon
        self.trace = tempfile.TemporaryFile()  # noqa: SIM115 (Python's fault handler writes here in a crash)
        self.process = context.Process(
            target=_work, args=(function, theirs, beacon, self.trace, [*inherited, self.connection]), daemon=True
        )
        self.process.start()
        theirs.close()
        end_with_program(self.process)

    def answer(self, job: Any, timeout: float, describe: Callable[[Any, int], str]) -> Any:
        """Return what the process made of its oldest job; see `map_in_processes`."""
        waiting_since = time.monotonic()
        while True:
            ready = wait([self.connection, self.process.sentinel], _POLL_SECONDS)
            if self.connection in ready:
                try:
                    problem, result = self.connection.recv()
                except (EOFError, OSError):
                    ready = [self.process.sentinel]
                else:
                    if problem is not None:
                        raise problem
                    return result
            part, since = self.beacon.tolist()
            if self.process.sentinel in ready:
                self.process.join(10)
                end = _how_it_ended(self.process.exitcode)
                raise DataError(
                    f"{describe(job, int(part))}: the process that was loading it {end}{self._whereabouts()}\n"
                    "lower train.workers (0: no processes), and resume with --resume"
                )
            if time.monotonic() - max(since, waiting_since) > timeout:
                # its fault handler writes where it is; one that waits for a dead disk can't even do that
                os.kill(cast(int, self.process.pid), signal.SIGABRT)
                self.process.join(10)
                raise DataError(
                    f"{describe(job, int(part))}: the process that was loading it has been at it for {timeout:.0f} s, "
                    f"expected less than train.timeout_minutes{self._whereabouts()}\n"
                    "check the disk or network share that the file is on, and resume with --resume"
                )

    def end(self) -> None:
        """Stop the process, whatever it is doing: nothing that it writes is kept for later."""
        self.process.kill()
        self.process.join(10)
        self.connection.close()
        self.trace.close()

    def _whereabouts(self) -> str:
        self.trace.seek(0)
        lines = self.trace.read().decode(errors="replace").strip()
        return f"; it was here:\n{lines}" if lines else ""


def _how_it_ended(exit_code: int | None) -> str:
    if exit_code is None:
        return "stopped answering"
    if exit_code >= 0:
        return f"ended with exit code {exit_code}"
    name = signal.Signals(-exit_code).name
    why = ", often the kernel's for lack of memory" if name == "SIGKILL" else ""
    return f"was ended by {name}{why}"


# ---- in the process


def _work(
    function: Function[Any, Any], connection: Connection, beacon: np.ndarray, trace: Any, inherited: list[Connection]
) -> None:
    for other in inherited:  # else a killed main process would leave its end of the pipe open in the workers
        other.close()
    # Ctrl-C, torchrun and schedulers signal every process of a run; the main one decides what to do about it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    faulthandler.enable(trace)
    cv2.setNumThreads(0)  # not 1, which can deadlock in a forked process once the parent has used OpenCV's threads
    torch.set_num_threads(1)

    def at(part: int) -> None:
        beacon[:] = part, time.monotonic()

    while True:
        try:
            job = connection.recv()
        except (EOFError, OSError):  # the main process is gone
            return
        message: tuple[Exception | None, Any]
        try:
            message = None, function(job, at)
        except SegkitError as error:
            message = error, None
        except Exception:
            message = RuntimeError(f"in a loading process:\n{traceback.format_exc()}"), None
        try:
            connection.send(message)
        except OSError:
            return


_running: weakref.WeakSet[multiprocessing.process.BaseProcess] = weakref.WeakSet()


def end_with_program(process: multiprocessing.process.BaseProcess) -> None:
    """Have a process killed when the program ends, if it is still running then."""
    _running.add(process)


@atexit.register
def _end_all() -> None:
    """End processes that are left when the program ends, as after an error whose traceback still holds a generator.

    multiprocessing would send them SIGTERM, which they ignore, and wait for them for ever. Registered after its own
    handler, so this one runs before.
    """
    for process in list(_running):
        process.kill()
