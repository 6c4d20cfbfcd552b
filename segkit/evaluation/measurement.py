"""Every figure of a set of images in one pass: what each image adds, kept by image where it is small."""

import functools
import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from segkit.classes import Classes
from segkit.evaluation.bootstrap import Interval, intervals
from segkit.evaluation.confusion import ConfusionMatrix, Scores, figures_of, iou_of, mean_of, mean_where_known, plain
from segkit.evaluation.conventions import CONVENTIONS
from segkit.evaluation.families import Family
from segkit.evaluation.judged import Judged
from segkit.evaluation.objects import Objects

if TYPE_CHECKING:
    from segkit.runtime.ranks import Ranks


class Counted(NamedTuple):
    """What one image adds to everything."""

    name: str
    matrix: ConfusionMatrix
    families: dict[str, np.ndarray]
    truth: bytes  # a digest of the label map
    also: dict[str, ConfusionMatrix]


class ImageRow(NamedTuple):
    """What is kept of an image: its cells of the confusion matrix, sparse, and what it adds to small families."""

    name: str
    cells: np.ndarray  # int32 [N, 2]: true class, predicted class
    pixels: np.ndarray  # int64 [N]: of those cells
    marginals: np.ndarray  # int64 [3, C], as ConfusionMatrix.marginals
    families: dict[str, np.ndarray]
    truth: bytes  # a digest of the label map

    @property
    def iou(self) -> np.ndarray:
        """IoU by class in this image alone: float64 [C]."""
        return iou_of(self.marginals)

    @property
    def miou(self) -> float:
        """The mean of `iou` over the classes that the image shows, in truth or prediction."""
        return float(mean_where_known(self.iou))

    @property
    def pixel_accuracy(self) -> float:
        """Hits over labelled pixels; NaN without any."""
        labelled = self.marginals[1].sum()
        return float(self.marginals[0].sum() / labelled) if labelled else math.nan


@dataclass
class Measurement:
    """Collects what images add. `look` may be called by several threads; `add` takes its results in any order."""

    classes: Classes
    families: Mapping[str, Family] = field(default_factory=dict)
    also: Sequence[str] = ()  # of CONVENTIONS
    rows: list[ImageRow] = field(default_factory=list)
    totals: dict[str, np.ndarray] = field(default_factory=dict)
    others: dict[str, ConfusionMatrix] = field(default_factory=dict)

    def look(self, name: str, image: Judged) -> Counted:
        """Return what an image adds."""
        families = {key: family.count(image) for key, family in self.families.items()}
        also = {key: self._confusion(*CONVENTIONS[key](image)) for key in self.also}
        digest = hashlib.blake2b(image.truth.tobytes(), digest_size=16).digest()
        return Counted(name, self._confusion(image.truth, image.prediction), families, digest, also)

    def _confusion(self, truth: np.ndarray, prediction: np.ndarray) -> ConfusionMatrix:
        matrix = ConfusionMatrix(len(self.classes), ignore_index=self.classes.ignore_index)
        matrix.update(prediction, truth)
        return matrix

    def add(self, counted: Counted) -> None:
        """Keep what is small, and add up the rest."""
        small = {}
        for key, value in counted.families.items():
            if self.families[key].per_image:
                small[key] = value
            else:
                self.totals[key] = self.totals[key] + value if key in self.totals else value
        for key, matrix in counted.also.items():
            self.others[key] = self.others[key] + matrix if key in self.others else matrix
        counts = counted.matrix.all_counts
        cells = np.argwhere(counts)
        pixels, marginals = counts[tuple(cells.T)], counted.matrix.marginals
        row = ImageRow(counted.name, cells.astype(np.int32), pixels, marginals, small, counted.truth)
        self.rows.append(row)

    def gather(self, ranks: "Ranks") -> None:
        """Take over what the other ranks have collected, on every rank; all must call this."""
        gathered = ranks.gather((self.rows, self.totals, self.others))
        self.rows = [row for rows, _, _ in gathered for row in rows]
        self.totals, self.others = {}, {}
        for _, totals, others in gathered:
            for key, total in totals.items():
                self.totals[key] = self.totals[key] + total if key in self.totals else total
            for key, matrix in others.items():
                self.others[key] = self.others[key] + matrix if key in self.others else matrix

    def measured(self, scores: Scores) -> "Measured":
        """Return the figures of all images, whose confusion matrix gave `scores`."""
        rows = sorted(self.rows, key=lambda row: row.name)
        others = {name: self.others[name].scores(absent=scores.absent) for name in self.also if name in self.others}
        return Measured(scores, self.classes, self.families, rows, self.totals, others)


@dataclass(frozen=True)
class Measured:
    """Figures of a set of images, by class and of all, with intervals, and what each image adds.

    Figures don't depend on the order of images or on the number of ranks, to the last bit: rows are added up in the
    order of their names.
    """

    scores: Scores
    classes: Classes
    families: Mapping[str, Family]
    rows: list[ImageRow]
    totals: Mapping[str, np.ndarray]
    others: Mapping[str, Scores]  # what other protocols would report, by their names in CONVENTIONS

    def total(self, family: str) -> np.ndarray | None:
        """Return the sum over images of what they add to a family; None where it wasn't counted."""
        if family not in self.families or not self.rows:
            return None
        if self.families[family].per_image:
            summed: np.ndarray = np.sum([row.families[family] for row in self.rows], axis=0)
            return summed
        return self.totals[family]

    @functools.cached_property
    def figures(self) -> dict[str, np.ndarray]:
        """Figures by name: float64 [C] by class, or [1] of all classes together. Those of `scores` aren't repeated."""
        found: dict[str, np.ndarray] = {}
        for name, family in self.families.items():
            total = self.total(name)
            if total is not None:
                found |= family.figures(total)
        return found

    @property
    def data(self) -> str:
        """A digest of the images' names and label maps: the same data set gives the same 12 digits."""
        hashed = hashlib.sha256()
        for row in self.rows:
            hashed.update(f"{row.name}\n".encode(errors="surrogateescape") + row.truth)
        return hashed.hexdigest()[:12]

    @property
    def per_image_miou(self) -> np.ndarray:
        """The mIoU of each image, in the order of `rows`: float64 [N]."""
        return np.array([row.miou for row in self.rows])

    @functools.cached_property
    def intervals(self) -> dict[str, Interval]:
        """95 % intervals by figure, `scores`' IoU, accuracy, precision and Dice among them; see bootstrap.py."""
        parts: dict[str, np.ndarray] = {"confusion": np.stack([row.marginals for row in self.rows])}
        makers: dict[str, Callable[[np.ndarray], dict[str, np.ndarray]]] = {"confusion": figures_of}
        for name, family in self.families.items():
            if family.per_image:
                parts[name] = np.stack([row.families[name] for row in self.rows])
                makers[name] = family.figures
        return intervals(parts, makers, absent=self.scores.absent)

    def mean(self, name: str) -> float:
        """Return the mean over classes of one of `figures`, or the figure where there is one of all classes."""
        return float(mean_of(self.figures[name], self.scores.absent))

    def to_dict(self) -> dict[str, Any]:
        """Return what metrics.json holds: as `Scores.to_dict`, and the figures of the families, with intervals.

        A figure by class stands in each class's entry, its mean under mean_NAME (that of IoU is miou). Intervals are
        [low, high], under `intervals`, of the set and of each class.
        """
        content = self.scores.to_dict(self.classes)
        entries = content["classes"]
        for name, values in self.figures.items():
            if self._by_class(name):
                content[mean_name(name)] = plain(self.mean(name))
                for entry, value in zip(entries, values.tolist(), strict=True):
                    entry[name] = plain(value)
            else:
                content[name] = plain(float(values[0]))
        content["intervals"] = {
            mean_name(name) if self._by_class(name) else name: [plain(bound) for bound in interval.mean]
            for name, interval in self.intervals.items()
        }
        content["per_image_miou"] = self.distribution()
        if self.others:
            content["other_protocols"] = {name: {"miou": plain(other.miou)} for name, other in self.others.items()}
        objects, total = self.families.get("objects"), self.total("objects")
        if isinstance(objects, Objects) and total is not None:
            for name, numbers in objects.num_objects(total).items():
                for entry, number in zip(entries, numbers.tolist(), strict=True):
                    entry[name] = number
        for k, entry in enumerate(entries):
            entry["intervals"] = {
                name: [plain(interval.low[k]), plain(interval.high[k])]
                for name, interval in self.intervals.items()
                if self._by_class(name)
            }
        return content

    def distribution(self) -> dict[str, float | None]:
        """Return mean and quantiles of the mIoU of images."""
        known = self.per_image_miou[~np.isnan(self.per_image_miou)]
        if not known.size:
            return dict.fromkeys(("mean", *QUANTILES))
        quantiles = np.quantile(known, list(QUANTILES.values()))
        return {"mean": float(known.mean()), **dict(zip(QUANTILES, quantiles.tolist(), strict=True))}

    def _by_class(self, name: str) -> bool:
        return name not in OF_ALL_CLASSES


QUANTILES = {"min": 0.0, "p5": 0.05, "p25": 0.25, "median": 0.5, "p75": 0.75, "p95": 0.95, "max": 1.0}
OF_ALL_CLASSES = ("pixel_accuracy", "fw_iou", "ece")  # figures of which there is one, not one by class


def mean_name(name: str) -> str:
    """Return what metrics.json calls the mean over classes of a figure."""
    return "miou" if name == "iou" else f"mean_{name}"
