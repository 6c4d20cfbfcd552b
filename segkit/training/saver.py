"""Writing while training goes on: one piece at a time, in a thread."""

import threading
from collections.abc import Callable


class BackgroundSaver:
    """Runs one piece of writing at a time in a thread, while training goes on.

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
