"""Find a learning rate: train for some steps while the rate rises, and show what the loss does."""

import argparse
from pathlib import Path

from segkit.commands.output import say
from segkit.config.reading import load_config
from segkit.errors import SegkitError
from segkit.runtime.process import importing


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", type=Path, help="YAML file, such as configs/demo.yaml")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings, as in optim.name=sgd")
    parser.add_argument("--steps", type=int, default=100, help="how many steps to train (default: %(default)s)")
    parser.add_argument("--lowest", type=float, default=1e-6, help="rate of the first step (default: %(default)s)")
    parser.add_argument("--highest", type=float, default=1.0, help="rate of the last step (default: %(default)s)")
    parser.add_argument(
        "--output", type=Path, metavar="FILE.png", help="the curve, with a .csv beside it (default: lr-find-NAME.png)"
    )


def run(arguments: argparse.Namespace) -> int:
    if arguments.steps < 10 or not 0 < arguments.lowest < arguments.highest:
        raise SegkitError("lr-find: expected --steps of at least 10, and --lowest above 0 and below --highest")
    output = arguments.output or Path(f"lr-find-{arguments.config.stem}.png")
    if output.suffix != ".png":
        raise SegkitError(f"--output {output}: expected a name that ends in .png")
    config = load_config(arguments.config, arguments.overrides)
    with importing():
        from segkit.lr_find import describe_found_rate, find_lr, write_found_rate
        from segkit.report.text_plot import terminal_width

    found = find_lr(config, lowest=arguments.lowest, highest=arguments.highest, num_steps=arguments.steps)
    written = write_found_rate(found, output)
    say(describe_found_rate(found, width=terminal_width()), *(f"written: {path}" for path in written))
    return 0
