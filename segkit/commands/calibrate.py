"""Find the temperature that makes probabilities believable, on the validation split, and store it in the checkpoint."""

import argparse
from pathlib import Path

from segkit.commands.output import say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", type=Path, help="such as runs/NAME/checkpoints/best.pt")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings to change, as in data.root=DIR")
    parser.add_argument("--dry-run", action="store_true", help="print the temperature, and store nothing")


def run(arguments: argparse.Namespace) -> int:
    from segkit.calibrate import calibrate

    result = calibrate(arguments.checkpoint, arguments.overrides, store=not arguments.dry_run)
    before, after = result.before, result.after
    say(str(result.protocol))
    say(f"temperature {result.temperature:.3f}, fitted on {result.num_pixels} labelled pixels")
    say(
        "found on one half of the images, on the other half:",
        f"  ECE {100 * before.ece:.2f} % before, {100 * after.ece:.2f} % after",
        f"  NLL {before.nll:.4f} before, {after.nll:.4f} after (nats per pixel)",
    )
    if result.written:
        say(f"written: {', '.join(map(str, result.written))}")
        say("segkit eval and predict divide scores by it with --calibrated; no class id changes")
    elif not arguments.dry_run:
        say(f"nothing to write: {arguments.checkpoint} held this temperature before")
    return 0
