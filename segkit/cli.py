"""The `segkit` command: find the command, parse its words, call it, and end with its exit code.

Exit codes: 0 done; 1 done, but some inputs failed; 2 a problem that the user can fix; 75 training was stopped by a
signal and saved, and --resume continues it; 130 broken off by Ctrl-C or SIGTERM. `segkit --help` and a typo in a config
answer at once: nothing heavy is imported before a command needs it.
"""

import argparse
import contextlib
import io
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import NoReturn

from segkit import __version__
from segkit.commands import (
    bench,
    calibrate,
    check,
    compare,
    convert,
    demo,
    download,
    eval,
    export,
    features,
    lr_find,
    models,
    plan,
    plot_schedule,
    postprocess,
    predict,
    rank,
    report,
    score,
    serve,
    split,
    summary,
    suspects,
    train,
    tune,
)  # fmt: skip
from segkit.commands.output import INTERRUPTED, LogHandler, is_first_rank
from segkit.errors import SegkitError
from segkit.runtime.process import exit_at_once

COMMANDS: dict[str, ModuleType] = {
    "train": train,
    "plan": plan,
    "tune": tune,
    "plot-schedule": plot_schedule,
    "lr-find": lr_find,
    "eval": eval,
    "score": score,
    "report": report,
    "compare": compare,
    "suspects": suspects,
    "rank": rank,
    "features": features,
    "postprocess": postprocess,
    "calibrate": calibrate,
    "export": export,
    "bench": bench,
    "serve": serve,
    "summary": summary,
    "models": models,
    "predict": predict,
    "check": check,
    "convert": convert,
    "download": download,
    "split": split,
    "demo": demo,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code.

    Exits with 2 and a message on stderr for words that can't be understood, with 0 behind --help and --version.
    """
    # OpenMP's threads spin while they wait, by default for so long that two programs on the same cores take 30 times as
    # long as one. With this they spin for a moment; alone, a training step takes as long as ever (measured).
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")
    command, arguments = parse(sys.argv[1:] if argv is None else argv)
    if isinstance(sys.stdout, io.TextIOWrapper):  # as stderr does: a file's name need not be UTF-8
        sys.stdout.reconfigure(errors="backslashreplace")
    first = is_first_rank()
    log, handler = logging.getLogger("segkit"), LogHandler(sys.stdout)
    log.setLevel(logging.INFO if first else logging.ERROR)
    log.addHandler(handler)
    try:
        with _ended_by_sigterm():
            code: int = command.run(arguments)
            return code
    except SegkitError as error:
        if first or not error.shared:
            print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    finally:
        log.removeHandler(handler)


def program() -> NoReturn:
    """Be the `segkit` program: run the command that was typed, and end with its exit code."""
    exit_at_once(main)


def parse(words: Sequence[str]) -> tuple[ModuleType, argparse.Namespace]:
    """Return the command that was typed, and its arguments."""
    overview = argparse.ArgumentParser(
        prog="segkit",
        description="Semantic segmentation: a folder of images and label masks in, a trained and measured model out.",
        epilog="Start with `segkit demo`. `segkit COMMAND --help` explains a command.",
    )
    overview.add_argument("--version", action="version", version=f"segkit {__version__}")
    commands = overview.add_subparsers(title="commands", metavar="COMMAND", required=True, dest="command")
    for name, module in COMMANDS.items():
        commands.add_parser(name, help=_summary(module), add_help=False)
    name = overview.parse_known_args(words[:1])[0].command
    module = COMMANDS[name]
    parser = argparse.ArgumentParser(prog=f"segkit {name}", description=_summary(module))
    module.add_arguments(parser)
    # intermixed: settings may stand behind options, as in `segkit train c.yaml --resume train.epochs=20`
    arguments, unknown = parser.parse_known_intermixed_args(words[1:])
    wrong = [*unknown, *(word for word in getattr(arguments, "overrides", ()) if "=" not in word)]
    if wrong:
        hint = "; settings are given as key=value: train.epochs=10" if "overrides" in arguments else ""
        if getattr(arguments, "folds", None) is True:
            hint += "; --folds takes no number, the folds are those that segkit split wrote"
        parser.error(f"unrecognized arguments: {' '.join(wrong)}{hint}")
    return module, arguments


def _summary(command: ModuleType) -> str:
    """Return the first line of a command's docstring, as help shows it."""
    first = (command.__doc__ or "").partition("\n")[0].rstrip(".")
    return first[:1].lower() + first[1:]


@contextlib.contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Let SIGTERM end the block as Ctrl-C does: temporary files go, rows are written."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield  # Python hands signals to the main thread only
        return
    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


if __name__ == "__main__":
    program()
