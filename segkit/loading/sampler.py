"""How often each image is seen in an epoch: by a rule from the classes that it shows.

A rule gives expected views, real numbers; an epoch gives each image the whole number below or above, so that its
length is the same in every epoch and the mean over epochs is what the rule says. Not here: the order in which they
come (batch_plan.py), and how a loss weighs classes (segkit/losses/table.py).
"""

import math
from collections.abc import Callable, Sequence

import numpy as np

from segkit.config.schema import DataConfig
from segkit.errors import ConfigError

_GRID = 2**24  # steps of the random offset: a number of draws plus an offset is exact, so floor() is too


def uniform(presence: np.ndarray, *, threshold: float) -> np.ndarray:
    """Return 1 for every image."""
    return np.ones(len(presence))


def repeat_factor(presence: np.ndarray, *, threshold: float) -> np.ndarray:
    """Return max over an image's classes of max(1, sqrt(threshold / share of images that show the class)).

    Repeat factor sampling of Gupta et al. 2019, LVIS, whose threshold is 0.001, for over a thousand classes. An epoch
    gets longer; every image is still seen in it.
    """
    images = presence.sum(axis=0)
    factors = np.sqrt(np.maximum(1.0, threshold * len(presence) / np.maximum(images, 1)))
    views: np.ndarray = np.where(presence, factors, 1.0).max(axis=1)
    return views


def class_balanced(presence: np.ndarray, *, threshold: float) -> np.ndarray:
    """Return views with which each class that occurs is drawn equally often, over as many draws as there are images.

    As if a class were drawn first and then one of the n_c images that show it: the sum over an image's classes of
    N / (number of classes that occur * n_c). An image of common classes alone is not seen in every epoch, and one
    without any label never.
    """
    images = presence.sum(axis=0)
    views = np.zeros(len(presence))
    occurring = np.flatnonzero(images)
    for k in occurring:  # one after the other: the same bits on every machine, which a matrix product doesn't promise
        views += presence[:, k] * (len(presence) / (len(occurring) * images[k]))
    return views


# Each takes which classes each image shows, bool [N, C], and returns its expected views per epoch, float64 [N].
SAMPLERS: dict[str, Callable[..., np.ndarray]] = {
    "uniform": uniform,
    "class_balanced": class_balanced,
    "repeat_factor": repeat_factor,
}


def expected_views(data: DataConfig, presence: np.ndarray) -> tuple[float, ...]:
    """Return how often each image is seen per epoch on average, by `data.sampler`.

    presence: bool [N, C]. The views are enlarged by less than one draw in all, so that they sum to a whole number.

    Raises:
        ConfigError: the rule changes nothing, since no class is rare enough, or all images show the same ones.
    """
    views = SAMPLERS[data.sampler](presence, threshold=data.repeat_threshold)
    if data.sampler != "uniform" and np.allclose(views, 1, rtol=0, atol=1e-9):
        shares = presence.mean(axis=0)
        least, why = shares[shares > 0].min(), "every image shows the same classes"
        if data.sampler == "repeat_factor":
            why = f"every class is shown in at least {least:.3f} of the images, more than data.repeat_threshold"
        raise ConfigError(
            f"data.sampler: found {data.sampler}, which changes nothing here, since {why}; expected uniform"
            + (", or a higher data.repeat_threshold" if data.sampler == "repeat_factor" and least < 1 else "")
        )
    total = float(np.cumsum(views)[-1])  # cumsum adds in order: the same bits on every machine, which sum() isn't
    return tuple((views * (math.ceil(total - 1e-6) / total)).tolist())


def num_draws(views: Sequence[float]) -> int:
    """Return how many samples an epoch of these expected views has."""
    return round(math.fsum(views))


def count_views(views: Sequence[float], *, seed: int, epoch: int) -> np.ndarray:
    """Return how often each image is seen in one epoch: its expected views, rounded down or up; int64 [N].

    Systematic resampling (Kitagawa 1996, Monte Carlo filter and smoother): the views are laid end to end, and counted
    is how many points of a grid of step 1, which is moved by one random offset per epoch, fall on each. So a stretch
    of neighbours, such as a shard, also gets its views to within one. A function of (seed, epoch) alone; it uses
    Philox key [seed, 2]; samples use [seed, 0], the order [seed, 1].
    """
    total = num_draws(views)
    rng = np.random.Generator(np.random.Philox(key=[seed, 2], counter=[0, 0, epoch, 0]))
    offset = int(rng.integers(_GRID)) / _GRID
    ends = np.minimum(np.cumsum(views), total)
    ends[-1] = total
    counts: np.ndarray = np.diff(np.floor(ends + offset).astype(np.int64), prepend=0)
    return counts
