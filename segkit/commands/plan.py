"""Measure what a run will take: time, memory, disk, and what limits it."""

import argparse
from pathlib import Path

from segkit.commands.output import say
from segkit.config.reading import load_config
from segkit.errors import SegkitError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", type=Path, help="YAML file, such as configs/demo.yaml")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings, as in train.batch_size=auto")
    parser.add_argument("--steps", type=int, default=12, help="how many steps to measure (default: %(default)s)")
    parser.add_argument(
        "--memory-share", type=float, default=0.8, help="what train.batch_size=auto may take (default: %(default)s)"
    )


def run(arguments: argparse.Namespace) -> int:
    if arguments.steps < 5 or not 0 < arguments.memory_share <= 1:
        raise SegkitError("plan: expected --steps of at least 5 and a --memory-share above 0 and up to 1")
    config = load_config(arguments.config, arguments.overrides)
    from segkit.plan import describe_plan, make_plan

    say(describe_plan(make_plan(config, num_steps=arguments.steps, memory_share=arguments.memory_share)))
    return 0
