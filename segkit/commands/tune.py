"""Search for the settings with the best validation mIoU: trials by Optuna, given up early where they fall behind."""

import argparse
import math
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from segkit.commands.output import say
from segkit.config.reading import load_config
from segkit.config.space import read_space
from segkit.errors import SegkitError
from segkit.runtime.process import importing

if TYPE_CHECKING:
    from segkit.tune import Search

RESUMABLE = 75  # EX_TEMPFAIL of sysexits.h: try again later


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", type=Path, help="YAML file, such as configs/demo.yaml")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings of all trials")
    parser.add_argument(
        "--space",
        type=Path,
        required=True,
        metavar="FILE",
        help="YAML: keys and what is tried, as in optim.lr: {low: 0.0001, high: 0.01, log: true}",
    )
    parser.add_argument("--trials", type=int, required=True, metavar="N", help="how many there shall be in all")
    parser.add_argument("--no-prune", action="store_true", help="train every trial to its end")


def run(arguments: argparse.Namespace) -> int:
    if arguments.trials < 1:
        raise SegkitError(f"--trials: found {arguments.trials}, expected at least 1")
    config = load_config(arguments.config, arguments.overrides)
    space = read_space(arguments.space)
    with importing():
        from segkit.tune import tune

    search = tune(config, space, num_trials=arguments.trials, prune=not arguments.no_prune)
    say("", describe(search))
    if search.stopped:
        say("stopped and saved; the same command continues")
        return RESUMABLE
    return 0


def describe(search: "Search") -> str:
    """Return the trials, best first, what matters, and what to type next."""
    lines = [f"{'trial':>5}  {'mIoU':>7}  {'epochs':>6}  {'':8}  settings"]
    ranked = sorted(
        search.trials, key=lambda trial: (math.isnan(trial.miou), -trial.miou if trial.miou == trial.miou else 0)
    )
    for trial in ranked:
        if trial.state == "taken up":
            continue
        miou = "-" if math.isnan(trial.miou) else f"{100 * trial.miou:.2f} %"
        settings = "  ".join(f"{name}={_short(value)}" for name, value in trial.settings.items())
        lines.append(f"{trial.number:5d}  {miou:>7}  {trial.epochs:6d}  {trial.state:8}  {settings}")
    if search.importance:
        shares = ", ".join(f"{name} {100 * share:.0f} %" for name, share in search.importance.items())
        lines.append(f"what matters: {shares}")
    if search.best:
        best = shlex.quote(str(search.folder / "best.yaml"))
        lines += [
            "",
            f"written: {search.folder}/ trials.csv, best.yaml",
            f"train:   segkit train {best}",
            "its mIoU was chosen on validation images: score it once on others, as in segkit eval ... --split test",
        ]
    return "\n".join(lines)


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
