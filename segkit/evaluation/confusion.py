"""One int64 confusion matrix over a whole set, and every figure that derives from it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import cv2
import numpy as np

from segkit.classes import Classes

if TYPE_CHECKING:
    import torch

    from segkit.runtime.ranks import Ranks


Absent = Literal["ignore", "zero", "one"]  # what a class that has no figure counts in a mean: nothing, 0 or 1


class ConfusionMatrix:
    """Counts pixels by true class (row) and predicted class (column); ignored pixels are not counted.

    A prediction that is no class, on a labelled pixel, is a miss: it counts in its row's truth, in no column. Dropping
    such pixels would raise the score of a model for every pixel on which it predicts nothing.
    """

    def __init__(self, num_classes: int, *, ignore_index: int = 255) -> None:
        if not num_classes <= ignore_index <= 255:
            raise ValueError(f"ignore_index is {ignore_index}, expected {num_classes}..255, beyond the class ids")
        self.num_classes, self.ignore_index = num_classes, ignore_index
        self.num_images = 0
        self._counts = np.zeros((num_classes, num_classes + 1), np.int64)  # last column: predicted no class

    @classmethod
    def from_counts(cls, counts: Any, *, num_images: int) -> "ConfusionMatrix":
        """Return a matrix that holds given counts, integers [C, C], row = truth, column = prediction."""
        array = np.asarray(counts, np.int64)
        matrix = cls(len(array))
        matrix._counts[:, :-1] = array
        matrix.num_images = num_images
        return matrix

    def update(self, prediction: "np.ndarray | torch.Tensor", target: "np.ndarray | torch.Tensor") -> None:
        """Add one image: predicted and true ids, integers [h, w], as arrays or as tensors on any device.

        Raises:
            ValueError: the two differ in shape, or target holds an id that is neither a class nor ignore_index.
        """
        if prediction.shape != target.shape:
            raise ValueError(
                f"prediction is {tuple(prediction.shape)}, target is {tuple(target.shape)}; expected the same shape"
            )
        prediction, target = _as_array(prediction), _as_array(target)
        hits = _count_pairs(target, prediction, self.num_classes)
        num_ignored = np.count_nonzero(target == self.ignore_index)
        if hits.sum() + num_ignored == target.size:  # as nearly always: every other id is a class
            self._counts[:, :-1] += hits
        else:
            self._update_slowly(prediction, target)
        self.num_images += 1

    def _update_slowly(self, prediction: np.ndarray, target: np.ndarray) -> None:
        """As `update`, where some prediction or some target is no class."""
        joint = _count_pairs(target, prediction, 256)
        known = [*range(self.num_classes), self.ignore_index]
        if joint[known].sum() != target.size:
            wrong = target[~np.isin(target, known)][0]
            raise ValueError(f"target holds {wrong}, expected 0..{self.num_classes - 1} or {self.ignore_index}")
        labelled = joint[: self.num_classes]
        self._counts[:, :-1] += labelled[:, : self.num_classes]
        self._counts[:, -1] += labelled[:, self.num_classes :].sum(axis=1)

    @property
    def counts(self) -> np.ndarray:
        """The matrix, int64 [C, C]: row = truth, column = prediction. Misses to no class are in `missed`."""
        return self._counts[:, :-1].copy()

    @property
    def missed(self) -> np.ndarray:
        """Labelled pixels whose prediction was no class, by true class: int64 [C]."""
        return self._counts[:, -1].copy()

    @property
    def all_counts(self) -> np.ndarray:
        """`counts` with `missed` as a last column: int64 [C, C + 1]."""
        return self._counts.copy()

    @property
    def marginals(self) -> np.ndarray:
        """Hits, true pixels and predicted pixels of each class: int64 [3, C]. All that IoU needs."""
        return np.stack([np.diag(self._counts), self._counts.sum(axis=1), self._counts[:, :-1].sum(axis=0)])

    def __add__(self, other: "ConfusionMatrix") -> "ConfusionMatrix":
        total = ConfusionMatrix(self.num_classes, ignore_index=self.ignore_index)
        total._counts = self._counts + other._counts
        total.num_images = self.num_images + other.num_images
        return total

    def reduce(self, ranks: "Ranks", device: "torch.device | None") -> "ConfusionMatrix":
        """Return the sum over all ranks, exact in int64, on every rank."""
        import torch  # only where there are ranks: tables of figures start without it

        flat = torch.from_numpy(np.append(self._counts.ravel(), self.num_images)).to(device)
        summed = ranks.sum(flat).cpu().numpy()
        total = ConfusionMatrix(self.num_classes, ignore_index=self.ignore_index)
        total._counts, total.num_images = summed[:-1].reshape(self._counts.shape), int(summed[-1])
        return total

    def scores(self, *, absent: Absent = "ignore") -> "Scores":
        """Derive every figure, in float64."""
        marginals = self.marginals
        hits, truth, predicted = marginals
        figures = figures_of(marginals)
        return Scores(
            iou=figures["iou"],
            accuracy=figures["accuracy"],
            precision=figures["precision"],
            dice=figures["dice"],
            truth_pixels=truth,
            predicted_pixels=predicted,
            hits=hits.astype(np.float64),
            counts=self.counts,
            num_images=self.num_images,
            absent=absent,
        )


@dataclass(frozen=True)
class Scores:
    """Figures by class, float64 [C] in 0..1, and their means.

    IoU, precision and Dice of a class that is in neither truth nor prediction are NaN and left out of the means; a
    class that is only predicted scores 0 and counts, and so does the precision of a class that is never predicted.
    Accuracy (recall) is a figure of true pixels: NaN without any. With `absent` zero or one, what is NaN counts as that
    in the means, as other programs have it.

    To add a figure, add a property, and its name to `to_dict`.
    """

    iou: np.ndarray
    accuracy: np.ndarray
    precision: np.ndarray
    dice: np.ndarray
    truth_pixels: np.ndarray
    predicted_pixels: np.ndarray
    hits: np.ndarray
    counts: np.ndarray
    num_images: int
    absent: Absent = "ignore"

    @property
    def miou(self) -> float:
        """Mean intersection over union: the mean over classes of hits / (truth + predicted - hits)."""
        return float(mean_of(self.iou, self.absent))

    @property
    def mean_accuracy(self) -> float:
        """The mean over classes of hits / truth."""
        return float(mean_of(self.accuracy, self.absent))

    @property
    def mean_precision(self) -> float:
        """The mean over classes of hits / predicted."""
        return float(mean_of(self.precision, self.absent))

    @property
    def mean_dice(self) -> float:
        """The mean over classes of 2 hits / (truth + predicted), which is F1."""
        return float(mean_of(self.dice, self.absent))

    @property
    def pixel_accuracy(self) -> float:
        """Hits over all labelled pixels."""
        return _divide(self.hits.sum(), self.truth_pixels.sum())

    @property
    def fw_iou(self) -> float:
        """IoU weighted by each class's share of the labelled pixels (Long et al. 2015)."""
        return _divide(np.nansum(self.iou * self.truth_pixels), self.truth_pixels.sum())

    def to_dict(self, classes: Classes) -> dict[str, Any]:
        """Return what metrics.json holds: plain numbers under stable names, NaN as None."""
        means = ("miou", "pixel_accuracy", "mean_accuracy", "mean_precision", "mean_dice", "fw_iou")
        by_class = ("iou", "accuracy", "precision", "dice")
        return {
            **{name: plain(getattr(self, name)) for name in means},
            "num_images": self.num_images,
            "classes": [
                {
                    "name": class_name,
                    **{name: plain(getattr(self, name)[k]) for name in by_class},
                    "truth_pixels": int(self.truth_pixels[k]),
                    "predicted_pixels": int(self.predicted_pixels[k]),
                }
                for k, class_name in enumerate(classes.names)
            ],
            "confusion": self.counts.tolist(),
        }


def figures_of(marginals: np.ndarray) -> dict[str, np.ndarray]:
    """Return figures of marginals [..., 3, C]: float64 [..., C], pixel_accuracy and fw_iou [..., 1]; see `Scores`."""
    hits, truth, predicted = np.moveaxis(np.asarray(marginals, np.float64), -2, 0)
    seen = truth + predicted > 0
    iou, labelled = iou_of(marginals), truth.sum(axis=-1, keepdims=True)
    weighted = np.where(np.isnan(iou), 0, iou) * truth
    return {
        "iou": iou,
        "accuracy": _ratio(hits, truth, truth > 0),
        "precision": _ratio(hits, predicted, seen),
        "dice": _ratio(2 * hits, truth + predicted, seen),
        "pixel_accuracy": _ratio(hits.sum(axis=-1, keepdims=True), labelled, labelled > 0),
        "fw_iou": _ratio(weighted.sum(axis=-1, keepdims=True), labelled, labelled > 0),
    }


def _ratio(numerator: np.ndarray, denominator: np.ndarray, where: np.ndarray) -> np.ndarray:
    return np.divide(numerator, np.maximum(denominator, 1), out=np.full(where.shape, math.nan), where=where)


def iou_of(marginals: np.ndarray) -> np.ndarray:
    """Return hits / (truth + predicted - hits) of each class, float64: marginals [..., 3, C] -> [..., C].

    NaN for a class that is in neither truth nor prediction.
    """
    hits, truth, predicted = np.moveaxis(np.asarray(marginals, np.float64), -2, 0)
    union = truth + predicted - hits
    return np.divide(hits, union, out=np.full(union.shape, math.nan), where=union > 0)


def mean_scores(repeats: Sequence[Scores]) -> Scores:
    """Return the mean figures of the same images, scored several times; counts of pixels are added up.

    A figure that is NaN in some of them is the mean of the others.
    """

    def mean(name: str) -> np.ndarray:
        return mean_where_known(np.stack([getattr(scores, name) for scores in repeats]), axis=0)

    def total(name: str) -> np.ndarray:
        summed: np.ndarray = np.sum([getattr(scores, name) for scores in repeats], axis=0)
        return summed

    return Scores(
        iou=mean("iou"),
        accuracy=mean("accuracy"),
        precision=mean("precision"),
        dice=mean("dice"),
        truth_pixels=total("truth_pixels"),
        predicted_pixels=total("predicted_pixels"),
        hits=total("hits"),
        counts=total("counts"),
        num_images=repeats[0].num_images,
    )


def mean_of(by_class: np.ndarray, absent: Absent) -> np.ndarray:
    """Return the mean over classes, float64 [...], of figures [..., C]; see `Absent` for those that are NaN."""
    if absent == "ignore":
        return mean_where_known(by_class)
    means: np.ndarray = np.where(np.isnan(by_class), float(absent == "one"), by_class).mean(axis=-1)
    return means


def mean_where_known(values: np.ndarray, *, axis: int = -1) -> np.ndarray:
    """Return the mean along an axis of what is not NaN; NaN where nothing is."""
    known = ~np.isnan(values)
    count = known.sum(axis=axis)
    total = np.where(known, values, 0).sum(axis=axis)
    return np.divide(total, count, out=np.full(count.shape, math.nan), where=count > 0)


def _count_pairs(target: np.ndarray, prediction: np.ndarray, num_values: int) -> np.ndarray:
    """Return how often each pair of values below `num_values` occurs: int64 [V, V], row = target, column = prediction.

    A two-dimensional histogram of uint8 in one pass, without int64 codes or masked copies. Pairs with another value
    are not counted; but a prediction outside 0..255 counts as 255, which is never a class.
    """
    if target.dtype != np.uint8:
        inside = (target >= 0) & (target <= 255)
        target, prediction = target[inside].astype(np.uint8), prediction[inside]
    pair = [array.reshape(1, -1) for array in (target, _as_uint8(prediction))]
    counts = np.zeros((num_values, num_values), np.int64)
    bins, ranges = [num_values] * 2, [0, num_values] * 2
    for start in range(0, target.size, 2**24):  # OpenCV counts in float32, which is exact up to 2^24
        strips = [np.ascontiguousarray(array[:, start : start + 2**24]) for array in pair]
        counts += cv2.calcHist(strips, [0, 1], None, bins, ranges).astype(np.int64)
    return counts


def _as_array(ids: "np.ndarray | torch.Tensor") -> np.ndarray:
    return ids if isinstance(ids, np.ndarray) else ids.detach().cpu().numpy()


def _as_uint8(ids: np.ndarray) -> np.ndarray:
    if ids.dtype == np.uint8:
        return ids
    return np.where((ids < 0) | (ids > 255), 255, ids).astype(np.uint8)


def _divide(numerator: float, denominator: float) -> float:
    return float(numerator / denominator) if denominator else math.nan


def plain(value: float) -> float | None:
    """Return a figure as JSON holds it: NaN as None."""
    return None if math.isnan(value) else float(value)
