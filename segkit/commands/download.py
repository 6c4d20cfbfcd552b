"""Fetch a public data set, ready to train on; without a name: a list."""

import argparse
import logging
import shlex
import shutil
import sys
from pathlib import Path

from segkit.commands.output import say

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", help="such as voc2012; without it, what there is")
    parser.add_argument("--output", type=Path, help="folder for it (default: data/NAME)")
    parser.add_argument("--keep-archives", action="store_true", help="leave what was downloaded in its archives/")


def run(arguments: argparse.Namespace) -> int:
    from segkit.datasets.public.catalog import PUBLIC_SETS
    from segkit.datasets.public.download import WORK, download, num_bytes_kept

    name, keep = arguments.name, arguments.keep_archives
    if name is None:
        width = shutil.get_terminal_size(fallback=(120, 24)).columns if sys.stdout.isatty() else 200
        say(list_sets(width), "fetch one: segkit download NAME")
        return 0
    folder = arguments.output or Path("data", name)
    try:
        new = download(name, folder, keep_archives=keep)
    except KeyboardInterrupt:
        again = shlex.join(["segkit", "download", name, "--output", str(folder), *["--keep-archives"][: int(keep)]])
        kept = num_bytes_kept(folder) / 2**20
        log.info(f"stopped; {kept:.1f} MiB are kept in {folder / WORK}. Resume with: {again}")
        raise
    known = PUBLIC_SETS[name]
    say(f"{folder}: {name} {'is complete' if new else 'exists already'}")
    if known.notes:
        say(f"note:  {known.notes}")
    root = shlex.quote(str(folder))
    say(f"train: data.root={root} data.layout=voc data.train={known.train} data.val={known.val}")
    return 0


def list_sets(width: int) -> str:
    """Return a line for each set, cut to `width` characters."""
    from segkit.datasets.public.catalog import PUBLIC_SETS

    rows = [("name", "images", "classes", "download", "licence")]
    for name, known in PUBLIC_SETS.items():
        size = "unknown" if known.num_bytes is None else f"{known.num_bytes / 2**20:,.0f} MiB"
        rows.append((name, f"{known.num_images:,}", str(known.num_classes), size, known.licence))
    lines = [
        f"{name:<10}  {images:>8}  {classes:>7}  {size:>9}  {licence}" for name, images, classes, size, licence in rows
    ]
    return "\n".join(line if len(line) <= width else f"{line[: max(width - 1, 0)]}…" for line in lines)
