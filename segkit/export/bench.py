"""How fast trained models are in each runtime and precision: checkpoints and exported models, in one interleaved run.

Every model runs in a process of its own, which loads it as prediction does, so that its memory is told apart and no
runtime's threads disturb another's. Rounds go from model to model: what else the machine does hits all of them alike.
Only the network is timed, from uint8 canvases to logits in the caller's memory.
"""

import contextlib
import dataclasses
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from segkit.errors import SegkitError
from segkit.runtime.machine import peak_process_memory, usable_cores

WARM_UP = 3  # calls that don't count
BATCHES = (1, 2, 4, 8, 16, 32)
GAIN = 1.03  # a larger batch is tried as long as it raises the throughput by this factor
PATIENCE = 120.0  # seconds that a batch may take before no larger one is tried


@dataclass(frozen=True)
class Candidate:
    """A model to measure: a file, the precision that a checkpoint is computed in, and what the table calls it."""

    name: str
    path: Path
    precision: str | None = None


@dataclass(frozen=True)
class Timing:
    """What was measured of a model. Times are of calls of the network; memory is of its whole process."""

    name: str
    runtime: str
    precision: str
    latency_ms: dict[str, float]  # batch 1: p50, p90, p99
    images_per_second: float  # at the best batch
    best_batch: int
    threads: int
    peak_mib: float
    size_mib: float
    miou: float | None = None  # 0..1, on the split that was given

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return dataclasses.asdict(self)


def bench(
    candidates: Sequence[Candidate],
    *,
    rounds: int = 50,
    device: str = "auto",
    score: Sequence[str] | None = None,
    split: str | None = None,
) -> list[Timing]:
    """Measure models in turns; with `score`, overrides that say where the data is, also their mIoU on `split`.

    Raises:
        SegkitError: a model can't be loaded, or scored.
    """
    with contextlib.ExitStack() as stack:
        workers = [stack.enter_context(_worker(candidate, device)) for candidate in candidates]
        latencies: list[list[float]] = [[] for _ in workers]
        for number in range(rounds + WARM_UP):
            for worker, times in zip(workers, latencies, strict=True):
                seconds = worker.ask("time", 1)
                if number >= WARM_UP:
                    times.append(1e3 * seconds)
        found = []
        for worker, times in zip(workers, latencies, strict=True):
            batch, speed = _best_batch(worker)
            peak = worker.ask("memory", None) / 2**20
            miou = None if score is None else worker.ask("score", (list(score), split))
            found.append(
                Timing(
                    worker.candidate.name,
                    worker.about["runtime"],
                    worker.about["precision"],
                    {f"p{k}": float(np.percentile(times, k)) for k in (50, 90, 99)},
                    speed,
                    batch,
                    usable_cores(),
                    peak,
                    _size(worker.candidate.path) / 2**20,
                    miou,
                )
            )
    return found


def markdown(timings: Sequence[Timing]) -> str:
    """Return a table: a row for each model, and how many times as fast as the first one it is."""
    head = [
        "model",
        "runtime",
        "precision",
        "p50 ms",
        "p90",
        "p99",
        "speed",
        "images/s",
        "batch",
        "peak MiB",
        "file MiB",
    ]
    scored = any(timing.miou is not None for timing in timings)
    rows = []
    for each in timings:
        p50, p90, p99 = (each.latency_ms[name] for name in ("p50", "p90", "p99"))
        cells = [
            each.name, each.runtime, each.precision, f"{p50:.1f}", f"{p90:.1f}", f"{p99:.1f}",
            f"{timings[0].latency_ms['p50'] / p50:.2f}x", f"{each.images_per_second:.1f}", str(each.best_batch),
            f"{each.peak_mib:.0f}", f"{each.size_mib:.1f}",
        ]  # fmt: skip
        rows.append([*cells, *([f"{each.miou:.2%}" if each.miou is not None else "-"] if scored else [])])
    table = [[*head, *(["mIoU"] if scored else [])], *rows]
    widths = [max(len(row[k]) for row in table) for k in range(len(table[0]))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in table
    ]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]])


# ---- a process per model


@dataclass
class _Worker:
    candidate: Candidate
    connection: Connection
    about: dict[str, str]

    def ask(self, what: str, value: Any) -> Any:
        """Return the answer of the process. Raises the SegkitError that it met."""
        self.connection.send((what, value))
        return _answer(self.connection, self.candidate)


def _answer(connection: Connection, candidate: Candidate) -> Any:
    try:
        kind, value = connection.recv()
    except EOFError as error:
        raise SegkitError(f"{candidate.path}: the process that measures it died; is there memory enough?") from error
    if kind == "error":
        raise SegkitError(value)
    return value


@contextlib.contextmanager
def _worker(candidate: Candidate, device: str) -> Iterator[_Worker]:
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(theirs, candidate, device), daemon=True)
    process.start()
    theirs.close()
    try:
        yield _Worker(candidate, ours, _answer(ours, candidate))
    finally:
        ours.close()
        process.join(timeout=10)
        process.kill()


def _serve(connection: Connection, candidate: Candidate, device: str) -> None:
    """Load a model and answer questions about it, until nobody asks."""
    try:
        from segkit.inference.trained import make_ready, open_models

        models = open_models([candidate.path])
        ready = make_ready(models, device=device, precision=candidate.precision)
        connection.send(("about", {"runtime": ready.runtime, "precision": ready.precision}))
        canvas_hw = ready.backend.canvas_hw
        noise = np.random.default_rng(0).integers(0, 256, (max(BATCHES), *canvas_hw, 3), np.uint8).transpose(0, 3, 1, 2)
        while True:
            what, value = connection.recv()
            if what == "time":
                started = time.perf_counter()
                logits = ready.backend(noise[:value])
                if not isinstance(logits, np.ndarray):
                    logits.cpu()  # a GPU has answered when its answer is here
                connection.send(("seconds", time.perf_counter() - started))
            elif what == "memory":
                connection.send(("bytes", peak_process_memory()))
            else:
                connection.send(("miou", _score(candidate, *value)))
    except EOFError:
        return
    except SegkitError as error:
        connection.send(("error", str(error)))


def _score(candidate: Candidate, overrides: Sequence[str], split: str | None) -> float:
    from segkit.datasets.layouts import list_items
    from segkit.datasets.masks import build_mask_reader
    from segkit.evaluation.overrides import evaluation_config
    from segkit.evaluation.validation import Validation
    from segkit.inference.trained import make_ready, open_models, stored_rules
    from segkit.loading.evaluation_set import EvaluationSet

    models = open_models([candidate.path])
    config = evaluation_config(candidate.path, models[0], overrides)
    items = list_items(config.data, split or config.data.val, seed=config.train.seed, held_out=models[0].held_out)
    dataset = EvaluationSet(items, build_mask_reader(config.data, models[0].classes), canvas_hw=config.data.canvas)
    ready = make_ready(models, precision=candidate.precision)
    validation = Validation(dataset, config.eval.batch_size, postprocess=stored_rules(models))
    return validation.score(ready.backend).scores.miou


def _best_batch(worker: _Worker) -> tuple[int, float]:
    """Return the batch of the highest throughput, and that, in images per second."""
    best, fastest = 1, 0.0
    for batch in BATCHES:
        worker.ask("time", batch)
        seconds = statistics.median(worker.ask("time", batch) for _ in range(3))
        if batch / seconds > GAIN * fastest:
            best, fastest = batch, batch / seconds
        elif batch > 2 * best or seconds > PATIENCE:
            break
    return best, fastest


def _size(path: Path) -> int:
    """Return the bytes of a model's files."""
    beside = path.with_suffix(".bin")
    return path.stat().st_size + (beside.stat().st_size if path.suffix == ".xml" and beside.is_file() else 0)


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """Give a folder for exports that are made to be measured."""
    with tempfile.TemporaryDirectory(prefix="segkit-bench-") as folder:
        yield Path(folder)
