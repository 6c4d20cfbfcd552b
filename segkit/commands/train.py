"""Train a model by a config file."""

import argparse
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from segkit.commands.output import is_first_rank, say
from segkit.commands.report import write_report
from segkit.config.reading import load_config
from segkit.errors import SegkitError
from segkit.runtime.process import importing

if TYPE_CHECKING:
    from segkit.config.schema import ReportConfig
    from segkit.train import TrainResult

RESUMABLE = 75  # EX_TEMPFAIL of sysexits.h: try again later


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", type=Path, help="YAML file, such as configs/demo.yaml")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings to change, as in train.epochs=10")
    parser.add_argument(
        "--folds", action="store_true", help="train and score every fold that `segkit split DIR --folds N` wrote"
    )
    parser.add_argument("--no-report", action="store_true", help="write no report.html at the end")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--resume", action="store_true", help="continue the run in the config's run folder")
    how.add_argument(
        "--auto-resume",
        action="store_true",
        help="continue it if there is one, else start it: for schedulers and torchrun --max-restarts",
    )


def run(arguments: argparse.Namespace) -> int:
    config = load_config(arguments.config, arguments.overrides)
    resume: bool | Literal["auto"] = "auto" if arguments.auto_resume else arguments.resume
    if arguments.folds:
        with importing():
            from segkit.cross_validation import describe_folds, train_folds

        folds = train_folds(config, resume=resume)
        if not folds.finished:
            return _say_stopped(f"{folds.folder}, {len(folds.rows)} of {folds.num_folds} folds are done", arguments)
        last = f"{shlex.quote(str(folds.folder))}/*fold*/checkpoints/last.pt"
        say("", describe_folds(folds), "")
        say(f"written: {folds.folder / 'folds.json'}, {folds.folder / 'folds.csv'}")
        say("predict, by all folds' models together:", f"  segkit predict {last} IMAGES --output predictions")
        return 0
    with importing():
        from segkit.train import train

    result = train(config, resume=resume)
    if not result.finished:
        return _say_stopped(str(result.folder / "checkpoints" / "last.pt"), arguments)
    say_trained(result)
    if not arguments.no_report and is_first_rank() and result.best.is_file():
        _report(result.folder, config.report)
    return 0


def _report(folder: Path, config: "ReportConfig") -> None:
    """Write the run's report.html, and what TensorBoard gets of it; what is in the way of that is told, and spoils
    nothing that was trained.
    """
    try:
        found = write_report(folder, [])
        say(f"report:  {folder / 'report.html'}")
        if "tensorboard" in config.trackers and config.tensorboard:
            from segkit.report.tensorboard import add_to_tensorboard

            add_to_tensorboard(folder, found.measured, config.tensorboard)
    except SegkitError as error:
        say(f"report:  not written ({error}); to write it: segkit report {shlex.quote(str(folder))}")


def say_trained(result: "TrainResult") -> None:
    """Print the scores of a finished run, and what to type next."""
    from segkit.report.tables import scores_table

    if result.scores is not None:
        say("", f"best epoch {result.best_epoch}, on the validation split", scores_table(result.scores, result.classes))
    best = shlex.quote(str(result.best))
    say(
        "",
        f"weights: {result.best}",
        f"score:   segkit eval {best}",
        f"predict: segkit predict {best} IMAGES --output predictions",
    )


def _say_stopped(saved: str, arguments: argparse.Namespace) -> int:
    words = shlex.join([str(arguments.config), *arguments.overrides])
    again = f"segkit train {words}{' --folds' if arguments.folds else ''} --resume"
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        again = "the same torchrun command with --resume or --auto-resume"
    say(f"stopped and saved: {saved}", f"resume: {again}")
    return RESUMABLE
