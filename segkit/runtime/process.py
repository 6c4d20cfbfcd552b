"""This Python process: large packages imported quickly, and an end without taking them apart. No torch."""

import atexit
import contextlib
import gc
import logging
import os
import sys
from collections.abc import Callable, Iterator
from typing import NoReturn


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """Don't look for cyclic garbage while the block imports what is large; what it made is never looked at again.

    torch and timm make 400,000 objects, which stay. Python's collector would visit them 950 times on the way, a sixth
    of the import's CPU time, and all of them again whenever it collects later. Where torch is loaded already, nothing
    happens: what is garbage by then should be collected.
    """
    if "torch" in sys.modules or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        atexit.register(gc.unfreeze)  # triton reports what is left at the end, and means a leak
        gc.enable()


def exit_at_once(run: Callable[[], int]) -> NoReturn:
    """Call `run`; end this process with the code that it returns, without taking its modules apart.

    Threads and what `atexit` holds come first, as always. What is left out frees memory that the system takes back
    anyway; for torch with CUDA that costs half a second, and 110 MiB, since its libraries are read to be told.
    An exception ends the process as usual.
    """
    codes: list[int] = []
    atexit.register(lambda: _exit(codes))  # called in reverse order: what is registered from now on goes before
    codes.append(run())
    sys.exit(codes[0])


def _exit(codes: list[int]) -> None:
    if not codes:
        return
    logging.shutdown()
    try:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    except (OSError, ValueError):  # closed, or a full disk: Python's own way out reports it
        return
    os._exit(codes[0])
