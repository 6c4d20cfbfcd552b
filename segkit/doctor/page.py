"""`check.html`: one file with the findings, their images, histograms and random overlays, since a look finds what no
rule does. It needs nothing else: images are inside, there is no script, and no address is fetched.
"""

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

import cv2
import jinja2
import numpy as np

from segkit import __version__
from segkit.classes import voc_color
from segkit.datasets.images import read_image
from segkit.datasets.masks import MaskReader, read_stored_label
from segkit.doctor.examination import Examined, Finding
from segkit.doctor.statistics import Measures, measure
from segkit.doctor.text import SHOWN, describe_outcome, describe_sizes, suggested_weights
from segkit.errors import DataError
from segkit.imaging.overlay import overlay

MARK = "<!-- made by segkit check -->"  # of files that may be replaced
MOST_IMAGES = 12  # of a finding
NUM_OVERLAYS = 12
IMAGE_HW = (180, 320)  # what an image in the page fits into
CHART_HW = (240, 420)


@dataclass(frozen=True)
class Figure:
    """An image in the page: a data URI, and the words below it."""

    source: str
    caption: str


def check_page(
    examined: Examined, findings: Sequence[Finding], *, seed: int = 0, augmented: np.ndarray | None = None
) -> str:
    """Return the page; `augmented` is a sheet of training augmentations, uint8 RGB [h, w, 3], to show as well."""
    text = files("segkit.doctor").joinpath("templates/check.html.j2").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    measures = measure(examined.facts)
    return environment.from_string(text).render(
        mark=MARK,
        shown=SHOWN,
        version=__version__,
        root=examined.data.root,
        outcome=describe_outcome(findings),
        splits={split: len(indices) for split, indices in examined.inventory.splits.items()},
        num_images=len(examined.items),
        measures=measures,
        sizes=describe_sizes(measures) if measures else "",
        scatter=_scatter(measures) if measures else None,
        classes=_class_rows(examined),
        weights=suggested_weights(examined),
        findings=[(finding, _figures(examined, finding)) for finding in findings],
        overlays=_overlays(examined, seed=seed),
        augmented=_as_uri(augmented) if augmented is not None else None,
    )


# ---- numbers


@dataclass(frozen=True)
class _ClassRow:
    name: str
    color: str
    share: float  # of the labelled pixels, 0..1
    bar: float  # length for a logarithmic axis from 1e-5 to 1, 0..1
    shown: dict[str, int]


def _class_rows(examined: Examined) -> list[_ClassRow]:
    splits = list(examined.inventory.splits)
    pixels = sum((examined.pixels(split) for split in splits), np.zeros(len(examined.classes), np.int64))
    shares = pixels / max(1, pixels.sum())
    shown = {split: examined.shown(split).tolist() for split in splits}
    return [
        _ClassRow(
            name,
            "#{:02x}{:02x}{:02x}".format(*color),
            float(share),
            max(0.0, 1 + math.log10(share) / 5) if share > 0 else 0.0,
            {split: counts[k] for split, counts in shown.items()},
        )
        for k, (name, color, share) in enumerate(
            zip(examined.classes.names, examined.classes.colors, shares.tolist(), strict=True)
        )
    ]


@dataclass(frozen=True)
class _Scatter:
    """Points (x, y, radius, title) of a chart of CHART_HW, and the ticks of its axes (position, label)."""

    points: list[tuple[float, float, float, str]]
    x_ticks: list[tuple[float, int]]
    y_ticks: list[tuple[float, int]]
    width: int = CHART_HW[1]
    height: int = CHART_HW[0]


def _scatter(measures: Measures) -> _Scatter:
    left, bottom, margin = 44, CHART_HW[0] - 28, 12
    most = measures.sizes.most_common(2000)
    x_ticks, y_ticks = (_ticks(max(hw[axis] for hw, _ in most)) for axis in (1, 0))

    def x(width: float) -> float:
        return round(left + (CHART_HW[1] - margin - left) * width / x_ticks[-1], 1)

    def y(height: float) -> float:
        return round(bottom - (bottom - margin) * height / y_ticks[-1], 1)

    largest = most[0][1]
    return _Scatter(
        [(x(w), y(h), round(3 + 7 * math.sqrt(count / largest), 1), f"{w}x{h}: {count}") for (h, w), count in most],
        [(x(tick), tick) for tick in x_ticks],
        [(y(tick), tick) for tick in y_ticks],
    )


def _ticks(largest: int) -> list[int]:
    """Return 3 to 6 round numbers from 0 on, the last one not below `largest`."""
    rough = largest / 4
    step = 10 ** math.floor(math.log10(max(rough, 1)))
    step = next(step * factor for factor in (1, 2, 5, 10) if step * factor >= rough)
    return [step * k for k in range(math.ceil(largest / step) + 1)]


# ---- images


def _figures(examined: Examined, finding: Finding) -> list[Figure]:
    """Draw the first items of a finding: the image, if it can be read, and its label in colour beside it."""
    indices = list(dict.fromkeys(finding.indices))[:MOST_IMAGES]
    return [figure for index in indices if (figure := _item_figure(examined, index)) is not None]


def _item_figure(examined: Examined, index: int) -> Figure | None:
    """Draw an image, and its label in colour: over the image where it can lie there, else beside it."""
    item, parts = examined.items[index], []
    try:
        if item.image is not None and index not in examined.facts.image_faults:
            parts.append(_fit(read_image(item.image), nearest=False))
        if item.mask is not None and index in examined.sound:
            parts.append(overlay(parts[0], _fit(examined.reader(item.mask), nearest=True), examined.classes))
        elif item.mask is not None and index not in examined.facts.label_faults:
            stored = read_stored_label(item.mask).values
            parts.append(_fit(label_in_color(stored, examined.reader), nearest=True))
    except DataError:  # it has changed, or gone, since it was looked at
        return None
    return Figure(_as_uri(_side_by_side(parts)), item.name) if parts else None


def label_in_color(values: np.ndarray, reader: MaskReader) -> np.ndarray:
    """Paint what a label stores, right or wrong: uint8 RGB [h, w, 3] for ids [h, w] or colours [h, w, 3].

    Values of a class have its colour; those that are no class bright ones, by their last 8 bits.
    """
    if values.ndim == 3:
        return values
    classes = np.array(reader.classes.palette(), np.uint8).reshape(256, 3)
    bright = np.array([np.maximum(voc_color(value), 64) for value in range(256)], np.uint8)
    painted: np.ndarray = bright[values & 255]
    if not reader.by_color:
        held = np.unique(values)
        known = held[reader.table.knows(held)]
        is_known = np.isin(values, known)
        painted[is_known] = classes[reader.table(values[is_known])]
    return painted


def _overlays(examined: Examined, *, seed: int) -> list[Figure]:
    rng = np.random.default_rng(seed)
    fit = examined.sound
    figures = []
    for index in sorted(rng.permutation(len(fit))[:NUM_OVERLAYS].tolist()):
        item = examined.items[fit[index]]
        assert item.image is not None
        assert item.mask is not None
        try:
            image, mask = read_image(item.image), examined.reader(item.mask)
        except DataError:  # it has changed since
            continue
        blended = overlay(_fit(image, nearest=False), _fit(mask, nearest=True), examined.classes)
        figures.append(Figure(_as_uri(_side_by_side([_fit(image, nearest=False), blended])), item.name))
    return figures


def _fit(array: np.ndarray, *, nearest: bool) -> np.ndarray:
    """Shrink [h, w, ...] to fit IMAGE_HW, or enlarge what is tiny by a whole factor."""
    height, width = array.shape[:2]
    scale = min(IMAGE_HW[0] / height, IMAGE_HW[1] / width)
    if scale > 1:
        scale, nearest = float(int(scale)), True
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cv2.resize(array, size, interpolation=cv2.INTER_NEAREST_EXACT if nearest else cv2.INTER_AREA)


def _side_by_side(parts: Sequence[np.ndarray]) -> np.ndarray:
    height = max(part.shape[0] for part in parts)
    padded = [np.pad(part, ((0, height - len(part)), (0, 4), (0, 0)), constant_values=255) for part in parts]
    return np.concatenate(padded, axis=1)[:, :-4]


def _as_uri(image: np.ndarray) -> str:
    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 85])
    return "data:image/jpeg;base64," + base64.b64encode(encoded.tobytes()).decode()
