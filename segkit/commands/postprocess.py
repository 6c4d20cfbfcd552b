"""Find rules that repair predicted masks, on the validation split, and store those that help in the checkpoint."""

import argparse
from pathlib import Path

from segkit.commands.output import say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", type=Path, help="such as runs/NAME/checkpoints/best.pt")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings to change, as in data.root=DIR")
    parser.add_argument("--dry-run", action="store_true", help="print what would be kept, and store nothing")


def run(arguments: argparse.Namespace) -> int:
    from segkit.postprocess import tune_postprocessing
    from segkit.report.rules_table import rules_table

    result = tune_postprocessing(arguments.checkpoint, arguments.overrides, store=not arguments.dry_run)
    say(str(result.protocol), rules_table(result.tuning, result.classes))
    found = "rules" if result.tuning.postprocess.rules else "no rules"
    if result.written:
        say(f"written, with {found}: {', '.join(map(str, result.written))}")
    elif not arguments.dry_run:
        say(f"nothing to write: {arguments.checkpoint} held {'these' if found == 'rules' else 'no'} rules before")
    if result.tuning.postprocess.rules and not arguments.dry_run:
        say(
            "segkit eval and predict apply them; --no-postprocess turns them off",
            "they may not help on other images: score another split with and without them, as in "
            f"segkit eval {arguments.checkpoint} --split test [--no-postprocess]",
        )
    return 0
