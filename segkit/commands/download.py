"""Fetch a public data set, ready to train on; without a name: a list."""

import argparse
import shutil
import sys
from pathlib import Path

from segkit.commands.output import say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", help="such as voc2012; without it, what there is")
    parser.add_argument("--output", type=Path, help="folder for it (default: data/NAME)")
    parser.add_argument("--keep-archives", action="store_true", help="leave what was fetched in its archives/")


def run(arguments: argparse.Namespace) -> int:
    from segkit.datasets.public.download import download, list_sets

    if arguments.name is None:
        width = shutil.get_terminal_size(fallback=(120, 24)).columns if sys.stdout.isatty() else 200
        say(list_sets(width), "fetch one: segkit download NAME")
    else:
        say(download(arguments.name, arguments.output, keep_archives=arguments.keep_archives).describe())
    return 0
