"""Where a job's time goes, as its main thread sees it."""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


class Clock:
    """Seconds that the main thread spends on each stage; what is left over, it waits for the last one."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Begin at zero."""
        self.started, self.spent = time.perf_counter(), dict[str, float]()

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self.started

    def waiting(self, name: str, things: Iterable[T]) -> Iterator[T]:
        """Yield things, and count the time until each is there."""
        remaining = iter(things)
        while True:
            started = time.perf_counter()
            thing = next(remaining, None)
            self._add(name, started)
            if thing is None:
                return
            yield thing

    def call(self, name: str, function: Callable[[T], T], argument: T) -> T:
        """Call a function, and count its time."""
        started = time.perf_counter()
        result = function(argument)
        self._add(name, started)
        return result

    def describe(self) -> str:
        """Return what takes most of the time, in words."""
        total = self.elapsed
        shares = {**self.spent, "saving": total - sum(self.spent.values())}
        name, seconds = max(shares.items(), key=lambda share: share[1])
        return f"{name} takes {seconds / total:.0%} of the time"

    def _add(self, name: str, started: float) -> None:
        self.spent[name] = self.spent.get(name, 0.0) + time.perf_counter() - started
