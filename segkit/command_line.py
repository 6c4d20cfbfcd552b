"""What can be typed behind `segkit`: the commands, their arguments and options. What they do is in cli.py."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from segkit import __version__

# The formats of segkit/formats/table.py, which is too heavy for --help; a test compares them.
SOURCES = (
    "labelme", "coco", "coco-panoptic", "yolo", "cvat", "labelstudio", "supervisely", "cityscapes", "ade20k", "camvid",
    "voc", "folders", "id-masks", "color-masks", "binary-masks", "rle-csv",
)  # fmt: skip
TARGETS = ("voc", "folders", "webdataset", "labelme", "coco", "yolo")


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return what was typed: `command`, its arguments, and `overrides` (key=value) of those that take them.

    Exits with 2 and a message on stderr for what can't be understood, with 0 behind --help and --version.
    """
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
    return arguments


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="segkit",
        description="Semantic segmentation: a folder of images and label masks in, a trained and measured model out.",
        epilog="Start with `segkit demo`. `segkit COMMAND --help` explains a command.",
    )
    parser.add_argument("--version", action="version", version=f"segkit {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    command = _add(commands, "train", "train a model by a config file")
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

    command = _add(commands, "plan", "measure what a run will take: time, memory, disk, and what limits it")
    command.add_argument("config", type=Path, help="YAML file, such as configs/demo.yaml")
    command.add_argument("overrides", nargs="*", metavar="key=value", help="settings, as in train.batch_size=auto")
    command.add_argument("--steps", type=int, default=12, help="how many steps to measure (default: %(default)s)")
    command.add_argument(
        "--memory-share", type=float, default=0.8, help="what train.batch_size=auto may take (default: %(default)s)"
    )

    command = _add(commands, "eval", "score checkpoints on labelled pictures: mIoU and the per-class table")
    command.add_argument(
        "checkpoint", nargs="+", help="such as runs/NAME/checkpoints/best.pt; of several the probabilities are averaged"
    )
    command.add_argument("overrides", nargs="*", metavar="key=value", help="settings to change, as in data.root=DIR")
    command.add_argument("--split", help="which split to score; all: every labelled picture (default: data.val)")
    command.add_argument("--output", type=Path, help="folder for metrics.json and confusion.csv (default: in the run)")

    command = _add(commands, "predict", "write masks and overlays for pictures without labels")
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

    command = _add(commands, "check", "look at every file of a data set and say what is wrong with it")
    command.add_argument("source", type=Path, metavar="CONFIG|FOLDER", help="config of a run, or a data set's folder")
    command.add_argument("overrides", nargs="*", metavar="key=value", help="settings to change, as in data.root=DIR")
    command.add_argument(
        "--fix", type=Path, metavar="OUT", help="write a mended copy to an empty folder, in VOC layout"
    )
    command.add_argument("--resize", action="store_true", help="with --fix: make labels of another size equal")
    command.add_argument("--html", type=Path, default=Path("check.html"), help="page to write (default: %(default)s)")
    command.add_argument("--augment", action="store_true", help="show one picture as training sees it, 16 times")

    command = _add(commands, "convert", "read the labels of another tool, or write a data set in another form")
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

    command = _add(commands, "download", "fetch a public data set, ready to train on; without a name: a list")
    command.add_argument("name", nargs="?", help="such as voc2012; without it, what there is")
    command.add_argument("--output", type=Path, help="folder for it (default: data/NAME)")
    command.add_argument("--keep-archives", action="store_true", help="leave what was fetched in its archives/")

    command = _add(commands, "split", "divide a data set into train, val and test, or into folds")
    command.add_argument("folder", type=Path, help="data set with JPEGImages/SegmentationClass, or images/masks")
    command.add_argument("--val", type=float, help="fraction or number of pictures (default: 0.1; not with --folds)")
    command.add_argument("--test", type=float, default=0.0, help="fraction or number of pictures (default: none)")
    command.add_argument("--folds", type=int, default=0, help="for cross-validation: this many parts instead of --val")
    command.add_argument("--repeats", type=int, default=1, help="draw the folds so many times")
    command.add_argument(
        "--group-by", metavar="REGEX", help="keep pictures together whose names match alike: '^(.*)_[0-9]+$'"
    )
    command.add_argument("--seed", type=int, default=0, help="of the draw (default: %(default)s)")
    command.add_argument("--force", action="store_true", help="replace split files of the same names")

    command = _add(commands, "demo", "draw a data set, train, evaluate and predict: three minutes on two cores")
    command.add_argument("--output", type=Path, help="folder (default: segkit_demo, or the next free number)")
    return parser


def _add(commands, name: str, summary: str) -> argparse.ArgumentParser:  # type: ignore[no-untyped-def]
    command: argparse.ArgumentParser = commands.add_parser(name, help=summary, description=summary)
    command.set_defaults(command=name)
    return command
