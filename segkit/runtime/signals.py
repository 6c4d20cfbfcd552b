"""Ctrl-C and SIGTERM: a flag for a run that wants to save first."""

import signal
import threading
import time
from types import FrameType
from typing import Any


class StopRequest:
    """Turns the first Ctrl-C or SIGTERM into a flag, so that a run can finish its step and save; the second one stops.

    What comes within `grace` seconds of the first is the same request: a scheduler signals every process of a job, and
    torchrun passes on to its processes what it got itself.
    Use as a context manager; `.asked` tells. The previous handlers are restored at the end.
    """

    def __init__(self, *, grace: float = 0.0) -> None:
        self.asked = False
        self._grace = grace
        self._asked_at = 0.0
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is not threading.main_thread():
            return self  # Python hands signals to the main thread only
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _: FrameType | None) -> None:
        now = time.monotonic()
        if self.asked and now - self._asked_at >= self._grace:
            raise KeyboardInterrupt
        if not self.asked:
            self.asked, self._asked_at = True, now
