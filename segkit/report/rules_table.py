"""Trials of post-processing rules as text."""

import math
from itertools import groupby

from segkit.classes import Classes
from segkit.evaluation.tuning import Trial, Tuning


def rules_table(tuning: Tuning, classes: Classes) -> str:
    """Return a row per rule that gained where it was chosen, and per class without one; mIoU and gains in percent."""
    rows = [("class", "rule", "before", "after", "gain, 95 % interval", "kept")]
    for class_id, group in groupby(tuning.trials, key=lambda trial: trial.class_id):
        tried = [trial for trial in group if trial.rule]
        rows += [_row(classes.names[class_id], trial) for trial in tried]
        if not tried:
            rows.append((classes.names[class_id], "-", "", "", "", "no rule gains"))
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    rule = "-" * max(map(len, lines))
    low, high = tuning.interval
    total = f"mIoU {_percent(tuning.before)} before, {_percent(tuning.after)} after; gain {_gain(low, high)}"
    return "\n".join([lines[0], rule, *lines[1:], rule, total])


def _row(name: str, trial: Trial) -> tuple[str, str, str, str, str, str]:
    assert trial.rule is not None
    gain = _gain(*trial.interval) if trial.interval else ""
    kept = "yes" if trial.kept else f"no: {trial.why}"
    return name, trial.rule.describe(), _percent(trial.before), _percent(trial.after), gain, kept


def _gain(low: float, high: float) -> str:
    return "-" if math.isnan(low) else f"{100 * low:+.2f} .. {100 * high:+.2f}"


def _percent(value: float) -> str:
    return "-" if math.isnan(value) else f"{100 * value:.2f}"
