"""What `segkit check` prints: the data set in numbers, then the findings in order of harm."""

from collections.abc import Sequence

from segkit.doctor.examination import Examined, Finding
from segkit.doctor.statistics import Measures, measure
from segkit.errors import count
from segkit.report.class_tables import weight_rules_table

SHOWN = 10  # files of a finding


def describe_examined(examined: Examined) -> str:
    """Return the data set in numbers: images by split, sizes, channels, classes."""
    splits = ", ".join(f"{split} {len(indices)}" for split, indices in examined.inventory.splits.items())
    lines = [f"data    {examined.data.root}: {len(examined.items)} images ({splits}), {len(examined.classes)} classes"]
    measures = measure(examined.facts)
    if measures:
        lines += [
            f"sizes   {describe_sizes(measures)}",
            f"canvas  median size in multiples of 32: data.canvas: {list(measures.canvas_hw)}",
            f"pixels  RGB mean {_numbers(measures.mean)}, deviation {_numbers(measures.deviation)}, of 0..1",
        ]
    lines.append(class_table(examined))
    if weights := suggested_weights(examined):
        lines += ["", "weights that loss.class_weights gives on the training split, by rule:", weights]
    return "\n".join(lines)


def suggested_weights(examined: Examined) -> str:
    """Return the table of class weights by every rule, from the training split; '' where nothing is labelled there."""
    splits = examined.inventory.splits
    split = examined.data.train if examined.data.train in splits else next(iter(splits))
    return weight_rules_table(examined.classes, examined.survey(split)) if examined.pixels(split).sum() else ""


def describe_sizes(measures: Measures) -> str:
    """Return '480x360 (all)', or the median, the extremes and the aspect ratios; width x height."""
    if len(measures.sizes) == 1:
        return f"{_size(next(iter(measures.sizes)))} (all)"
    by_area = sorted(measures.sizes, key=lambda hw: hw[0] * hw[1])
    return (
        f"{len(measures.sizes)} different, median {_size(measures.median_hw)}, from {_size(by_area[0])} to "
        f"{_size(by_area[-1])}, width / height {measures.aspects[0]:.2f} to {measures.aspects[1]:.2f}"
    )


def class_table(examined: Examined) -> str:
    """Return for each class its share of the labelled pixels, and in how many images of each split it is shown."""
    splits = list(examined.inventory.splits)
    width = max(5, *(len(name) for name in examined.classes.names))
    widths = [max(6, len(split)) for split in splits]
    total = max(1, sum(int(examined.pixels(split).sum()) for split in splits))
    head = f"{'class':<{width}}  {'pixels':>8}  " + "  ".join(
        f"{split:>{w}}" for split, w in zip(splits, widths, strict=True)
    )
    shown = [examined.shown(split).tolist() for split in splits]
    lines = [head, "-" * len(head)]
    for k, name in enumerate(examined.classes.names):
        share = 100 * sum(int(examined.pixels(split)[k]) for split in splits) / total
        counts = "  ".join(f"{counts[k]:>{w}}" for counts, w in zip(shown, widths, strict=True))
        lines.append(f"{name:<{width}}  {share:7.3f}%  {counts}")
    return "\n".join(lines)


def describe_finding(finding: Finding, *, shown: int = SHOWN) -> str:
    """Return a finding's severity, count and title, its first files, and what to do."""
    lines = [f"{finding.severity + ':':<8} {finding.title}: {len(finding.lines)}"]
    lines += [f"    {line}" for line in finding.lines[:shown]]
    if len(finding.lines) > shown:
        lines.append(f"    ... and {len(finding.lines) - shown} more")
    return "\n".join([*lines, f"    -> {finding.remedy}"])


def describe_outcome(findings: Sequence[Finding]) -> str:
    """Return how many findings of each severity there are: '1 error, 2 warnings'."""
    counts = [(kind, sum(finding.severity == kind for finding in findings)) for kind in ("error", "warning", "note")]
    said = [count(number, kind) for kind, number in counts if number]
    return ", ".join(said) or "nothing to complain about"


def _size(hw: tuple[int, int]) -> str:
    return f"{hw[1]}x{hw[0]}"


def _numbers(values: Sequence[float]) -> str:
    return " ".join(f"{value:.3f}" for value in values)
