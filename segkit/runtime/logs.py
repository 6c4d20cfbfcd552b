"""Loggers that are muted for a while."""

import contextlib
import logging
from collections.abc import Iterator


@contextlib.contextmanager
def quiet(logger: str, *, level: int) -> Iterator[None]:
    """Drop what a logger says below `level` until the block ends."""
    log = logging.getLogger(logger)
    previous = log.level
    log.setLevel(max(level, previous))
    try:
        yield
    finally:
        log.setLevel(previous)
