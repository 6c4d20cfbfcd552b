"""`report.html`: what a model reaches, how sure that is, and where it fails, in one file that needs nothing else."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

from segkit import __version__
from segkit.evaluation.calibration import BINS, reliability
from segkit.evaluation.measurement import Measured
from segkit.evaluation.precision_recall import curves
from segkit.report.charts import Line, bar_chart, line_chart, style_of
from segkit.report.gallery import Choice, Shown, feeders
from segkit.report.tables import TITLES

COLUMNS = (  # of the table by class, as far as they were measured
    "iou", "accuracy", "precision", "dice", "boundary_iou", "boundary_f", "surface_dice", "average_precision",
    "object_ap", "iou_small", "iou_medium", "iou_large", "classwise_ece",
)  # fmt: skip
CURVE_POINTS = 101


@dataclass(frozen=True)
class RunFacts:
    """What the page says of the run that trained the model, as far as it is known: rows of log.csv, the number of
    images by split, config.yaml and environment.json as text.
    """

    epochs: Sequence[dict[str, str]] = ()
    images: dict[str, int] = field(default_factory=dict)
    config: str = ""
    environment: str = ""


def report_page(
    title: str,
    protocol: str,
    measured: Measured,
    *,
    choices: Sequence[Choice] = (),
    images: Sequence[Shown] = (),
    run: RunFacts | None = None,
) -> str:
    """Return the page as HTML."""
    run = run or RunFacts()
    return render(
        "report.html.j2",
        title=title,
        protocol=protocol,
        scores=measured.scores,
        headline=_headline(measured),
        columns=[(name, TITLES[name]) for name in COLUMNS if name in measured.intervals or name in measured.figures],
        classes=_class_rows(measured),
        matrix=_matrix(measured),
        cells=_as_json(_cells(measured, images)),
        groups=_groups(choices, images),
        charts=list(_charts(measured)),
        training=list(_training(run)),
        run=run,
    )


def render(template: str, **values: Any) -> str:
    """Return a page of templates/ as HTML, with style and script inside."""

    def text(name: str) -> str:
        return files("segkit.report").joinpath("templates", name).read_text(encoding="utf-8")

    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(text),
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined,
    )  # fmt: skip
    style, script = Markup(text("report.css")), Markup(text("report.js"))
    return environment.get_template(template).render(version=__version__, style=style, script=script, **values)


def _percent(value: float) -> str:
    return "-" if np.isnan(value) else f"{100 * value:.2f}"


@dataclass(frozen=True)
class _Figure:
    title: str
    value: str
    between: str


def _headline(measured: Measured) -> list[_Figure]:
    """Return mIoU first, then the other figures of all classes."""
    scores, intervals = measured.scores, measured.intervals
    values = {"iou": scores.miou, "pixel_accuracy": scores.pixel_accuracy, "fw_iou": scores.fw_iou}
    values |= {name: measured.mean(name) for name in measured.figures}
    found = []
    for name, value in values.items():
        low, high = intervals[name].mean if name in intervals else (np.nan, np.nan)
        between = "" if np.isnan(low) else f"95 %: {_percent(low)} to {_percent(high)}"
        found.append(_Figure("mIoU" if name == "iou" else TITLES[name], _percent(value), between))
    return found


@dataclass(frozen=True)
class _ClassRow:
    name: str
    color: str
    share: str  # of the labelled pixels, in percent
    between: str
    bar: tuple[float, float, float]  # IoU and its interval, 0..100
    cells: list[tuple[str, float]]  # text, and what to sort by


def _class_rows(measured: Measured) -> list[_ClassRow]:
    scores, classes = measured.scores, measured.classes
    by_class = {name: getattr(scores, name) for name in ("iou", "accuracy", "precision", "dice")} | measured.figures
    interval = measured.intervals["iou"]
    labelled = max(1, int(scores.truth_pixels.sum()))
    rows = []
    for k, (name, color) in enumerate(zip(classes.names, classes.colors, strict=True)):
        values = [float(by_class[column][k]) for column in COLUMNS if column in by_class]
        low, high = (float(np.nan_to_num(bound[k])) for bound in (interval.low, interval.high))
        rows.append(
            _ClassRow(
                name,
                "#{:02x}{:02x}{:02x}".format(*color),
                f"{100 * scores.truth_pixels[k] / labelled:.2f}",
                "" if np.isnan(interval.low[k]) else f"{_percent(low)} to {_percent(high)}",
                (100 * float(np.nan_to_num(scores.iou[k])), 100 * low, 100 * high),
                [(_percent(value), -1.0 if np.isnan(value) else value) for value in values],
            )
        )
    return rows


def _matrix(measured: Measured) -> list[tuple[str, list[tuple[int, float]]]]:
    """Return the rows of the confusion matrix: the true class, and pixels and share of the row, 0..1, of each cell."""
    counts = measured.scores.counts
    totals = np.maximum(1, measured.scores.truth_pixels)
    return [
        (name, [(int(pixels), float(pixels / total)) for pixels in row])
        for name, row, total in zip(measured.classes.names, counts, totals, strict=True)
    ]


def _cells(measured: Measured, images: Sequence[Shown]) -> dict[str, list[tuple[str, int, str]]]:
    """Return for each cell the images that feed it most: name, pixels, and the id of the image in the page or ''."""
    ids = {image.name: image.id for image in images}
    return {
        f"{true},{predicted}": [(name, pixels, ids.get(name, "")) for name, pixels in fed]
        for (true, predicted), fed in feeders(measured).items()
        if predicted < len(measured.classes)
    }


def _groups(choices: Sequence[Choice], images: Sequence[Shown]) -> list[tuple[str, list[tuple[Shown, str, bool]]]]:
    """Return the groups with their images and what is said of each; an image is whole where it first appears."""
    by_name, seen = {image.name: image for image in images}, set()
    groups = []
    for choice in choices:
        entries = []
        for name, words in choice.images.items():
            entries.append((by_name[name], words, name not in seen))
            seen.add(name)
        groups.append((choice.title, entries))
    return groups


@dataclass(frozen=True)
class _Chart:
    """A chart with its heading and an explanation; of several lines the name, colour and dashes of each."""

    heading: str
    note: str
    svg: Markup
    legend: list[tuple[str, str, str]] = field(default_factory=list)


def _legend(lines: Sequence[Line]) -> list[tuple[str, str, str]]:
    return [(line.name, *style_of(k)) for k, line in enumerate(lines)] if len(lines) > 1 else []


def _charts(measured: Measured) -> Iterator[_Chart]:
    """Yield charts of what was measured."""
    total = measured.total("precision_recall")
    if total is not None:
        precision, recall = curves(total)
        lines = []
        for k, name in enumerate(measured.classes.names):
            at = np.unique(np.searchsorted(recall[:, k], np.linspace(0, 1, CURVE_POINTS)).clip(0, len(recall) - 1))
            points = np.stack([recall[at, k], precision[at, k]], axis=1).tolist()
            lines.append(Line(name, [] if np.isnan(recall[-1, k]) else points))
        note = "Of the pixels of each class, over thresholds of its probability."
        chart = line_chart(lines, x_label="recall", y_label="precision", x_range=(0, 1), y_range=(0, 1))
        yield _Chart("Precision and recall", note, Markup(chart), _legend(lines))
    total = measured.total("calibration")
    if total is not None:
        bars = [
            (int(confidence * BINS - 1e-9) / BINS, (int(confidence * BINS - 1e-9) + 1) / BINS, accuracy)
            for _, confidence, accuracy in reliability(total)
        ]
        note = "Of all pixels. Where bars stay below the line, the model is surer than it is right."
        chart = bar_chart(bars, x_label="confidence", y_label="accuracy", diagonal=True)
        yield _Chart("Reliability", note, Markup(chart))
    miou = measured.per_image_miou
    counts, edges = np.histogram(miou[~np.isnan(miou)], bins=20, range=(0, 1))
    bars = list(zip(edges[:-1].tolist(), edges[1:].tolist(), counts.tolist(), strict=True))
    chart = bar_chart(bars, x_label="mIoU", y_label="images")
    yield _Chart("mIoU of single images", "How many images reach which mIoU.", Markup(chart))


def _training(run: RunFacts) -> Iterator[_Chart]:
    """Yield charts of the columns of log.csv."""

    def line(column: str, name: str) -> Line:
        rows = [row for row in run.epochs if row.get(column)]
        return Line(name, [(float(row["epoch"]), float(row[column])) for row in rows])

    for heading, y_label, lines in (
        ("Loss", "loss", [line("train_loss", "training"), line("val_loss", "validation")]),
        ("mIoU", "mIoU", [line("miou", "validation")]),
        ("Learning rate", "learning rate", [line("lr", "decoder")]),
    ):
        drawn = [each for each in lines if each.points]
        if drawn:
            chart = line_chart(drawn, x_label="epoch", y_label=y_label)
            yield _Chart(heading, "", Markup(chart), _legend(drawn))


def _as_json(content: Any) -> Markup:
    """Return JSON that may stand in a script element: no tag can end it."""
    return Markup(json.dumps(content).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))
