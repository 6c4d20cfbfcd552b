"""Divide a data set into train, val and test, or into folds."""

import argparse
from pathlib import Path

from segkit.commands.output import say
from segkit.errors import SegkitError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="data set with JPEGImages/SegmentationClass, or images/masks")
    parser.add_argument("--val", type=float, help="fraction or number of images (default: 0.1; not with --folds)")
    parser.add_argument("--test", type=float, default=0.0, help="fraction or number of images (default: none)")
    parser.add_argument("--folds", type=int, default=0, help="for cross-validation: this many parts instead of --val")
    parser.add_argument("--repeats", type=int, default=1, help="draw the folds so many times")
    parser.add_argument(
        "--group-by", metavar="REGEX", help="keep images together whose names match alike: '^(.*)_[0-9]+$'"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the draw (default: %(default)s)")
    parser.add_argument("--force", action="store_true", help="replace split files of the same names")


def run(arguments: argparse.Namespace) -> int:
    from segkit.datasets.split import split_data_set
    from segkit.report.tables import split_table

    if arguments.folds and arguments.val is not None:
        raise SegkitError("--val: without effect with --folds, each of which is validated on in turn; leave it out")
    val = 0.1 if arguments.val is None else arguments.val
    made = split_data_set(
        arguments.folder, val=val, test=arguments.test, folds=arguments.folds, repeats=arguments.repeats,
        group_by=arguments.group_by, seed=arguments.seed, force=arguments.force,
    )  # fmt: skip
    say(split_table(made.splits, made.labels, made.class_names), f"written: {made.folder}")
    if made.num_apart:
        say(f"note:    the {made.num_apart} images of the existing test split are in none of these")
    first = next(name for name in made.splits if name.endswith("train"))
    more = ", and so on for each fold" if arguments.folds else ""
    say(f"use:     data.train={first} data.val={first.removesuffix('train')}val{more}")
    return 0
