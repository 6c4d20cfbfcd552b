"""Figures as text: the per-class table that a terminal shows, and the confusion matrix as CSV."""

import csv
import io
import math
from collections.abc import Collection, Mapping, Sequence

from segkit.classes import Classes
from segkit.metrics import Scores


def scores_table(scores: Scores, classes: Classes) -> str:
    """Return the per-class figures in percent, widest first the names, and the means below; '-' where undefined."""
    width = max(12, *(len(name) for name in classes.names))
    head = f"{'class':<{width}}  {'IoU':>6}  {'recall':>6}  {'precis':>6}  {'Dice':>6}  {'pixels':>7}"
    rule = "-" * len(head)
    total = max(1, int(scores.truth_pixels.sum()))
    lines = [head, rule]
    for k, name in enumerate(classes.names):
        figures = (scores.iou[k], scores.accuracy[k], scores.precision[k], scores.dice[k])
        share = 100 * scores.truth_pixels[k] / total
        lines.append(f"{name:<{width}}  " + "  ".join(_percent(figure) for figure in figures) + f"  {share:6.2f}%")
    means = (scores.miou, scores.mean_accuracy, scores.mean_precision, scores.mean_dice)
    lines += [
        rule,
        f"{'mean':<{width}}  " + "  ".join(_percent(figure) for figure in means),
        f"mIoU {percent(scores.miou)}   pixel accuracy {percent(scores.pixel_accuracy)}   frequency-weighted IoU "
        f"{percent(scores.fw_iou)}   {scores.num_images} images",
    ]
    return "\n".join(lines)


def weights_table(names: Sequence[str], shares: Sequence[float], weights: Sequence[float] | None) -> str:
    """Return the classes with their share of the labelled pixels (0..1) and, if there are any, their loss weights."""
    width = max(len(name) for name in names)
    lines = []
    for k, (name, share) in enumerate(zip(names, shares, strict=True)):
        weight = "" if weights is None else f"   weight {weights[k]:.3f}"
        lines.append(f"  {name:<{width}}  {100 * share:6.2f} % of pixels{weight}")
    return "\n".join(lines)


def split_table(
    splits: Mapping[str, Sequence[str]], labels: Mapping[str, Collection[int]], class_names: Sequence[str]
) -> str:
    """Return how many pictures each split has, and how many of them show each class.

    `labels` are the values that a picture's label stores; `class_names` name them where they are ids. What a fold is
    trained on is left out: it is the other folds.
    """
    shown = [name for name in splits if not name.endswith("_train")]

    def name_of(value: int) -> str:
        if value < len(class_names):
            return class_names[value]
        return f"{value}" if value < 256 else f"{[value >> 16, value >> 8 & 255, value & 255]}"

    values = sorted({value for found in labels.values() for value in found})
    rows = [(name_of(value), [sum(value in labels[n] for n in splits[split]) for split in shown]) for value in values]
    rows.append(("pictures", [len(splits[split]) for split in shown]))
    first = max(len(name) for name, _ in rows)
    widths = [max(6, len(split)) for split in shown]
    head = f"{'shown in':<{first}}" + "".join(f"  {split:>{w}}" for split, w in zip(shown, widths, strict=True))
    lines = [
        f"{name:<{first}}" + "".join(f"  {count:>{w}}" for count, w in zip(counts, widths, strict=True))
        for name, counts in rows
    ]
    return "\n".join([head, "-" * len(head), *lines[:-1], "-" * len(head), lines[-1]])


def confusion_csv(scores: Scores, classes: Classes) -> str:
    """Return the confusion matrix as CSV with class names: rows are truth, columns are predictions, cells pixels."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["truth \\ prediction", *classes.names])
    for name, row in zip(classes.names, scores.counts.tolist(), strict=True):
        writer.writerow([name, *row])
    return text.getvalue()


def percent(value: float) -> str:
    """0.65432 -> '65.43 %'; '-' for NaN."""
    return "-" if math.isnan(value) else f"{100 * value:.2f} %"


def _percent(value: float) -> str:
    return f"{'-':>6}" if math.isnan(value) else f"{100 * value:6.2f}"
