"""A comparison of two models in words, and as a table for terminals."""

import math

from segkit.classes import Classes
from segkit.evaluation.comparison import Comparison, Difference


def verdict(first: str, second: str, comparison: Comparison) -> str:
    """Return in words by how much the second model differs from the first, and whether it could be chance."""
    found = comparison.miou
    if math.isnan(found.value):
        return f"{first} and {second} have no mIoU on these images: they share no labelled class."
    if found.value == 0 and found.low == found.high == 0:
        return f"{second} and {first} predict alike: the same figures on every image."
    better, worse = (second, first) if found.value > 0 else (first, second)
    by = f"{100 * abs(found.value):.2f} points of mIoU"
    low, high = sorted((100 * abs(found.low), 100 * abs(found.high)))
    if found.is_significant:
        words = f"{better} is better than {worse} by {by} (95 %: {low:.2f} to {high:.2f}, {_p(found.p)})."
        words += " Chance in the choice of images hardly explains it."
    else:
        words = (
            f"{better} is ahead of {worse} by {by}, which could be chance (95 %: {100 * found.low:+.2f} to "
            f"{100 * found.high:+.2f} for {second}, {_p(found.p)})."
        )
    if comparison.counts_training:
        return words + f" The noise of training counts: {_sides(comparison)} trainings."
    return words + (
        f" But the noise of training isn't in this ({_sides(comparison)} trainings): another seed of the same recipe "
        "may differ as much. To count it, give several seeds a side, separated by commas."
    )


def comparison_table(first: str, second: str, classes: Classes, comparison: Comparison, ious: list[list[float]]) -> str:
    """Return IoU of both sides by class in percent, the difference with its interval, p over all classes (Holm), and a
    star where it is below 0.05. ious: of each side, mIoU last.
    """
    names = [*classes.names, "mean"]
    width = max(5, *(len(name) for name in names))
    columns = [name[-12:] for name in (first, second)]
    head = f"{'IoU':<{width}}  {columns[0]:>12}  {columns[1]:>12}  {'change':>7}  {'95 %':^16}  {'p':>6}"
    lines = [head, "-" * len(head)]
    for name, old, new, found in zip(names, *ious, [*comparison.classes, comparison.miou], strict=True):
        if name == "mean" and found is comparison.miou:
            lines.append("-" * len(head))
        star = " *" if found.is_significant else ""
        lines.append(
            f"{name:<{width}}  {_percent(old):>12}  {_percent(new):>12}  {_points(found.value):>7}  "
            f"{_between(found):^16}  {_short_p(found.p):>6}{star}"
        )
    return "\n".join(lines)


def _between(found: Difference) -> str:
    return "-" if math.isnan(found.low) else f"{100 * found.low:+.2f}..{100 * found.high:+.2f}"


def _sides(comparison: Comparison) -> str:
    return " and ".join(str(number) for number in comparison.trainings)


def _percent(value: float) -> str:
    return "-" if math.isnan(value) else f"{100 * value:.2f}"


def _points(value: float) -> str:
    return "-" if math.isnan(value) else f"{100 * value:+.2f}"


def _p(value: float) -> str:
    return f"p < {0.001}" if value < 0.001 else f"p = {value:.3f}"


def _short_p(value: float) -> str:
    return "-" if math.isnan(value) else "<0.001" if value < 0.001 else f"{value:.3f}"
