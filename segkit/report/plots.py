"""Figures as PNG files, for papers and slides: curves of a training and of its rate, IoU by class, confusion."""

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from segkit.evaluation.measurement import Measured

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 130
BAR_HEIGHT, CELL = 0.28, 0.42  # inches
MOST_WRITTEN = 25  # classes up to which the cells of the matrix hold their numbers


def curves_png(epochs: Sequence[Mapping[str, str]]) -> bytes:
    """Return loss, mIoU and learning rate over epochs side by side, of the rows of log.csv."""
    figure = _figure(11, 3.2)
    panels = (
        ("loss", {"train_loss": "training", "val_loss": "validation"}),
        ("mIoU", {"miou": "validation"}),
        ("learning rate", {"lr": "decoder"}),
    )
    for number, (title, columns) in enumerate(panels, start=1):
        axes = figure.add_subplot(1, 3, number)
        for column, name in columns.items():
            rows = [row for row in epochs if row.get(column)]
            marker = "o" if len(rows) < 20 else ""
            axes.plot(
                [int(row["epoch"]) for row in rows],
                [float(row[column]) for row in rows],
                label=name, marker=marker, markersize=3,
            )  # fmt: skip
        axes.set_title(title)
        axes.set_xlabel("epoch")
        axes.grid(alpha=0.3)
        if len(columns) > 1:
            axes.legend()
    return _png(figure)


def schedule_png(epochs: Sequence[float], rates: Mapping[str, Sequence[float]]) -> bytes:
    """Return the learning rate over epochs, a curve for each name."""
    figure = _figure(6.5, 3.2)
    axes = figure.add_subplot()
    for name, values in rates.items():
        axes.plot(epochs, values, label=name)
    axes.set_xlabel("epoch")
    axes.set_ylabel("learning rate")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    if len(rates) > 1:
        axes.legend()
    return _png(figure)


def range_test_png(
    rates: Sequence[float], losses: Sequence[float], smoothed: Sequence[float], suggestion: float | None
) -> bytes:
    """Return the loss over the learning rate of a range test, as measured and smoothed, and the suggested rate."""
    figure = _figure(6.5, 3.6)
    axes = figure.add_subplot()
    axes.plot(rates, losses, color="#56b4e9", alpha=0.5, linewidth=0.8, label="loss of each step")
    axes.plot(rates, smoothed, color="#0072b2", label="smoothed")
    if suggestion is not None:
        axes.axvline(suggestion, color="#d55e00", linestyle="--", label=f"suggested: {suggestion:.2g}")
    axes.set_xscale("log")
    axes.set_xlabel("learning rate")
    axes.set_ylabel("loss")
    axes.grid(alpha=0.3)
    axes.legend()
    return _png(figure)


def classes_png(measured: Measured) -> bytes:
    """Return IoU by class as bars, with 95 % intervals, best first; classes without a figure are left out."""
    iou, interval = measured.scores.iou, measured.intervals["iou"]
    order = [int(k) for k in np.argsort(iou) if not np.isnan(iou[k])]
    figure = _figure(6.5, 1.2 + BAR_HEIGHT * max(1, len(order)))
    axes = figure.add_subplot()
    values = 100 * iou[order]
    reach = [np.nan_to_num(values - 100 * interval.low[order]), np.nan_to_num(100 * interval.high[order] - values)]
    axes.barh([measured.classes.names[k] for k in order], values, xerr=np.maximum(reach, 0), color="#56b4e9", capsize=2)
    axes.set_xlabel(f"IoU, % (mean {100 * measured.scores.miou:.2f})")
    axes.set_xlim(0, 100)
    axes.grid(axis="x", alpha=0.3)
    return _png(figure)


def confusion_png(measured: Measured) -> bytes:
    """Return the confusion matrix, rows (truth) in percent of their pixels."""
    names = measured.classes.names
    shares = 100 * measured.scores.counts / np.maximum(1, measured.scores.truth_pixels)[:, None]
    side = 2.2 + CELL * len(names)
    figure = _figure(side + 0.8, side)
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    axes.set_xticks(range(len(names)), names, rotation=90)
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("prediction")
    axes.set_ylabel("truth")
    if len(names) <= MOST_WRITTEN:
        for (row, column), share in np.ndenumerate(shares):
            if share >= 0.05:
                ink = "white" if share > 60 else "black"
                axes.text(column, row, f"{share:.1f}", ha="center", va="center", fontsize=6.5, color=ink)
    figure.colorbar(image, ax=axes, label="% of the row", shrink=0.8)
    return _png(figure)


def _figure(width: float, height: float) -> "Figure":
    from matplotlib.figure import Figure  # here: it takes half a second, and what prints tables does without

    return Figure(figsize=(width, height), layout="constrained")


def _png(figure: "Figure") -> bytes:
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=DPI)
    return content.getvalue()
