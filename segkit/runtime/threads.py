"""Work done ahead by threads, in order, and never more than a few results at a time.

OpenCV, Pillow and torch let other threads run while they compute, so threads overlap decoding, the network and saving
without copies between processes. Not here: training's loader, which keeps many cores busy (segkit/loading/loader.py).
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import cv2

T = TypeVar("T")
R = TypeVar("R")


def prefetch(function: Callable[[T], R], inputs: Iterable[T], *, threads: int, ahead: int) -> Generator[R, None, None]:
    """Yield function(x) for each x of `inputs`, in their order, computed by threads up to `ahead` results early.

    `inputs` is read by the caller's thread, one at a time, so chains of these are bounded too. With 0 threads, or
    nothing to do ahead, everything happens in the caller's thread. An exception is raised in its turn.

    OpenCV's own threads are switched off in this process from then on: the threads here share the cores.
    """
    if threads < 1 or ahead < 1:
        yield from map(function, inputs)
        return
    cv2.setNumThreads(0)
    pool = ThreadPoolExecutor(threads, thread_name_prefix="segkit")
    waiting: deque[Future[R]] = deque()
    try:
        for given in inputs:
            waiting.append(pool.submit(function, given))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
