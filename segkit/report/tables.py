"""Figures as text: the per-class table that a terminal shows, and the confusion matrix as CSV."""

import csv
import io
import math
import statistics
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from segkit.classes import Classes
from segkit.datasets.masks import color_of
from segkit.evaluation.confusion import Scores


@dataclass(frozen=True)
class FoldRow:
    """What the run of a fold came to, on the images it holds out: the scores of its last epoch.

    `best` is the mIoU of its best epoch, which was chosen on these images; None where that is lost.
    """

    repeat: int
    number: int
    name: str
    scores: Scores
    best_epoch: int
    best: float | None


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


def split_table(
    splits: Mapping[str, Sequence[str]], labels: Mapping[str, Collection[int]], class_names: Sequence[str]
) -> str:
    """Return how many images each split has, and how many of them show each class.

    `labels` are the values that an image's label stores; `class_names` name them where they are ids. What a fold is
    trained on is left out: it is the other folds.
    """
    shown = [name for name in splits if not name.endswith("_train")]

    def name_of(value: int) -> str:
        if value < len(class_names):
            return class_names[value]
        return f"{value}" if value < 256 else f"{list(color_of(value))}"

    values = sorted({value for found in labels.values() for value in found})
    rows = [(name_of(value), [sum(value in labels[n] for n in splits[split]) for split in shown]) for value in values]
    rows.append(("images", [len(splits[split]) for split in shown]))
    first = max(len(name) for name, _ in rows)
    widths = [max(6, len(split)) for split in shown]
    head = f"{'shown in':<{first}}" + "".join(f"  {split:>{w}}" for split, w in zip(shown, widths, strict=True))
    lines = [
        f"{name:<{first}}" + "".join(f"  {count:>{w}}" for count, w in zip(counts, widths, strict=True))
        for name, counts in rows
    ]
    return "\n".join([head, "-" * len(head), *lines[:-1], "-" * len(head), lines[-1]])


def folds_table(rows: Sequence[FoldRow]) -> str:
    """Return the mIoU of each fold in percent, after its last and in its best epoch, and their mean and deviation."""
    width = max(9, *(len(row.name) for row in rows))
    head = f"{'fold':<{width}}  {'images':>8}  {'mIoU':>6}  {'best*':>6}  {'in epoch':>8}"
    rule = "-" * len(head)
    lines = [head, rule]
    for row in rows:
        best = math.nan if row.best is None else row.best
        lines.append(
            f"{row.name:<{width}}  {row.scores.num_images:8d}  {_percent(row.scores.miou)}  {_percent(best)}  "
            f"{row.best_epoch or '-':>8}"
        )
    last = mean_and_spread([row.scores.miou for row in rows])
    best_ones = mean_and_spread([row.best for row in rows if row.best is not None])
    lines.append(rule)
    for name, *figures in zip(("mean", "std (n-1)"), last, best_ones, strict=True):
        lines.append(f"{name:<{width}}  {'':8}  " + "  ".join(_percent(figure) for figure in figures))
    return "\n".join(lines)


def folds_csv(rows: Sequence[FoldRow], classes: Classes) -> str:
    """Return a row per fold as CSV: figures of 0..1 on what it holds out, empty where undefined."""

    def cell(value: float | None) -> str:
        return "" if value is None or math.isnan(value) else repr(float(value))

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    iou_names = [f"iou_{name}" for name in classes.names]
    writer.writerow(["name", "repeat", "fold", "num_images", "miou", "best_epoch", "best_miou", *iou_names])
    for row in rows:
        figures = [cell(value) for value in row.scores.iou]
        about = (row.name, row.repeat, row.number, row.scores.num_images)
        writer.writerow([*about, cell(row.scores.miou), row.best_epoch, cell(row.best), *figures])
    return text.getvalue()


def mean_and_spread(figures: Sequence[float]) -> tuple[float, float]:
    """Return the mean and the sample standard deviation (n-1) of what is not NaN; NaN where there is too little."""
    known = [figure for figure in figures if not math.isnan(figure)]
    mean = statistics.fmean(known) if known else math.nan
    return mean, statistics.stdev(known) if len(known) > 1 else math.nan


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
