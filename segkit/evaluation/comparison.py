"""Whether one model is better than another, or whether it could be chance: a paired bootstrap over images.

Both are scored on the same images, and every draw holds the same images on both sides, so that what makes some of them
hard cancels out. With several trainings per side, each draw also draws trainings, with replacement, so that their
noise counts; their deviations from the mean are widened by sqrt(R / (R - 1)), since R of them spread too little by that
factor (Davison and Hinkley 1997, Bootstrap Methods, section 3.8). With one training per side nothing is known of it.

p is two-sided: twice the smaller share of draws on either side of no difference. Over classes it is corrected by Holm's
method (1979), so that one false alarm among all classes has the stated probability.
"""

from dataclasses import dataclass

import numpy as np

from segkit.evaluation.bootstrap import CONFIDENCE, draws, percentiles
from segkit.evaluation.confusion import iou_of, mean_where_known

RESAMPLES = 10_000
ALPHA = 1 - CONFIDENCE


@dataclass(frozen=True)
class Difference:
    """A figure of the second model minus that of the first, 0..1, its 95 % interval, and p; NaN where undefined."""

    value: float
    low: float
    high: float
    p: float

    @property
    def is_significant(self) -> bool:
        """True if chance gives such a difference, or a larger one, in less than 5 % of cases."""
        return self.p < ALPHA


@dataclass(frozen=True)
class Comparison:
    """Differences of the second side from the first: of the mIoU, and of each class's IoU, with p corrected."""

    miou: Difference
    classes: list[Difference]
    trainings: tuple[int, int]  # of either side

    @property
    def counts_training(self) -> bool:
        """True if the noise of training is in the intervals."""
        return min(self.trainings) > 1


def compare(first: np.ndarray, second: np.ndarray, *, seed: int = 0, resamples: int = RESAMPLES) -> Comparison:
    """Compare models by what each of N images counts: [R, N, 3, C], `ConfusionMatrix.marginals` of R trainings."""
    differences = iou_difference(first.sum(axis=1)[None], second.sum(axis=1)[None])[0]
    rng = np.random.Generator(np.random.Philox(key=[seed, 3]))  # of trainings; images have another
    num_images = first.shape[1]
    flat = [side.swapaxes(0, 1).reshape(num_images, -1).astype(np.float64) for side in (first, second)]
    drawn = []
    for times in draws(num_images, sum(side.shape[1] for side in flat), seed=seed, resamples=resamples):
        totals = [
            (times @ rows).reshape(len(times), len(side), *side.shape[2:])
            for rows, side in zip(flat, (first, second), strict=True)
        ]
        drawn.append(iou_difference(*totals, rng=rng))
    figures = np.concatenate(drawn)  # [draws, 1 + C]
    found = [_difference(float(value), column) for value, column in zip(differences, figures.T, strict=True)]
    return Comparison(found[0], holm(found[1:]), (len(first), len(second)))


def iou_difference(first: np.ndarray, second: np.ndarray, *, rng: np.random.Generator | None = None) -> np.ndarray:
    """Return the second side's figures minus the first's, float64 [D, 1 + C]: mIoU, then IoU of each class.

    Each side is counts [D, R, 3, C] of R trainings, averaged; with `rng`, over R that are drawn of them.
    """
    sides = []
    for side in (first, second):
        iou = iou_of(side)  # [D, R, C]
        number = iou.shape[1]
        figures = np.concatenate([mean_where_known(iou)[..., None], iou], axis=2)
        if rng is None or number == 1:
            sides.append(mean_where_known(figures, axis=1))
            continue
        middle = mean_where_known(figures, axis=1)[:, None]
        spread = middle + (figures - middle) * np.sqrt(number / (number - 1))
        chosen = rng.integers(0, number, (len(figures), number))
        sides.append(mean_where_known(np.take_along_axis(spread, chosen[..., None], axis=1), axis=1))
    return sides[1] - sides[0]


def _difference(value: float, drawn: np.ndarray) -> Difference:
    known = drawn[~np.isnan(drawn)]
    if np.isnan(value) or not known.size:
        return Difference(value, np.nan, np.nan, np.nan)
    share = min((1 + np.count_nonzero(known <= 0)), (1 + np.count_nonzero(known >= 0))) / (1 + known.size)
    return Difference(value, *percentiles(drawn, CONFIDENCE), min(1.0, 2 * share))


def holm(differences: list[Difference]) -> list[Difference]:
    """Return the differences with p corrected for their number."""
    known = sorted((k for k, found in enumerate(differences) if not np.isnan(found.p)), key=lambda k: differences[k].p)
    corrected, least = list(differences), 0.0
    for rank, k in enumerate(known):
        found = differences[k]
        least = max(least, min(1.0, (len(known) - rank) * found.p))
        corrected[k] = Difference(found.value, found.low, found.high, least)
    return corrected
