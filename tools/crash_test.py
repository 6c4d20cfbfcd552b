"""Kill training at random moments, resume it each time, and compare what it ends with to a run that was left alone.

    python tools/crash_test.py --kills 100

A small run on a drawn data set saves after every step, or every fourth, or at the end of an epoch. It is killed with
SIGKILL after a random time (in a step, in validation, while a file is written) and started again with --auto-resume,
until it is through; then the next run begins, until there were as many kills as asked for. Every checkpoint that a kill
leaves must be readable, and every finished run must equal the straight one bit for bit: weights, moving average,
optimizer, log.csv but for its times, metrics.json. Exit code 1 if one does not.
"""

import argparse
import contextlib
import csv
import hashlib
import logging
import multiprocessing
import os
import random
import sys
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("GOMP_SPINCOUNT", "3000")

import torch

from segkit.config.reading import override_config
from segkit.config.schema import RunConfig
from segkit.datasets.shapes import draw_data_set
from segkit.errors import SegkitError
from segkit.models.checkpoint import Checkpoint
from segkit.runtime.logs import quiet
from segkit.train import train
from segkit.training.resume import load_newest
from segkit.training.run_folder import RunFolder

FORK = multiprocessing.get_context("fork")  # nothing is imported again after each kill
TIMES = ("seconds", "images_per_second")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100, help="how many (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=1, help="loading processes (default: %(default)s)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="segkit-crash-") as folder:
        return crash_test(Path(folder), arguments.kills, arguments.workers, random.Random(arguments.seed))


def crash_test(folder: Path, kills: int, workers: int, moments: random.Random) -> int:
    data = folder / "data"
    in_process(draw_data_set, data, num_train=24, num_val=6, size_hw=(64, 80))
    started = time.monotonic()
    in_process(run, small_config(data, folder / "straight", workers, save_every=0))
    straight_seconds = time.monotonic() - started
    expected = in_process(outcome, folder / "straight")
    print(f"a run that is left alone takes {straight_seconds:.1f} s")

    killed = halfway = runs = 0
    problems: list[str] = []
    while killed < kills:
        config = small_config(data, folder / f"run_{runs}", workers, save_every=(1, 4, 0)[runs % 3])
        while True:
            process = FORK.Process(target=run, args=(config,))
            process.start()
            process.join(moments.uniform(0, straight_seconds / 2) if killed < kills else None)
            if process.exitcode is None:
                process.kill()
                process.join()
                killed += 1
                halfway += any(Path(config.run).glob("checkpoints/.*.part"))
                problems += in_process(unreadable, config)
            elif process.exitcode:
                problems.append(f"{config.run}: ended with {process.exitcode} when it was started again")
                break
            else:
                break
        runs += 1
        if not problems:
            found = in_process(outcome, Path(config.run))
            problems += [f"{config.run}: {name} differs" for name in expected if found[name] != expected[name]]
        print(f"{killed} kills ({halfway} while a file was written), {runs} runs, {len(problems)} problems", flush=True)
        if problems:
            break
    print(*problems, sep="\n")
    return 1 if problems else 0


def small_config(data: Path, folder: Path, workers: int, *, save_every: int) -> RunConfig:
    return override_config(
        replace(RunConfig(), run=str(folder)),
        [
            f"data.root={data}", "data.canvas=[64, 64]", "model.name=lite_unet", "model.pretrained=none",
            "model.encoder=tu-mobilenetv3_small_050", "model.options.decoder_channels=[16, 16, 16, 16, 16]",
            "model.options.dropout=0.2", "optim.lr=0.003", "train.epochs=8", "train.batch_size=4", "train.ema=0.9",
            f"train.workers={workers}", "train.device=cpu", "eval.batch_size=4",
            f"train.checkpoint_every_steps={save_every}",
        ],
        where="tools/crash_test.py",
    )  # fmt: skip


def run(config: RunConfig) -> None:
    logging.disable(logging.INFO)
    with open(os.devnull, "w") as nothing, contextlib.redirect_stderr(nothing):  # progress bars
        train(config, resume="auto")


def unreadable(config: RunConfig) -> list[str]:
    """Return what is wrong with the newest checkpoint that a killed run has left; it may have none yet."""
    folder = RunFolder(Path(config.run))
    if not folder.holds_checkpoint():
        return []
    damaged = [path for path in (folder.last, folder.best, folder.best_weights) if path.is_file() and not loads(path)]
    with quiet("segkit", level=logging.ERROR):
        load_newest(folder)
    return [f"{path}: can't be read" for path in damaged]


def loads(path: Path) -> bool:
    try:
        Checkpoint.load(path)
    except SegkitError:
        return False
    return True


def outcome(run: Path) -> dict[str, str]:
    """Return a digest of everything that a finished run must have in common with the straight one."""
    last, best = (Checkpoint.load(run / "checkpoints" / name) for name in ("last.pt", "best.pt"))
    with (run / "log.csv").open(newline="") as file:
        rows = [{key: value for key, value in row.items() if key not in TIMES} for row in csv.DictReader(file)]
    last.progress.epoch_seconds = best.progress.epoch_seconds = 0
    found = {
        "log.csv": rows,
        "metrics.json": (run / "metrics.json").read_text(),
        "last.pt": [last.weights, last.ema, last.optimizer, asdict(last.progress)],
        "best.pt": [best.weights, best.ema, asdict(best.progress)],
        "best.safetensors": Checkpoint.load(run / "checkpoints" / "best.safetensors").weights,
    }
    return {name: digest(content) for name, content in found.items()}


def digest(value: Any) -> str:
    """Return a digest of nested values, tensors by their bits."""
    if isinstance(value, torch.Tensor):
        text = (
            f"{value.dtype} {list(value.shape)} ".encode()
            + value.contiguous().flatten().view(torch.uint8).numpy().tobytes()
        )
    elif isinstance(value, dict):
        text = repr([(key, digest(inner)) for key, inner in value.items()]).encode()
    elif isinstance(value, (list, tuple)):
        text = repr([digest(inner) for inner in value]).encode()
    else:
        text = repr(value).encode()
    return hashlib.sha256(text).hexdigest()


def in_process(function: Any, *arguments: Any, **settings: Any) -> Any:
    """Call in a process of its own: this one must not use torch's threads, or its forks could not."""
    receiver, sender = FORK.Pipe(duplex=False)
    process = FORK.Process(target=lambda: sender.send(function(*arguments, **settings)))
    process.start()
    sender.close()
    result = receiver.recv()
    process.join()
    return result


if __name__ == "__main__":
    sys.exit(main())
