"""The `segkit` command: parse, one call, print. What the commands do is in the modules of their names.

Heavy modules are imported inside the handlers, so that `segkit --help` and a typo in a config answer at once.
Exit codes: 0 done; 1 done, but some inputs failed; 2 a problem that the user can mend; 75 training was stopped by a
signal and saved, to go on with --resume; 130 broken off by Ctrl-C or SIGTERM.
"""

import argparse
import contextlib
import logging
import os
import shlex
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal

from segkit.classes import read_class_names
from segkit.command_line import parse
from segkit.config.reading import load_config
from segkit.errors import SegkitError

INTERRUPTED = 130
RESUMABLE = 75  # EX_TEMPFAIL of sysexits.h: try again later


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code."""
    # OpenMP's threads spin while they wait, by default for so long that two programs on the same cores take 30 times as
    # long as one. With this they spin for a moment; alone, a training step takes as long as ever (measured).
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")
    arguments = parse(argv)
    first = _is_first_rank()
    log, handler = logging.getLogger("segkit"), _Output(sys.stdout)
    log.setLevel(logging.INFO if first else logging.ERROR)
    log.addHandler(handler)
    try:
        with _ended_by_sigterm():
            return COMMANDS[arguments.command](arguments)
    except SegkitError as error:
        if first or not error.shared:
            print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    finally:
        log.removeHandler(handler)


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


def _train(arguments: argparse.Namespace) -> int:
    config = load_config(arguments.config, arguments.overrides)
    resume: bool | Literal["auto"] = "auto" if arguments.auto_resume else arguments.resume
    if arguments.folds:
        from segkit.folds import describe_folds, train_folds

        folds = train_folds(config, resume=resume)
        if not folds.finished:
            return _say_stopped(f"{folds.folder}, {len(folds.rows)} of {folds.num_folds} folds are done", arguments)
        last = f"{shlex.quote(str(folds.folder))}/*fold*/checkpoints/last.pt"
        _say("", describe_folds(folds), "")
        _say(f"written: {folds.folder / 'folds.json'}, {folds.folder / 'folds.csv'}")
        _say("predict, by all folds' models together:", f"  segkit predict {last} PICTURES --output predictions")
        return 0
    from segkit.train import train

    result = train(config, resume=resume)
    if not result.finished:
        return _say_stopped(str(result.folder / "checkpoints" / "last.pt"), arguments)
    _say_trained(result)
    return 0


def _say_stopped(saved: str, arguments: argparse.Namespace) -> int:
    words = shlex.join([str(arguments.config), *arguments.overrides])
    again = f"segkit train {words}{' --folds' if arguments.folds else ''} --resume"
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        again = "the same torchrun command with --resume or --auto-resume"
    _say(f"stopped and saved: {saved}", f"resume: {again}")
    return RESUMABLE


def _plan(arguments: argparse.Namespace) -> int:
    if arguments.steps < 5 or not 0 < arguments.memory_share <= 1:
        raise SegkitError("plan: expected --steps of at least 5 and a --memory-share above 0 and up to 1")
    config = load_config(arguments.config, arguments.overrides)
    from segkit.plan import describe_plan, make_plan

    _say(describe_plan(make_plan(config, num_steps=arguments.steps, memory_share=arguments.memory_share)))
    return 0


def _eval(arguments: argparse.Namespace) -> int:
    from segkit.eval_miou import eval_miou
    from segkit.report.tables import scores_table

    words = [*arguments.checkpoint, *arguments.overrides]  # argparse gives the first one all words that follow
    settings = [word for word in words[1:] if "=" in word and "/" not in word.partition("=")[0]]
    paths = [Path(word) for word in words if word not in settings]
    result = eval_miou(paths, settings, split=arguments.split, output=arguments.output)
    _say(f"split {result.split}", scores_table(result.scores, result.classes))
    _say(f"written: {result.output / 'metrics.json'}, {result.output / 'confusion.csv'}")
    return 0


def _predict(arguments: argparse.Namespace) -> int:
    from segkit.inference.predictor import Predictor
    from segkit.predict import predict_files

    predictor = Predictor.load(arguments.checkpoint, device=arguments.device, precision=arguments.precision)
    results = predict_files(
        predictor,
        arguments.input,
        arguments.output,
        overlays=not arguments.no_overlays,
        overwrite=arguments.overwrite,
    )
    failed = [result for result in results if result.error]
    _say(f"{len(results) - len(failed)} of {len(results)} pictures predicted: {arguments.output}")
    if Path(arguments.input).is_dir():
        words = shlex.join([str(arguments.output), "--from", "id-masks", "--images", arguments.input])
        _say(f"correct them by hand: segkit convert {words} --to labelme FIXED")
    for result in failed[:10]:
        print(f"error: {result.error}", file=sys.stderr)
    if len(failed) > 10:
        print(f"... and {len(failed) - 10} more, see {arguments.output / 'predictions.csv'}", file=sys.stderr)
    return 1 if failed else 0


def _check(arguments: argparse.Namespace) -> int:
    from segkit.doctor.check import check, refuse_page, write_page
    from segkit.doctor.text import describe_examined, describe_outcome, describe_verdict

    if arguments.resize and arguments.fix is None:
        raise SegkitError("--resize: without effect: it needs --fix OUT")
    refuse_page(arguments.html)
    if arguments.fix is not None:
        from segkit.formats.writing import refuse_unless_empty

        refuse_unless_empty(arguments.fix)
    checked = check(arguments.source, arguments.overrides)
    _say(describe_examined(checked.examined))
    for verdict in checked.verdicts:
        _say("", describe_verdict(verdict))
    write_page(checked, arguments.html, augment=arguments.augment)
    _say("", f"{describe_outcome(checked.verdicts)}; with pictures: {arguments.html}")
    if arguments.fix is not None:
        from segkit.doctor.fix import describe_mended, mend

        _say(describe_mended(mend(checked.examined, arguments.fix, resize=arguments.resize)))
    return checked.exit_code


def _convert(arguments: argparse.Namespace) -> int:
    words = arguments.splits or []
    settings = [word for word in words if "=" in word]  # argparse gives --splits all words that follow
    from segkit.formats.convert import convert, describe_conversion, read_source
    from segkit.formats.sample import ReadOptions
    from segkit.formats.table import WriteOptions
    from segkit.formats.writing import refuse_inside

    target, output = arguments.to
    refuse_inside(arguments.source, Path(output))
    pictures = read_source(
        arguments.source,
        format=arguments.source_format,
        overrides=arguments.overrides + settings,
        splits=[word for word in words if "=" not in word],
        options=ReadOptions(
            classes=_class_names(arguments.classes),
            unlabeled=arguments.unlabeled,
            images=arguments.images,
            labels=arguments.labels,
        ),
    )
    options = WriteOptions(arguments.samples_per_shard, arguments.tolerance)
    _say(describe_conversion(convert(pictures, target, Path(output), options=options)))
    return 0


def _class_names(given: str | None) -> tuple[str, ...] | None:
    """Return the names of --classes: a file's lines, or words with commas between."""
    if given is None:
        return None
    if Path(given).is_file() or given.endswith(".txt"):
        return tuple(read_class_names(Path(given)))
    return tuple(name.strip() for name in given.split(","))


def _download(arguments: argparse.Namespace) -> int:
    from segkit.datasets.public.download import download, list_sets

    if arguments.name is None:
        _say(
            list_sets(shutil.get_terminal_size(fallback=(120, 24)).columns if sys.stdout.isatty() else 200),
            "fetch one: segkit download NAME",
        )
    else:
        _say(download(arguments.name, arguments.output, keep_archives=arguments.keep_archives).describe())
    return 0


def _split(arguments: argparse.Namespace) -> int:
    from segkit.datasets.split import split_data_set
    from segkit.report.tables import split_table

    if arguments.folds and arguments.val is not None:
        raise SegkitError("--val: without effect with --folds, each of which is validated on in its turn; leave it out")
    val = 0.1 if arguments.val is None else arguments.val
    made = split_data_set(
        arguments.folder, val=val, test=arguments.test, folds=arguments.folds, repeats=arguments.repeats,
        group_by=arguments.group_by, seed=arguments.seed, force=arguments.force,
    )  # fmt: skip
    _say(split_table(made.splits, made.labels, made.class_names), f"written: {made.folder}")
    if made.num_apart:
        _say(f"note:    the {made.num_apart} pictures of the test split that is there are in none of these")
    first = next(name for name in made.splits if name.endswith("train"))
    more = ", and so on for each fold" if arguments.folds else ""
    _say(f"use:     data.train={first} data.val={first.removesuffix('train')}val{more}")
    return 0


def _demo(arguments: argparse.Namespace) -> int:
    from segkit.demo import demo

    result = demo(arguments.output)
    if result.evaluated is None:
        _say("stopped; run the demo again, or look at the README")
        return INTERRUPTED
    _say_trained(result.trained)
    _say(
        "look at:",
        f"  {result.folder / 'held_out.png'}   held-out pictures: image, truth, prediction",
        f"  {result.folder / 'predictions' / 'overlays'}   new pictures with their predicted masks",
        f"  {result.trained.folder / 'metrics.json'}   the scores in full",
        f"  {result.trained.folder / 'config.yaml'}   every setting; change data.root to train on your own",
        f"  tensorboard --logdir {result.trained.folder}   the curves and the validation pictures",
    )
    return 0


class _Output(logging.StreamHandler):  # type: ignore[type-arg]
    """Log lines to a terminal or a pipe; a reader that leaves, as `| head` does, ends the lines, not the command."""

    def handleError(self, record: logging.LogRecord) -> None:
        if isinstance(sys.exc_info()[1], BrokenPipeError):
            _drop_output()
        else:
            super().handleError(record)


def _drop_output() -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _is_first_rank() -> bool:
    return os.environ.get("RANK", "0") == "0"


def _say_trained(result) -> None:  # type: ignore[no-untyped-def]
    from segkit.report.tables import scores_table

    if result.scores is not None:
        _say(
            "", f"best epoch {result.best_epoch}, on the validation split", scores_table(result.scores, result.classes)
        )
    best = shlex.quote(str(result.best))
    _say(
        "",
        f"weights: {result.best}",
        f"score:   segkit eval {best}",
        f"predict: segkit predict {best} PICTURES --output predictions",
    )


def _say(*lines: str) -> None:
    """Print on the first rank alone."""
    if _is_first_rank():
        try:
            print(*lines, sep="\n", flush=True)
        except BrokenPipeError:
            _drop_output()


COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "train": _train,
    "plan": _plan,
    "eval": _eval,
    "predict": _predict,
    "check": _check,
    "convert": _convert,
    "download": _download,
    "split": _split,
    "demo": _demo,
}

if __name__ == "__main__":
    sys.exit(main())
