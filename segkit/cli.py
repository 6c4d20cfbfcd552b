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
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from segkit import __version__
from segkit.classes import read_class_names
from segkit.config import load_config
from segkit.errors import SegkitError

# The formats of segkit/formats/table.py, which is too heavy for --help; a test compares them.
SOURCES = (
    "labelme", "coco", "coco-panoptic", "yolo", "cvat", "labelstudio", "supervisely", "cityscapes", "ade20k", "camvid",
    "voc", "folders", "id-masks", "color-masks", "binary-masks", "rle-csv",
)  # fmt: skip
TARGETS = ("voc", "folders", "webdataset", "labelme", "coco", "yolo")

INTERRUPTED = 130
RESUMABLE = 75  # EX_TEMPFAIL of sysexits.h: try again later


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code."""
    # OpenMP's threads spin while they wait, by default for so long that two programs on the same cores take 30 times as
    # long as one. With this they spin for a moment; alone, a training step takes as long as ever (measured).
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")
    parser = _parser()
    arguments, rest = parser.parse_known_args(argv)
    # argparse takes no key=value behind an option, as in `train c.yaml --resume train.epochs=20`
    if any("=" not in word or word.startswith("-") for word in rest) or (rest and "overrides" not in arguments):
        hint = "; settings are given as key=value: train.epochs=10" if "overrides" in arguments else ""
        if getattr(arguments, "folds", None) is True:
            hint += "; --folds takes no number, the folds are those that segkit split wrote"
        if "input" in arguments:
            hint = "; options come last: segkit predict CHECKPOINT [CHECKPOINT ...] PICTURES --output FOLDER"
        parser.error(f"unrecognized arguments: {' '.join(rest)}{hint}")
    if rest:
        arguments.overrides += rest
    first = _is_first_rank()
    log, handler = logging.getLogger("segkit"), _Output(sys.stdout)
    log.setLevel(logging.INFO if first else logging.ERROR)
    log.addHandler(handler)
    try:
        with _ended_by_sigterm():
            code: int = arguments.run(arguments)
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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="segkit",
        description="Semantic segmentation: a folder of images and label masks in, a trained and measured model out.",
        epilog="Start with `segkit demo`. `segkit COMMAND --help` explains a command.",
    )
    parser.add_argument("--version", action="version", version=f"segkit {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    command = _add(commands, "train", _train, "train a model by a config file")
    command.add_argument("config", type=Path, help="YAML file, such as configs/demo.yaml")
    command.add_argument("overrides", nargs="*", metavar="key=value", help="settings to change, as in train.epochs=10")
    command.add_argument(
        "--folds", action="store_true", help="train and score every fold that `segkit split DIR --folds N` wrote"
    )
    how = command.add_mutually_exclusive_group()
    how.add_argument("--resume", action="store_true", help="continue the run in the config's run folder")
    how.add_argument(
        "--auto-resume",
        action="store_true",
        help="continue it if there is one, else start it: for schedulers and torchrun --max-restarts",
    )

    command = _add(commands, "plan", _plan, "measure what a run will take: time, memory, disk, and what limits it")
    command.add_argument("config", type=Path, help="YAML file, such as configs/demo.yaml")
    command.add_argument("overrides", nargs="*", metavar="key=value", help="settings, as in train.batch_size=auto")
    command.add_argument("--steps", type=int, default=12, help="how many steps to measure (default: %(default)s)")
    command.add_argument(
        "--memory-share", type=float, default=0.8, help="what train.batch_size=auto may take (default: %(default)s)"
    )

    command = _add(commands, "eval", _eval, "score checkpoints on labelled pictures: mIoU and the per-class table")
    command.add_argument(
        "checkpoint", nargs="+", help="such as runs/NAME/checkpoints/best.pt; of several the probabilities are averaged"
    )
    command.add_argument("overrides", nargs="*", metavar="key=value", help="settings to change, as in data.root=DIR")
    command.add_argument("--split", help="which split to score; all: every labelled picture (default: data.val)")
    command.add_argument("--output", type=Path, help="folder for metrics.json and confusion.csv (default: in the run)")

    command = _add(commands, "predict", _predict, "write masks and overlays for pictures without labels")
    command.add_argument(
        "checkpoint",
        nargs="+",
        type=Path,
        help="such as runs/NAME/checkpoints/best.pt; of several the probabilities are averaged",
    )
    command.add_argument(
        "input", help="a picture, a folder (searched to any depth), or a quoted pattern: 'in/**/*.jpg'"
    )
    command.add_argument("--output", type=Path, required=True, help="folder for masks/, overlays/ and predictions.csv")
    command.add_argument("--no-overlays", action="store_true", help="write masks only")
    command.add_argument("--overwrite", action="store_true", help="replace masks that are in the output folder already")
    command.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps (default: auto)")
    command.add_argument("--precision", choices=("auto", "fp32", "bf16", "fp16"), help="default: as trained")

    command = _add(commands, "check", _check, "look at every file of a data set and say what is wrong with it")
    command.add_argument("source", type=Path, metavar="CONFIG|FOLDER", help="config of a run, or a data set's folder")
    command.add_argument("overrides", nargs="*", metavar="key=value", help="settings to change, as in data.root=DIR")
    command.add_argument(
        "--fix", type=Path, metavar="OUT", help="write a mended copy to an empty folder, in VOC layout"
    )
    command.add_argument("--resize", action="store_true", help="with --fix: make labels of another size equal")
    command.add_argument("--html", type=Path, default=Path("check.html"), help="page to write (default: %(default)s)")
    command.add_argument("--augment", action="store_true", help="show one picture as training sees it, 16 times")

    command = _add(
        commands, "convert", _convert, "read the labels of another tool, or write a data set in another form"
    )
    command.add_argument("source", type=Path, metavar="SRC", help="a data set, or the config that describes one")
    command.add_argument(
        "overrides", nargs="*", metavar="key=value", help="settings of the config, as in data.root=DIR"
    )
    command.add_argument("--from", dest="source_format", metavar="FORMAT", help=f"one of: {', '.join(SOURCES)}")
    command.add_argument(
        "--to", nargs=2, required=True, metavar=("FORMAT", "OUT"), help=f"one of: {', '.join(TARGETS)}; an empty folder"
    )
    command.add_argument(
        "--splits", nargs="+", metavar="SPLIT", help="default: all; data.train and data.val of a config"
    )
    command.add_argument(
        "--classes", metavar="A,B|FILE", help="names in id order, or a file of them; the rest is left out"
    )
    command.add_argument(
        "--unlabeled",
        choices=("background", "ignore"),
        help="what pixels become that no shape covers; default: by format",
    )
    command.add_argument("--images", type=Path, metavar="DIR", help="where the pictures are, if the labels don't say")
    command.add_argument("--labels", type=Path, metavar="DIR", help="where the labels are, if several folders could be")
    command.add_argument(
        "--tolerance", type=float, default=0.0, metavar="PX", help="simplify polygons by so much; 0: exact (default)"
    )
    command.add_argument(
        "--samples-per-shard",
        type=int,
        default=1000,
        help="default: %(default)s; fewer make more shards, of which each training process wants several",
    )

    command = _add(
        commands, "download", _download, "fetch a public data set, ready to train on; without a name: a list"
    )
    command.add_argument("name", nargs="?", help="such as voc2012; without it, what there is")
    command.add_argument("--output", type=Path, help="folder for it (default: data/NAME)")
    command.add_argument("--keep-archives", action="store_true", help="leave what was fetched in its archives/")

    command = _add(commands, "split", _split, "divide a data set into train, val and test, or into folds")
    command.add_argument("folder", type=Path, help="data set with JPEGImages/SegmentationClass, or images/masks")
    command.add_argument("--val", type=float, default=0.1, help="fraction or number of pictures (default: %(default)s)")
    command.add_argument("--test", type=float, default=0.0, help="fraction or number of pictures (default: none)")
    command.add_argument("--folds", type=int, default=0, help="for cross-validation: this many parts instead of --val")
    command.add_argument("--repeats", type=int, default=1, help="draw the folds so many times")
    command.add_argument(
        "--group-by", metavar="REGEX", help="keep pictures together whose names match alike: '^(.*)_[0-9]+$'"
    )
    command.add_argument("--seed", type=int, default=0, help="of the draw (default: %(default)s)")
    command.add_argument("--force", action="store_true", help="replace split files of the same names")

    command = _add(commands, "demo", _demo, "draw a data set, train, evaluate and predict: three minutes on two cores")
    command.add_argument("--output", type=Path, help="folder (default: segkit_demo, or the next free number)")
    return parser


def _add(commands, name: str, handler, summary: str) -> argparse.ArgumentParser:  # type: ignore[no-untyped-def]
    command: argparse.ArgumentParser = commands.add_parser(name, help=summary, description=summary)
    command.set_defaults(run=handler)
    return command


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
    from segkit.predict import Predictor, predict_files

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
        _say(f"correct them by hand: segkit convert {words} --to labelme OUT")
    for result in failed[:10]:
        print(f"error: {result.error}", file=sys.stderr)
    if len(failed) > 10:
        print(f"... and {len(failed) - 10} more, see {arguments.output / 'predictions.csv'}", file=sys.stderr)
    return 1 if failed else 0


def _check(arguments: argparse.Namespace) -> int:
    from segkit.check import check, write_page
    from segkit.report.check_text import describe_examined, describe_outcome, describe_verdict

    if arguments.resize and arguments.fix is None:
        raise SegkitError("--resize: without effect: it needs --fix OUT")
    checked = check(arguments.source, arguments.overrides)
    _say(describe_examined(checked.examined))
    for verdict in checked.verdicts:
        _say("", describe_verdict(verdict))
    write_page(checked, arguments.html, augment=arguments.augment)
    _say("", f"{describe_outcome(checked.verdicts)}; with pictures: {arguments.html}")
    if arguments.fix is not None:
        from segkit.mend import describe_mended, mend

        _say(describe_mended(mend(checked.examined, arguments.fix, resize=arguments.resize)))
    return checked.exit_code


def _convert(arguments: argparse.Namespace) -> int:
    words = arguments.splits or []
    settings = [word for word in words if "=" in word]  # argparse gives --splits all words that follow
    from segkit.convert import convert, describe_conversion, read_source
    from segkit.formats.pictures import ReadOptions
    from segkit.formats.table import WriteOptions

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
    target, output = arguments.to
    options = WriteOptions(arguments.samples_per_shard, arguments.tolerance)
    _say(describe_conversion(convert(pictures, target, Path(output), options=options)))
    return 0


def _class_names(given: str | None) -> tuple[str, ...] | None:
    """Return the names of --classes: a file's lines, or words with commas between."""
    if given is None:
        return None
    if Path(given).is_file():
        return tuple(read_class_names(Path(given)))
    return tuple(name.strip() for name in given.split(","))


def _download(arguments: argparse.Namespace) -> int:
    from segkit.download import download, list_sets

    if arguments.name is None:
        _say(list_sets(shutil.get_terminal_size(fallback=(120, 24)).columns), "fetch one: segkit download NAME")
    else:
        _say(download(arguments.name, arguments.output, keep_archives=arguments.keep_archives).describe())
    return 0


def _split(arguments: argparse.Namespace) -> int:
    from segkit.data.split import split_data_set
    from segkit.report.tables import split_table

    made = split_data_set(
        arguments.folder, val=arguments.val, test=arguments.test, folds=arguments.folds, repeats=arguments.repeats,
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


if __name__ == "__main__":
    sys.exit(main())
