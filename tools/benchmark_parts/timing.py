"""How variants of one thing are timed: in rotation, so that noise disturbs them alike."""

import importlib.util
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch


@dataclass(frozen=True)
class Variant:
    """One way to do a thing: `run` does it `per` times and is timed; `prepare` goes before and is not."""

    run: Callable[[], Any]
    per: int = 1
    clock: Callable[[], float] = time.perf_counter
    prepare: Callable[[], Any] = lambda: None


@dataclass(frozen=True)
class Comparison:
    """Variants of one thing, the usual one first, and remarks that stand below their table."""

    title: str
    variants: dict[str, Variant]
    remarks: Sequence[str] = ()
    rounds: int = 15


def interleave(variants: dict[str, Variant], *, rounds: int, device: torch.device) -> dict[str, list[float]]:
    """Time every variant once per round, in rotation: {name: seconds per unit}. One round before does not count."""
    times: dict[str, list[float]] = {name: [] for name in variants}
    names = list(variants)
    for number in range(rounds + 1):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            variant = variants[name]
            variant.prepare()
            started = variant.clock()
            variant.run()
            if device.type == "cuda":
                torch.cuda.synchronize()
            if number:
                times[name].append((variant.clock() - started) / variant.per)
    return times


def table(times: dict[str, list[float]]) -> str:
    """Return medians in milliseconds with min..max, and how many times faster than the first row each is."""
    first = statistics.median(next(iter(times.values())))
    width = max(len(name) for name in times)
    lines = []
    for name, values in times.items():
        middle, least, most = (1e3 * figure for figure in (statistics.median(values), min(values), max(values)))
        lines.append(f"  {name:<{width}}  {middle:9.3f} ms  [{least:.3f}..{most:.3f}]  {1e3 * first / middle:6.2f}x")
    return "\n".join(lines)


def has(*packages: str) -> bool:
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    if missing:
        print(f"{', '.join(missing)}: not installed, left out (uv run --group benchmark ...)")
    return not missing


def peak_memory(run: Callable[[], Any]) -> int:
    """Return the most bytes of tensors alive at a time that `run` makes, its result included."""
    with torch.profiler.profile(profile_memory=True, activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        run()
    assert profiler.profiler is not None
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    sizes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    return int(np.cumsum(sizes).max())
