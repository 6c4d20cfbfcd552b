"""Compare trained models on the same images: what differs by class, and whether it could be chance."""

import argparse
from pathlib import Path

from segkit.commands.output import say
from segkit.commands.words import split_words
from segkit.runtime.process import importing

SHOWN = 3  # images that got better and worse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "words",
        nargs="+",
        metavar="RUN|key=value",
        help="run folders or checkpoints, the one to compare with first; several trainings of one recipe are one word, "
        "as in a0,a1,a2. Settings to change, as in data.root=DIR",
    )
    parser.add_argument("--split", help="which split to score (default: data.val)")
    parser.add_argument("--output", type=Path, default=Path("compare.html"), help="the page (default: compare.html)")


def run(arguments: argparse.Namespace) -> int:
    words, overrides = split_words(arguments.words)
    with importing():
        from segkit.compare import compare_runs
        from segkit.report.comparison_text import comparison_table, verdict

    result = compare_runs(words, overrides, split=arguments.split, page=arguments.output)
    say(f"split {result.split}: {result.num_images} images at their own size")
    for each in result.compared:
        say("", comparison_table(each.first, each.second, result.classes, each.comparison, each.ious))
        for title, changes in (("worse", each.changes[:SHOWN]), ("better", each.changes[::-1][:SHOWN])):
            for name, old, new in changes:
                if (new > old) == (title == "better") and new != old:
                    say(f"{title:<6}  {100 * (new - old):+6.2f}  {name}  ({100 * old:.2f} to {100 * new:.2f})")
        for key, old, new in each.settings:
            say(f"setting  {key}: {old} to {new}")
        say(verdict(each.first, each.second, each.comparison))
    say("", f"written: {arguments.output}")
    return 0
