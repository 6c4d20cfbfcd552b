"""Numbers about a whole data set that help to choose settings: sizes, channel statistics, a canvas."""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from segkit.doctor.measure import Facts

STRIDE = 32  # most encoders shrink an image by this; a canvas of multiples wastes nothing
LONGEST = 1024  # side of a suggested canvas; beyond it a step takes long, and memory


@dataclass(frozen=True)
class Measures:
    """Sizes are (height, width) in pixels, `sizes` how many images have each; mean and deviation are of R, G, B over
    all pixels, in 0..1; `canvas_hw` is a suggestion for data.canvas.
    """

    sizes: Counter[tuple[int, int]]
    median_hw: tuple[int, int]
    aspects: tuple[float, float]  # smallest and largest width / height
    mean: tuple[float, float, float]
    deviation: tuple[float, float, float]
    canvas_hw: tuple[int, int]


def measure(facts: Facts) -> Measures | None:
    """Measure the images that could be read; None if there is none.

    The suggested canvas has the median size, in multiples of 32, shrunk to 1,024 on its longer side.
    """
    images = facts.images[facts.has_image]
    if not len(images):
        return None
    hw = images["hw"].astype(np.int64)
    pixels = hw.prod(axis=1).sum()
    mean = images["sums"].sum(axis=0) / pixels
    deviation = np.sqrt(np.maximum(images["squares"].sum(axis=0) / pixels - mean**2, 0))
    aspects = hw[:, 1] / hw[:, 0]
    median = np.median(hw, axis=0)
    fitted = median * min(1.0, LONGEST / median.max())
    canvas = np.maximum(STRIDE, np.round(fitted / STRIDE).astype(int) * STRIDE)
    return Measures(
        sizes=Counter((height, width) for height, width in hw.tolist()),
        median_hw=(int(median[0]), int(median[1])),
        aspects=(float(aspects.min()), float(aspects.max())),
        mean=_three(mean / 255),
        deviation=_three(deviation / 255),
        canvas_hw=(int(canvas[0]), int(canvas[1])),
    )


def _three(values: np.ndarray) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in values)
    return red, green, blue
