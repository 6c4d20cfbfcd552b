"""Rules of post-processing, tried on predicted masks: which of them raise mIoU by more than chance explains.

Class after class, and for each confidence, components and holes, in the order in which they will be applied. Of each
kind a grid is tried on one half of the images; the best value is kept if it gains on the other half as well, and if the
whole 95 % interval of its gain over all images (bootstrap, paired) is above 0. What is kept changes the masks that
later rules are tried on. Dozens of rules are tried, so one in forty that changes nothing would pass the interval by
chance; the half that did not choose stands against that. Not here: predicting the masks, storing the rules
(segkit/postprocess.py).
"""

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import IO, TypeVar

import numpy as np

from segkit.classes import Classes
from segkit.evaluation.bootstrap import miou_gain_interval
from segkit.evaluation.confusion import ConfusionMatrix, iou_of, mean_where_known
from segkit.inference.postprocess import ClassRule, Postprocess
from segkit.runtime.files import writing
from segkit.runtime.machine import count_threads
from segkit.runtime.progress import progress
from segkit.runtime.threads import prefetch

T = TypeVar("T")
R = TypeVar("R")

CONFIDENCES = np.array([0.4, 0.5, 0.6, 0.7, 0.8, 0.9], np.float32)
SMALLEST = 4  # pixels; each next size that is tried is four times as large
LARGEST_SHARE = 0.02  # of an image's pixels, where sizes end
NUM_BLOCKS = 8  # of neighbouring images; every other one chooses
IN_MEMORY = 2**30  # bytes of masks; what is more goes into a temporary file


@dataclass(frozen=True)
class PredictedImage:
    """One image's predicted and true class ids, uint8 [h, w] each, and how many of CONFIDENCES its pixels reach.

    `level` is all that a confidence is needed for, in a byte: `confidence < t` is the same for it, for each t tried.
    """

    ids: np.ndarray
    truth: np.ndarray
    level: np.ndarray

    @property
    def confidence(self) -> np.ndarray:
        """The largest of CONFIDENCES that each pixel reaches, or 0: float32 [h, w]."""
        return np.concatenate([np.zeros(1, np.float32), CONFIDENCES])[self.level]


def confidence_level(confidence: np.ndarray) -> np.ndarray:
    """Return how many of CONFIDENCES are at most a pixel's confidence: float32 [h, w] -> uint8 [h, w]."""
    return np.digitize(confidence.astype(np.float32, copy=False), CONFIDENCES).astype(np.uint8)


@dataclass(frozen=True)
class Trial:
    """The best rule of a kind for a class, and what became of it. mIoU is that of all images, 0..1.

    `rule` is None where none of the grid gains on the half that chooses; then there are no figures.
    """

    class_id: int
    rule: ClassRule | None
    before: float
    after: float
    interval: tuple[float, float] | None  # of the gain; None where the other half has refused the rule already
    kept: bool
    why: str


@dataclass(frozen=True)
class Tuning:
    """All trials, in the order they were made; the rules that were kept, and what they gain together."""

    trials: tuple[Trial, ...]
    postprocess: Postprocess
    before: float
    after: float
    interval: tuple[float, float]


class MaskStore:
    """Keeps uint8 arrays that can be written to: up to `limit` bytes in memory, then in a temporary file.

    The file is in the system's folder for them (TMPDIR), has no name, and ends with the block and its arrays. The
    system reads and drops its pages as memory allows.
    """

    def __init__(self, limit: int = IN_MEMORY) -> None:
        self.left = limit
        self.file: IO[bytes] | None = None

    def keep(self, array: np.ndarray) -> np.ndarray:
        """Return an array of the same content. Raises RunFolderError where the disk is full."""
        self.left -= array.nbytes
        if self.left >= 0:
            return array.copy()
        with writing(Path(tempfile.gettempdir()), remedy="name a folder with more space: TMPDIR=FOLDER segkit ..."):
            if self.file is None:
                self.file = tempfile.TemporaryFile()  # noqa: SIM115 (closed by __exit__)
            offset = self.file.seek(0, 2)
            self.file.write(array.tobytes())  # not mapped into being: a full disk is an error here, a signal there
            self.file.flush()
            return np.memmap(self.file, np.uint8, "r+", offset, array.shape)

    def __enter__(self) -> "MaskStore":
        return self

    def __exit__(self, *_: object) -> None:
        if self.file is not None:
            self.file.close()  # arrays have it open until they end


@dataclass
class _State:
    """What the kept rules have made of the images so far."""

    images: Sequence[PredictedImage]
    classes: Classes
    counts: np.ndarray  # int64 [N, 3, C], as ConfusionMatrix.marginals
    chooses: np.ndarray  # bool [N]
    rules: dict[int, ClassRule] = field(default_factory=dict)


def tune(images: Sequence[PredictedImage], classes: Classes, *, tuned_on: str) -> Tuning:
    """Find the rules that raise mIoU; the ids of `images` become those after the rules, in place.

    Beside the images, a few masks per thread are in memory, and 24 bytes per image and class.

    Raises:
        ValueError: fewer than two images, which can't be halved.
    """
    if len(images) < 2:
        raise ValueError(f"found {len(images)} images, expected at least 2")
    counts = np.stack(list(_each(lambda image: _count(image, classes), images)))
    state = _State(images, classes, counts, choosing_half(len(images)))
    kinds = candidates(int(np.median([image.ids.size for image in images])))
    trials: list[Trial] = []
    for class_id in progress(range(len(classes)), title="trying rules", unit="class"):
        trials += [_try(state, class_id, grid) for grid in kinds]
    gain = miou_gain_interval(counts, state.counts)
    postprocess = Postprocess(state.rules, classes.ignore_index, tuned_on)
    return Tuning(tuple(trials), postprocess, _miou(counts), _miou(state.counts), gain)


def candidates(num_pixels: int) -> tuple[list[ClassRule], ...]:
    """Return what is tried for images of so many pixels: confidences, components, holes, each from the mildest on."""
    sizes = [SMALLEST]
    while sizes[-1] * 4 <= LARGEST_SHARE * num_pixels:
        sizes.append(sizes[-1] * 4)
    return (
        [ClassRule(min_confidence=round(float(confidence), 2)) for confidence in CONFIDENCES],
        [*(ClassRule(min_component=size) for size in sizes), ClassRule(keep_largest=True)],
        [ClassRule(max_hole=size) for size in sizes],
    )


def choosing_half(num_images: int) -> np.ndarray:
    """Return which images choose: every other block of neighbours, bool [N].

    In blocks, since neighbours may be frames of one video, almost the same image: they must not check each other.
    """
    blocks = np.arange(num_images) * min(NUM_BLOCKS, num_images) // num_images
    return blocks % 2 == 0


def _try(state: _State, class_id: int, grid: Sequence[ClassRule]) -> Trial:
    before = _miou(state.counts)
    chosen_by: list[int] = np.flatnonzero(state.chooses).tolist()
    tried = np.zeros((len(grid), 3, len(state.classes)), np.int64)
    for counts in _each(lambda k: _counts_after(state, k, class_id, grid), chosen_by):
        tried += counts
    gains = np.nan_to_num(mean_where_known(iou_of(tried)) - _miou(state.counts[state.chooses]))
    best = int(gains.argmax())
    if gains[best] <= 0:
        return Trial(class_id, None, before, before, None, False, "no value of the grid gains")
    rule = grid[best]
    counts = np.concatenate(list(_each(lambda k: _counts_after(state, k, class_id, [rule]), range(len(state.images)))))
    after, held_back = _miou(counts), ~state.chooses
    other_gain = _miou(counts[held_back]) - _miou(state.counts[held_back])
    if not other_gain > 0:
        why = f"not on the held-back half ({100 * other_gain:+.2f})"
        return Trial(class_id, rule, before, after, None, False, why)
    interval = miou_gain_interval(state.counts, counts)
    if not interval[0] > 0:
        return Trial(class_id, rule, before, after, interval, False, "within the bootstrap error")
    for _ in _each(lambda image: _apply(image, class_id, rule, state.classes), state.images):
        pass
    state.counts = counts
    default = ClassRule()
    changes = {s.name: getattr(rule, s.name) for s in fields(rule) if getattr(rule, s.name) != getattr(default, s.name)}
    state.rules[class_id] = replace(state.rules.get(class_id, default), **changes)
    return Trial(class_id, rule, before, after, interval, True, "gains on both halves")


def _each(function: Callable[[T], R], things: Iterable[T]) -> Iterator[R]:
    """Yield function(thing) in order, computed by threads."""
    threads = count_threads()
    return prefetch(function, things, threads=threads, ahead=2 * threads)


def _miou(counts: np.ndarray) -> float:
    """mIoU of images together: int64 [N, 3, C] -> 0..1; NaN of none."""
    return float(mean_where_known(iou_of(counts.sum(axis=0))))


def _count(image: PredictedImage, classes: Classes) -> np.ndarray:
    matrix = ConfusionMatrix(len(classes), ignore_index=classes.ignore_index)
    matrix.update(image.ids, image.truth)
    return matrix.marginals


def _ids_after(image: PredictedImage, class_id: int, rule: ClassRule, classes: Classes) -> np.ndarray:
    postprocess = Postprocess({class_id: rule}, classes.ignore_index)
    return postprocess(image.ids, image.confidence if postprocess.needs_confidence else None)


def _counts_after(state: _State, k: int, class_id: int, grid: Sequence[ClassRule]) -> np.ndarray:
    """Return what image k counts after each rule alone, int64 [K, 3, C]: only pixels that change are counted anew."""
    image, num_classes = state.images[k], len(state.classes)
    after = np.repeat(state.counts[k][None], len(grid), axis=0)
    if not (image.ids == class_id).any():
        return after
    for position, rule in enumerate(grid):
        ids = _ids_after(image, class_id, rule, state.classes)
        if ids is image.ids:
            continue
        changed = (ids != image.ids) & (image.truth != state.classes.ignore_index)
        truth = image.truth[changed]
        for predicted, sign in ((image.ids[changed], -1), (ids[changed], 1)):
            hits, all_of_them = (
                np.bincount(of, minlength=256)[:num_classes] for of in (predicted[predicted == truth], predicted)
            )
            after[position, 0] += sign * hits
            after[position, 2] += sign * all_of_them
    return after


def _apply(image: PredictedImage, class_id: int, rule: ClassRule, classes: Classes) -> None:
    image.ids[:] = _ids_after(image, class_id, rule, classes)
