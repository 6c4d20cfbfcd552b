"""How much each class weighs in the loss, by rules that go by its frequency.

Apart from the losses: a check of the data shows weights too, without torch.
"""

from collections.abc import Sequence

import numpy as np

from segkit.config.schema import ClassWeighting
from segkit.errors import ConfigError


def class_weights(
    rule: ClassWeighting | Sequence[float],
    *,
    class_pixels: Sequence[int],
    surrounding_pixels: Sequence[int],
    class_images: Sequence[int],
    num_images: int,
) -> list[float] | None:
    """Return one weight per class by a rule, from counts over the training masks; None for `none`.

    `class_pixels`: pixels of each class. `surrounding_pixels`: all labelled pixels of the images that hold the class.
    `class_images`: how many of the `num_images` images hold it. With f = share of the class among labelled pixels:

    - balanced: 1 / (C f), the inverse frequency
    - median_frequency: median(g) / g, g = share within the images that hold the class (Eigen and Fergus 2015)
    - log: 1 / ln(1.10 + f), at most 10.5 (the form of Paszke et al. 2016, ENet, which has 1.02 and at most 50)
    - sqrt: 1 / sqrt(f), halfway (in its logarithm) between no weights and balanced
    - effective_number: (1 - beta) / (1 - beta^n) with n images that hold the class and beta = 1 - 1 / num_images (Cui
      et al. 2019, Class-Balanced Loss; beta as in their Proposition 1). What n counts are independent samples, which
      neighbouring pixels of one object are not: by pixels, n is in the millions, beta^n is 0 for any usual beta, and
      all weights are the same.

    The last two are scaled so that the mean weight of a labelled pixel is 1, as it is with balanced.
    A class without a pixel gets 0; it can't enter the loss.

    Raises:
        ConfigError: a list without one number per class.
    """
    num_classes = len(class_pixels)
    if not isinstance(rule, str):
        if len(rule) != num_classes:
            raise ConfigError(f"loss.class_weights: found {len(rule)} numbers, expected {num_classes}, one per class")
        return list(rule)
    if rule == "none":
        return None
    pixels = np.asarray(class_pixels, np.float64)
    present = pixels > 0
    share = pixels / pixels.sum()
    with np.errstate(divide="ignore", invalid="ignore"):  # classes without a pixel, which get 0
        if rule == "balanced":
            weights = 1 / (num_classes * share)
        elif rule == "median_frequency":
            within = pixels / np.asarray(surrounding_pixels, np.float64)
            weights = np.median(within[present]) / within
        elif rule == "log":
            weights = 1 / np.log(1.10 + share)
        else:
            if rule == "sqrt":
                weights = share**-0.5
            else:
                beta = 1 - 1 / num_images
                weights = (1 - beta) / (1 - beta ** np.asarray(class_images, np.float64))
            weights = weights / (share * weights)[present].sum()
    return [round(weight, 6) for weight in np.where(present, weights, 0).tolist()]
