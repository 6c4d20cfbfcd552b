"""Score a run's best checkpoint and write its report.html: figures, curves, confusion, and images to look at."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from segkit.commands.output import say
from segkit.errors import CheckpointError
from segkit.runtime.process import importing

if TYPE_CHECKING:
    from segkit.eval_miou import EvalResult


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, metavar="RUN", help="a run folder, such as runs/NAME")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings to change, as in data.root=DIR")
    parser.add_argument("--split", help="which split to score (default: data.val)")


def run(arguments: argparse.Namespace) -> int:
    best = arguments.run / "checkpoints" / "best.pt"
    if not best.is_file():
        raise CheckpointError(
            f"{best}: no such file, expected the best checkpoint of a run; name a run folder, or score a checkpoint "
            "that lies elsewhere with segkit eval"
        )
    write_report(arguments.run, arguments.overrides, split=arguments.split)
    say(f"written: {arguments.run / 'report.html'}")
    return 0


def write_report(folder: Path, overrides: list[str], *, split: str | None = None) -> "EvalResult":
    """Score the best checkpoint of a run, and write report.html into the run folder."""
    with importing():
        from segkit.eval_miou import eval_miou

    return eval_miou(folder / "checkpoints" / "best.pt", overrides, split=split, report=folder / "report.html")
