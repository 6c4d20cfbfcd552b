"""Find labels that are probably wrong: regions where a sure model contradicts them, as a list and a page."""

import argparse
from pathlib import Path

from segkit.commands.output import say
from segkit.commands.words import split_words
from segkit.errors import ConfigError
from segkit.runtime.process import importing

SHOWN = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "words",
        nargs="+",
        metavar="checkpoint|key=value",
        help="a checkpoint, or those of all folds, as in RUN/fold*/checkpoints/last.pt, so that each image is judged "
        "by a model that wasn't trained on it. Settings to change, as in data.root=DIR",
    )
    parser.add_argument("--split", help="which images to look at (default: data.val, which training held out)")
    parser.add_argument("--top", type=int, default=100, metavar="N", help="regions to list (default: 100)")
    parser.add_argument(
        "--output", type=Path, default=Path("suspects"), help="folder for suspects.csv and suspects.html"
    )


def run(arguments: argparse.Namespace) -> int:
    paths, overrides = split_words(arguments.words)
    if not paths:
        raise ConfigError("suspects: found no checkpoint, expected one, such as runs/NAME/checkpoints/best.pt")
    if arguments.top < 1:
        raise ConfigError(f"--top {arguments.top}: expected a number from 1")
    with importing():
        from segkit.suspects import find_suspects

    result = find_suspects(
        [Path(path) for path in paths],
        overrides,
        split=arguments.split,
        top=arguments.top,
        output=arguments.output,
    )
    names = result.classes.names
    for rank, region in enumerate(result.regions[:SHOWN], start=1):
        top, left, height, width = region.box
        say(
            f"{rank:3d}  {region.image}: labelled {names[region.label]}, looks like {names[region.predicted]} "
            f"({100 * region.confidence:.0f} % sure), {width}x{height} at x {left}, y {top}"
        )
    say(f"{len(result.regions)} suspects in {result.num_images} images")
    say(f"written: {arguments.output / 'suspects.csv'}, {arguments.output / 'suspects.html'}")
    return 0
