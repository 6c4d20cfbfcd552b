"""Figures as text: the per-class table that a terminal shows, and the confusion matrix as CSV."""

import csv
import io
import math
import statistics
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from segkit.classes import Classes
from segkit.datasets.masks import color_of
from segkit.evaluation.bootstrap import Interval
from segkit.evaluation.confusion import Scores
from segkit.evaluation.measurement import Measured
from segkit.prediction.cells import neutral


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


def scores_table(scores: Scores, classes: Classes, intervals: Mapping[str, Interval] | None = None) -> str:
    """Return the per-class figures in percent, widest first the names, and the means below; '-' where undefined.

    With `intervals`, IoU has its 95 % interval beside it.
    """
    width = max(12, *(len(name) for name in classes.names))
    iou = intervals["iou"] if intervals else None
    head = f"{'class':<{width}}  {'IoU':>6}  " + (f"{'95 %':^13}  " if iou else "")
    head += f"{'recall':>6}  {'precis':>6}  {'Dice':>6}  {'pixels':>7}"
    rule = "-" * len(head)
    total = max(1, int(scores.truth_pixels.sum()))
    lines = [head, rule]
    for k, name in enumerate(classes.names):
        figures = (scores.accuracy[k], scores.precision[k], scores.dice[k])
        share = 100 * scores.truth_pixels[k] / total
        between = f"  {_between(iou.low[k], iou.high[k]):>13}" if iou else ""
        cells = "  ".join(_percent(figure) for figure in figures)
        lines.append(f"{name:<{width}}  {_percent(scores.iou[k])}{between}  {cells}  {share:6.2f}%")
    means = "  ".join(_percent(figure) for figure in (scores.mean_accuracy, scores.mean_precision, scores.mean_dice))
    between = f"  {_between(*iou.mean):>13}" if iou else ""
    lines += [
        rule,
        f"{'mean':<{width}}  {_percent(scores.miou)}{between}  {means}",
        f"mIoU {percent(scores.miou)}   pixel accuracy {percent(scores.pixel_accuracy)}   frequency-weighted IoU "
        f"{percent(scores.fw_iou)}   {scores.num_images} images",
    ]
    return "\n".join(lines)


TITLES = {  # of figures, as a reader is told them
    "iou": "IoU",
    "accuracy": "recall",
    "precision": "precision",
    "dice": "Dice",
    "pixel_accuracy": "pixel accuracy",
    "fw_iou": "frequency-weighted IoU",
    "boundary_iou": "boundary IoU",
    "boundary_f": "boundary F",
    "surface_dice": "surface Dice",
    "iou_small": "IoU of small objects",
    "iou_medium": "IoU of medium objects",
    "iou_large": "IoU of large objects",
    "object_ap": "AP of objects",
    "object_ap_11": "AP of objects, 11 points",
    "average_precision": "AP of pixels",
    "ece": "ECE",
    "classwise_ece": "classwise ECE",
}


def figures_table(measured: Measured) -> str:
    """Return the figures beside the confusion matrix, means over classes in percent with 95 % intervals, a line each;
    below them the distribution over images, and what other protocols would report.
    """
    width = max(len(title) for title in TITLES.values())
    lines = []
    for name in measured.figures:
        interval = measured.intervals.get(name)
        between = f"  {_between(*interval.mean)}" if interval else ""
        lines.append(f"{TITLES[name]:<{width}}  {_percent(measured.mean(name))}{between}")
    spread = measured.distribution()
    if spread["mean"] is not None:
        mean, median, worst, low = (_percent(spread[key]).strip() for key in ("mean", "median", "min", "p5"))
        words = f"(the mean; median {median}, worst {worst}, 5 % are below {low})"
        lines.append(f"{'mIoU of one image':<{width}}  {mean:>6}  {words}")
    lines += [f"{f'also: mIoU, {name}':<{width}}  {_percent(other.miou)}" for name, other in measured.others.items()]
    return "\n".join(lines)


def images_csv(measured: Measured) -> str:
    """Return a row per image as CSV: name, mIoU, pixel accuracy, labelled pixels, IoU by class; empty if undefined."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    iou_names = [f"iou_{name}" for name in measured.classes.names]
    writer.writerow(["name", "miou", "pixel_accuracy", "labelled_pixels", *iou_names])
    for row in measured.rows:
        ious = [cell(value) for value in row.iou.tolist()]
        labelled = int(row.marginals[1].sum())
        writer.writerow([neutral(row.name), cell(row.miou), cell(row.pixel_accuracy), labelled, *ious])
    return text.getvalue()


def cell(value: float | None) -> str:
    """Return a figure as a cell of CSV: all its digits, empty where it is undefined."""
    return "" if value is None or math.isnan(value) else repr(float(value))


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


def _percent(value: float | None) -> str:
    return f"{'-':>6}" if value is None or math.isnan(value) else f"{100 * value:6.2f}"


def _between(low: float, high: float) -> str:
    return "-" if math.isnan(low) else f"{100 * low:.2f}..{100 * high:.2f}"
