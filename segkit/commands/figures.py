"""Options of the commands that score: which figures, and what absent classes count."""

import argparse

from segkit.errors import ConfigError
from segkit.runtime.process import importing


def add_figures(parser: argparse.ArgumentParser, families: str) -> None:
    parser.add_argument(
        "--figures",
        metavar="LIST",
        help=f"which figures to measure beside the confusion matrix: all, none, or some of {families} (default: all)",
    )


def add_absent(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--absent-classes",
        choices=("ignore", "zero", "one"),
        default="ignore",
        help="what a class without any pixel, true or predicted, counts in a mean (default: ignore)",
    )


def family_names(text: str | None) -> list[str] | None:
    """Return the families that --figures names; None for all. Raises ConfigError for an unknown one."""
    if text in (None, "all"):
        return None
    with importing():
        from segkit.evaluation.families import FAMILIES

    return names(text, tuple(FAMILIES), "--figures")


def names(text: str | None, known: tuple[str, ...], option: str) -> list[str]:
    """Return the names in a list such as 'boundary,objects'; raises ConfigError for one that isn't known."""
    found = [name.strip() for name in (text or "none").split(",") if name.strip() != "none"]
    for name in found:
        if name not in known:
            raise ConfigError(f"{option}: found {name!r}, expected {', '.join(known)}, or none")
    return found
