"""`compare.html`: two models side by side, in one file that needs nothing else."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from segkit.classes import Classes
from segkit.evaluation.comparison import Comparison, Difference
from segkit.evaluation.confusion import Scores
from segkit.report.comparison_text import verdict
from segkit.report.gallery import Shown
from segkit.report.page import render


@dataclass(frozen=True)
class Compared:
    """Two models on the same images: their names and scores, what differs, and the images and settings that do.

    changes: name, first and second mIoU of each image, those that lost most first. settings: key and both values.
    """

    first: str
    second: str
    before: Scores
    after: Scores
    comparison: Comparison
    changes: list[tuple[str, float, float]]
    settings: list[tuple[str, Any, Any]]

    @property
    def ious(self) -> list[list[float]]:
        """IoU by class of both sides, mIoU last."""
        return [[*scores.iou.tolist(), scores.miou] for scores in (self.before, self.after)]

    def most_changed(self, count: int) -> list[str]:
        """Return the images that lost most, then those that gained most, up to `count` of each."""
        lost = [name for name, old, new in self.changes[:count] if new < old]
        return lost + [name for name, old, new in self.changes[::-1][:count] if new > old]


@dataclass(frozen=True)
class _Row:
    name: str
    before: float  # percent, NaN where undefined
    after: float
    change: float
    low: float
    high: float
    p: float
    significant: bool


def comparison_page(
    split: str,
    num_images: int,
    classes: Classes,
    compared: Sequence[Compared],
    images: Mapping[str, Sequence[Shown]],
) -> str:
    """Return the page as HTML; `images` are those that changed most, by the second model's name."""
    pages = []
    for number, each in enumerate(compared):
        found = [*each.comparison.classes, each.comparison.miou]
        names = [*classes.names, "mean"]
        rows = [_row(*row) for row in zip(names, *each.ious, found, strict=True)]
        words = {name: f"mIoU {100 * old:.2f} to {100 * new:.2f} %" for name, old, new in each.changes}
        shown = [(_numbered(image, number), words[image.name]) for image in images[each.second]]
        widest = max([abs(bound) for row in rows for bound in (row.low, row.high) if not math.isnan(bound)], default=0)
        pages.append((each, verdict(each.first, each.second, each.comparison), rows, widest or 1.0, shown))
    return render("compare.html.j2", split=split, num_images=num_images, pages=pages, isnan=math.isnan)


def _row(name: str, before: float, after: float, found: Difference) -> _Row:
    change, low, high = (100 * value for value in (found.value, found.low, found.high))
    return _Row(name, 100 * before, 100 * after, change, low, high, found.p, found.is_significant)


def _numbered(image: Shown, number: int) -> Shown:
    return Shown(image.name, f"{image.id}-{number}", image.size_hw, image.image, image.layers)
