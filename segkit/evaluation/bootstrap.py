"""How far a figure may be off because of which images it was counted on: intervals by the bootstrap."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from segkit.evaluation.confusion import Absent, iou_of, mean_of, mean_where_known

RESAMPLES = 2000
CONFIDENCE = 0.95
NUMBERS_AT_A_TIME = 2**22  # 32 MiB of weights


@dataclass(frozen=True)
class Interval:
    """The interval of a figure, 0..1 as the figure is; NaN where no draw has it."""

    low: np.ndarray  # float64 [C], by class, or [1], of all classes together
    high: np.ndarray
    mean: tuple[float, float]  # of the mean over classes


def intervals(
    images: Mapping[str, np.ndarray],
    figures: Mapping[str, Callable[[np.ndarray], Mapping[str, np.ndarray]]],
    *,
    absent: Absent = "ignore",
    seed: int = 0,
    resamples: int = RESAMPLES,
    confidence: float = CONFIDENCE,
) -> dict[str, Interval]:
    """Return the percentile bootstrap interval of every figure, by name; draws are those of `miou_interval`.

    images: what each of the same N images adds, [N, *shape], by family. figures: of each family, from sums
    [..., *shape] to figures by name, [..., C] or [..., 1]. absent: what the mean over classes makes of a draw that
    doesn't hold a class.
    """
    sizes = {name: rows[0].size for name, rows in images.items()}
    flat = np.concatenate([rows.reshape(len(rows), -1) for rows in images.values()], axis=1, dtype=np.float64)
    drawn: dict[str, list[np.ndarray]] = {}
    for times in draws(len(flat), flat.shape[1], seed=seed, resamples=resamples):
        totals = np.split(times @ flat, np.cumsum(list(sizes.values()))[:-1], axis=1)
        for (family, rows), total in zip(images.items(), totals, strict=True):
            for name, values in figures[family](total.reshape(len(times), *rows.shape[1:])).items():
                drawn.setdefault(name, []).append(values)
    found = {}
    for name, blocks in drawn.items():
        values = np.concatenate(blocks)
        bounds = np.array([percentiles(column, confidence) for column in values.T])
        found[name] = Interval(bounds[:, 0], bounds[:, 1], percentiles(mean_of(values, absent), confidence))
    return found


def miou_interval(
    images: np.ndarray, *, seed: int = 0, resamples: int = RESAMPLES, confidence: float = CONFIDENCE
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of the mIoU of images, counts [R, N, 3, C] as `marginals` gives them.

    R times the same N images were scored, by other models; a class's IoU is that of all images, averaged over R.
    Images are drawn N at a time with replacement, each with what it counts in every repeat, and the figure is made
    of them as it is of all (Efron 1979, Bootstrap methods: another look at the jackknife; the interval between
    percentiles: Efron 1987, Better bootstrap confidence intervals, section 1). A class that a draw doesn't hold is left
    out of its mean, as in any score. NaN where no draw has a figure.

    How often a draw holds each image is a multinomial number, so a draw's counts are one product of matrices. They
    are whole numbers below 2^53: the same bits on any machine.
    """
    repeats, num_images, _, num_classes = images.shape
    flat = images.swapaxes(0, 1).reshape(num_images, -1).astype(np.float64)  # [N, R * 3 * C]
    figures = []
    for times in draws(num_images, flat.shape[1], seed=seed, resamples=resamples):
        drawn = (times @ flat).reshape(len(times), repeats, 3, num_classes)
        figures.append(mean_where_known(mean_where_known(iou_of(drawn), axis=1)))
    return percentiles(np.concatenate(figures), confidence)


def miou_gain_interval(
    before: np.ndarray,
    after: np.ndarray,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
    confidence: float = CONFIDENCE,
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of mIoU(after) - mIoU(before), counts [N, 3, C] of the same images.

    Paired: each draw holds the same images on both sides, so what makes some of them hard cancels out. Draws are those
    of `miou_interval`.
    """
    num_images, _, num_classes = before.shape
    flat = np.stack([before, after], axis=1).reshape(num_images, -1).astype(np.float64)  # [N, 2 * 3 * C]
    gains = []
    for times in draws(num_images, flat.shape[1], seed=seed, resamples=resamples):
        miou = mean_where_known(iou_of((times @ flat).reshape(len(times), 2, 3, num_classes)))
        gains.append(miou[:, 1] - miou[:, 0])
    return percentiles(np.concatenate(gains), confidence)


def draws(num_images: int, width: int, *, seed: int, resamples: int) -> Iterator[np.ndarray]:
    """Yield how often each draw holds each image, float64 [block, N], in blocks that bound the memory."""
    rng = np.random.Generator(np.random.Philox(key=[seed, 2]))  # neither that of samples nor that of batches
    share = np.full(num_images, 1 / num_images)
    block = max(1, NUMBERS_AT_A_TIME // max(num_images, width))
    for start in range(0, resamples, block):
        yield rng.multinomial(num_images, share, size=min(block, resamples - start)).astype(np.float64)


def percentiles(figures: np.ndarray, confidence: float) -> tuple[float, float]:
    known = figures[~np.isnan(figures)]
    if not known.size:
        return math.nan, math.nan
    low, high = np.quantile(known, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
