"""How far a figure may be off because of which images it was counted on: intervals by the bootstrap."""

import math

import numpy as np

from segkit.evaluation.confusion import iou_of, mean_where_known

RESAMPLES = 2000
CONFIDENCE = 0.95
NUMBERS_AT_A_TIME = 2**22  # 32 MiB of weights


def miou_interval(
    images: np.ndarray, *, seed: int = 0, resamples: int = RESAMPLES, confidence: float = CONFIDENCE
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of the mIoU of images, counts [R, N, 3, C] as `marginals` gives them.

    R times the same N images were scored, by other models; a class's IoU is that of all images, averaged over R.
    Pictures are drawn N at a time with replacement, each with what it counts in every repeat, and the figure is made
    of them as it is of all (Efron 1979, Bootstrap methods: another look at the jackknife; the interval between
    percentiles: Efron 1987, Better bootstrap confidence intervals, section 1). A class that a draw doesn't hold is left
    out of its mean, as in any score. NaN where no draw has a figure.

    How often a draw holds each image is a multinomial number, so a draw's counts are one product of matrices. They
    are whole numbers below 2^53: the same bits on any machine.
    """
    repeats, num_images, _, num_classes = images.shape
    flat = images.swapaxes(0, 1).reshape(num_images, -1).astype(np.float64)  # [N, R * 3 * C]
    rng = np.random.Generator(np.random.Philox(key=[seed, 2]))  # neither that of samples nor that of batches
    share = np.full(num_images, 1 / num_images)
    block = max(1, NUMBERS_AT_A_TIME // max(num_images, flat.shape[1]))
    figures = []
    for start in range(0, resamples, block):
        times = rng.multinomial(num_images, share, size=min(block, resamples - start)).astype(np.float64)
        drawn = (times @ flat).reshape(len(times), repeats, 3, num_classes)
        figures.append(mean_where_known(mean_where_known(iou_of(drawn), axis=1)))
    known = np.concatenate(figures)
    known = known[~np.isnan(known)]
    if not known.size:
        return math.nan, math.nan
    low, high = np.quantile(known, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
