"""What other protocols would report for the same predictions: the usual reasons why two mIoU don't compare.

To add one, write a function, and give it a line in `CONVENTIONS`.
"""

from collections.abc import Callable

import numpy as np

from segkit.evaluation.judged import Judged

Pixels = tuple[np.ndarray, np.ndarray]  # truth and prediction, ids uint8 of one shape


def on_the_canvas(image: Judged) -> Pixels:
    """Score at the network's resolution: truth is resized, and small things with it; padding is ignored."""
    return image.canvas


def centre_crop(image: Judged) -> Pixels:
    """Score the middle of the image alone, at most as large as the canvas, where cameras show what is easiest."""
    canvas_hw = image.canvas[0].shape
    inside = tuple(
        slice((side - min(side, crop)) // 2, (side - min(side, crop)) // 2 + min(side, crop))
        for side, crop in zip(image.truth.shape, canvas_hw, strict=True)
    )
    return image.truth[inside], image.prediction[inside]


CONVENTIONS: dict[str, Callable[[Judged], Pixels]] = {"letterbox": on_the_canvas, "crop": centre_crop}
PER_IMAGE = "per-image"  # the mean of each image's mIoU, which every pass gives
