"""Work done ahead by threads, in order, and never more than a few results at a time.

OpenCV, Pillow and torch let other threads run while they compute, so threads overlap decoding, the network and saving
without copies between processes. Not here: training's loader, which keeps many cores busy (segkit/loading/loader.py).
"""

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import cv2

T = TypeVar("T")
R = TypeVar("R")


def prefetch(function: Callable[[T], R], inputs: Iterable[T], *, threads: int, ahead: int) -> Generator[R, None, None]:
    """Yield function(x) for each x of `inputs`, in their order, computed by threads up to `ahead` results early.

    `inputs` is read by the caller's thread, one at a time, so chains of these are bounded too. With 0 threads, or
    nothing to do ahead, everything happens in the caller's thread. An exception is raised when its result is due.

    OpenCV's own threads are switched off in this process from then on: the threads here share the cores.
    """
    if threads < 1 or ahead < 1:
        yield from map(function, inputs)
        return
    cv2.setNumThreads(0)
    waiting: deque[Future[R]] = deque()
    with thread_pool(threads) as pool:
        for given in inputs:
            waiting.append(pool.submit(function, given))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


@contextlib.contextmanager
def thread_pool(threads: int) -> Iterator[ThreadPoolExecutor]:
    """Give a pool of threads, which have ended when this does; what has not begun by then is cancelled.

    Python counts a thread as ended a moment before the system does. Meanwhile OpenCV frees what it kept for the thread,
    under a lock: a process forked in that moment would inherit the lock and wait for it forever. So this waits for the
    system, where it tells (Linux).
    """
    numbers: list[int] = []
    pool = ThreadPoolExecutor(
        threads, thread_name_prefix="segkit", initializer=lambda: numbers.append(threading.get_native_id())
    )
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        deadline = time.monotonic() + 1  # microseconds are usual; another thread may have got the number since
        for task in (Path(f"/proc/self/task/{number}") for number in numbers):
            while task.exists() and time.monotonic() < deadline:
                time.sleep(1e-4)
