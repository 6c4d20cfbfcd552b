"""Train recipes for an equal budget of CPU time each, score them on val and test, and print a table.

python tools/recipes.py configs/recipes/*.yaml --budget 10 [--seeds 1] [--output runs/recipes]

First some steps of each are timed, in rounds that alternate; then each trains for as many whole epochs as its budget
pays for, one after the other, in processes of their own. What was trained before is not trained again. CPU time is user
and system time of all threads, as the system counts it: on a shared machine it drifts, the number of epochs is what
compares.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from segkit.config.reading import load_config
from segkit.loading.prepare import prepare_data
from segkit.training.setup import build_plan

STEPS, ROUNDS = 6, 3
MEASURE = """
import resource, sys, tempfile
from pathlib import Path
from segkit.config.reading import load_config
from segkit.train import train

config = load_config(Path(sys.argv[1]), [f"run={tempfile.mkdtemp()}/run", "report.trackers=[]", "eval.every=1000"])
marks = []
for steps in (2, 2 + int(sys.argv[2])):  # the first two warm up
    train(config, resume="auto", max_steps=steps)
    used = resource.getrusage(resource.RUSAGE_SELF)
    marks.append(used.ru_utime + used.ru_stime)
print((marks[1] - marks[0]) / int(sys.argv[2]))
"""


def main(words: Sequence[str] | None = None) -> None:
    """Time, train, score, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("configs", nargs="+", type=Path)
    parser.add_argument("--budget", type=float, required=True, help="CPU minutes of training for each")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--epochs", type=int, help="train so many, whatever they cost")
    parser.add_argument("--output", type=Path, default=Path("runs/recipes"))
    arguments = parser.parse_args(words)
    arguments.output.mkdir(parents=True, exist_ok=True)
    noted = arguments.output / "epochs.json"
    epochs: dict[str, int] = json.loads(noted.read_text()) if noted.is_file() else {}
    missing = [path for path in arguments.configs if path.stem not in epochs]
    if arguments.epochs:
        epochs |= {path.stem: arguments.epochs for path in missing}
    elif missing:
        epochs |= _affordable(missing, 60 * arguments.budget)
    noted.write_text(json.dumps(epochs, indent=1))
    print("| recipe | seed | epochs | CPU minutes | mIoU val | mIoU test |\n|---|---|---|---|---|---|", flush=True)
    for seed in range(arguments.seeds):
        for path in arguments.configs:
            print(_row(path, seed, epochs[path.stem], arguments.output / f"{path.stem}-{seed}"), flush=True)


def _affordable(paths: Sequence[Path], budget: float) -> dict[str, int]:
    """Return how many whole epochs each config trains in so many CPU seconds, at least one."""
    costs: dict[Path, list[float]] = {path: [] for path in paths}
    for _ in range(ROUNDS):
        for path in paths:
            found = subprocess.run(
                [sys.executable, "-c", MEASURE, str(path), str(STEPS)], check=True, capture_output=True, text=True
            )
            costs[path].append(float(found.stdout.splitlines()[-1]))
    epochs = {}
    for path, seconds in costs.items():
        config = load_config(path)
        steps = build_plan(config, prepare_data(config.data, seed=0)).batches_per_epoch
        epochs[path.stem] = max(1, int(budget / (steps * statistics.median(seconds))))
        print(
            f"{path.stem}: {statistics.median(seconds):.2f} CPU seconds per step, {epochs[path.stem]} epochs",
            flush=True,
        )
    return epochs


def _row(path: Path, seed: int, epochs: int, run: Path) -> str:
    noted = run / "recipe.json"
    if not noted.is_file():
        words = [f"run={run}", f"train.seed={seed}", f"train.epochs={epochs}", f"eval.every={epochs}"]
        before = _children()
        subprocess.run(
            [sys.executable, "tools/train.py", str(path), *words, "--no-report", "--auto-resume"],
            check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        minutes = (_children() - before) / 60
        scores = {split: _score(run / "checkpoints" / "best.pt", split) for split in ("val", "test")}
        noted.write_text(json.dumps({"minutes": minutes, **scores}))
    found = json.loads(noted.read_text())
    return (
        f"| {path.stem} | {seed} | {epochs} | {found['minutes']:.1f} | {100 * found['val']:.2f} % | "
        f"{100 * found['test']:.2f} % |"
    )


def _score(checkpoint: Path, split: str) -> float:
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [sys.executable, "tools/eval_miou.py", str(checkpoint), "--split", split, "--output", folder,
             "--no-report", "--figures", "none", "train.precision=fp32"],
            check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        score: float = json.loads((Path(folder) / "metrics.json").read_text())["miou"]
        return score


def _children() -> float:
    """CPU seconds of all child processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
