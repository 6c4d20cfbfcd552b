"""Rank images without labels: which to label next, with pre-labels for the first of them."""

import argparse
from pathlib import Path

from segkit.commands.output import say
from segkit.errors import ConfigError
from segkit.runtime.process import importing

SHOWN = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "checkpoints",
        nargs="+",
        type=Path,
        metavar="checkpoint",
        help="such as runs/NAME/checkpoints/best.pt; several are an ensemble, or disagree",
    )
    parser.add_argument("images", metavar="IMAGES", help="a folder, an image, a pattern or a list, as for predict")
    parser.add_argument(
        "--by",
        choices=("entropy", "margin", "disagreement"),
        default="entropy",
        help="entropy of the class probabilities, how close the second class comes, or how far several models disagree "
        "(default: entropy)",
    )
    parser.add_argument("--diverse", action="store_true", help="prefer images that are unlike those before them")
    parser.add_argument("--top", type=int, default=50, metavar="N", help="images to write pre-labels for (default: 50)")
    parser.add_argument("--output", type=Path, default=Path("ranking"), help="folder (default: ranking)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps (default: auto)")


def run(arguments: argparse.Namespace) -> int:
    if arguments.top < 0:
        raise ConfigError(f"--top {arguments.top}: expected a number from 0")
    with importing():
        from segkit.rank import rank_images

    result = rank_images(
        arguments.checkpoints,
        arguments.images,
        arguments.output,
        by=arguments.by,
        diverse=arguments.diverse,
        top=arguments.top,
        device=arguments.device,
    )
    for rank, image in enumerate(result.images[:SHOWN], start=1):
        say(f"{rank:3d}  {image.score:.4f}  {image.path}" if not image.error else f"error: {image.error}")
    failed = f", {result.num_failed} can't be read" if result.num_failed else ""
    say(f"{len(result.images)} images{failed}")
    say(f"written: {arguments.output}/ ranking.csv, contact_sheet.png, prelabels/")
    return 1 if result.num_failed else 0
