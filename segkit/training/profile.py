"""Where the time of training goes: laps of every step, and a torch.profiler trace of a few of them."""

import os
import statistics
import time
from collections import deque
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

WARM_UP_STEPS = 3  # the first steps choose algorithms and fill memory pools
PROFILED_STEPS = 5
KEPT_STEPS = 1000


class Stopwatch:
    """Seconds of each part of a step: `start`, then `lap` after each part.

    With `synchronize`, a lap waits for the GPU, so that it holds what its part started; otherwise waiting appears
    where it happens.
    """

    def __init__(self, *, synchronize: bool = False) -> None:
        self.seconds: dict[str, deque[float]] = {}
        self.num_steps = 0
        self.synchronize = synchronize and torch.cuda.is_available()
        self._last = 0.0

    def start(self) -> None:
        self.num_steps += 1
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        """Add the time since the last lap to the part `name`."""
        if self.synchronize:
            torch.cuda.synchronize()
        now = time.perf_counter()
        self.seconds.setdefault(name, deque(maxlen=KEPT_STEPS)).append(now - self._last)
        self._last = now

    def means(self) -> dict[str, float]:
        """Return the mean seconds of each part over what is kept, the first steps left out where there are more.

        Means, not medians: with several workers, one batch of many is waited for, and the others are there already.
        """
        return {name: statistics.fmean(list(laps)[WARM_UP_STEPS:] or laps) for name, laps in self.seconds.items()}


class StepProfiler:
    """torch.profiler over a few steps after the first ones: a trace in the run folder, and five lines about it.

    A context manager; call `step` after each step. When the steps are over, or the run ends before, `summary` holds
    the lines.
    """

    def __init__(self, folder: Path, watch: Stopwatch, device: torch.device) -> None:
        self.path = folder / "profile.json.gz"
        self.summary = [f"no trace: the run was over before its step {WARM_UP_STEPS + 1}, where profiling begins"]
        self._watch = watch
        os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else it reports its own start and stop
        activities = [torch.profiler.ProfilerActivity.CPU]
        if device.type == "cuda":
            activities.append(torch.profiler.ProfilerActivity.CUDA)
        schedule = torch.profiler.schedule(wait=WARM_UP_STEPS - 1, warmup=1, active=PROFILED_STEPS, repeat=1)
        self._profiler = torch.profiler.profile(activities=activities, schedule=schedule, on_trace_ready=self._finish)

    def __enter__(self) -> "StepProfiler":
        self._profiler.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._profiler.__exit__(kind, error, trace)

    def step(self) -> None:
        self._profiler.step()

    def _finish(self, profiler: Any) -> None:
        traced = min(PROFILED_STEPS, self._watch.num_steps - WARM_UP_STEPS)
        if traced < 1:
            return  # torch finishes a trace of nothing too
        profiler.export_chrome_trace(str(self.path))
        self._watch.synchronize = False
        laps = {name: list(seconds)[-traced:] for name, seconds in self._watch.seconds.items()}
        count = len(next(iter(laps.values())))
        total = sum(sum(seconds) for seconds in laps.values())
        shares = ", ".join(f"{name} {100 * sum(seconds) / total:.0f} %" for name, seconds in laps.items())
        self.summary = [
            f"{total / count:.3f} s per step over {count} steps: {shares}",
            *_largest_operators(profiler, total),
            f"trace: {self.path} (open it at ui.perfetto.dev or chrome://tracing)",
        ]


def _largest_operators(profiler: Any, total: float) -> list[str]:
    """Name the three operators that took most, by their own time, as shares of `total` seconds."""
    averages = profiler.key_averages()
    on_gpu = any(average.self_device_time_total for average in averages)
    times = {
        average.key: (average.self_device_time_total if on_gpu else average.self_cpu_time_total) / 1e6
        for average in averages
        if not average.key.startswith("ProfilerStep")
    }
    largest = sorted(times, key=lambda name: times[name], reverse=True)[:3]
    where = "GPU time" if on_gpu else "time"
    return [f"{100 * times[name] / total:.0f} % of the {where} in {name}" for name in largest]
