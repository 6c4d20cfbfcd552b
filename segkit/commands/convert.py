"""Read the labels of another tool, or write a data set in another form."""

import argparse
from pathlib import Path

from segkit.classes import read_class_names
from segkit.commands.output import say
from segkit.commands.words import split_words
from segkit.formats.options import ReadOptions, WriteOptions
from segkit.formats.table import SOURCES, TARGETS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", type=Path, metavar="SRC", help="a data set, or the config that describes one")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings of the config, as in data.root=DIR")
    parser.add_argument("--from", dest="source_format", metavar="FORMAT", help=f"one of: {', '.join(SOURCES)}")
    parser.add_argument(
        "--to", nargs=2, required=True, metavar=("FORMAT", "OUT"), help=f"one of: {', '.join(TARGETS)}; an empty folder"
    )
    parser.add_argument(
        "--splits", nargs="+", default=[], metavar="SPLIT", help="default: all; data.train and data.val of a config"
    )
    parser.add_argument(
        "--classes", metavar="A,B|FILE", help="names in id order, or a file of them; the rest is left out"
    )
    parser.add_argument(
        "--unlabeled",
        choices=("background", "ignore"),
        help="what pixels become that no shape covers; default: by format",
    )
    parser.add_argument("--images", type=Path, metavar="DIR", help="where the images are, if the labels don't say")
    parser.add_argument("--labels", type=Path, metavar="DIR", help="where the labels are, if several folders could be")
    parser.add_argument(
        "--tolerance",
        type=float,
        default=WriteOptions.tolerance,
        metavar="PX",
        help="simplify polygons by up to PX pixels; 0: exact (default)",
    )
    parser.add_argument(
        "--samples-per-shard",
        type=int,
        default=WriteOptions.samples_per_shard,
        help="default: %(default)s; fewer make more shards; each training process wants several",
    )


def run(arguments: argparse.Namespace) -> int:
    from segkit.formats.convert import convert, describe_conversion, read_source
    from segkit.formats.writing import refuse_inside

    target, output = arguments.to
    splits, more_overrides = split_words(arguments.splits)  # argparse gives --splits all words that follow
    refuse_inside(arguments.source, Path(output))
    samples = read_source(
        arguments.source,
        format=arguments.source_format,
        overrides=arguments.overrides + more_overrides,
        splits=splits,
        options=ReadOptions(
            classes=_class_names(arguments.classes),
            unlabeled=arguments.unlabeled,
            images=arguments.images,
            labels=arguments.labels,
        ),
    )
    options = WriteOptions(arguments.samples_per_shard, arguments.tolerance)
    say(describe_conversion(convert(samples, target, Path(output), options=options)))
    return 0


def _class_names(given: str | None) -> tuple[str, ...] | None:
    """Return the names of --classes: a file's lines, or words with commas between."""
    if given is None:
        return None
    if Path(given).is_file() or given.endswith(".txt"):
        return tuple(read_class_names(Path(given)))
    return tuple(name.strip() for name in given.split(","))
