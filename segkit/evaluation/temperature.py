"""Fit a temperature: the number that logits are divided by so that probabilities say how often the model is right.

Guo et al. 2017, "On Calibration of Modern Neural Networks", ICML, section 4.2: of one parameter, the mean negative log
probability of the truth (NLL) on held-out pixels is minimised. numpy alone, float64.
"""

import math
from typing import NamedTuple

import numpy as np

from segkit.evaluation.calibration import binned, expected_calibration_error

LOWEST, HIGHEST = 0.05, 20.0  # temperatures; what lies beyond is no calibration but a broken model


class Fit(NamedTuple):
    """How well probabilities of some pixels fit: NLL in nats per pixel, ECE in 0..1."""

    nll: float
    ece: float


def fit_temperature(scores: np.ndarray, truth: np.ndarray) -> float:
    """Return the temperature in LOWEST..HIGHEST with the least NLL, for scores float [N, C] and true ids [N].

    In b = 1 / T the NLL is convex, with the derivative sum(E_p[z] - z_y) for p = softmax(b z): bisection finds its
    zero, to a relative 1e-9. Models that are never wrong would end at LOWEST.

    Raises:
        ValueError: no pixels.
    """
    if not len(truth):
        raise ValueError("found no labelled pixel, expected some")
    centred = scores.astype(np.float64) - scores.max(axis=1, keepdims=True)
    of_truth = centred[np.arange(len(truth)), truth].mean()

    def slope(b: float) -> float:
        powers = np.exp(b * centred)
        return float(((powers * centred).sum(axis=1) / powers.sum(axis=1)).mean() - of_truth)

    low, high = 1 / HIGHEST, 1 / LOWEST
    while high - low > 1e-9 * low:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return 1 / math.sqrt(low * high)


def fit_of(scores: np.ndarray, truth: np.ndarray, *, temperature: float = 1.0) -> Fit:
    """Return NLL and ECE (calibration.py) of scores float [N, C] over a temperature, for true ids [N]."""
    scaled = scores.astype(np.float64) / temperature
    scaled -= scaled.max(axis=1, keepdims=True)
    powers = np.exp(scaled)
    sums = powers.sum(axis=1)
    nll = float((np.log(sums) - scaled[np.arange(len(truth)), truth]).mean())
    total = binned(powers.max(axis=1) / sums, powers.argmax(axis=1) == truth)
    return Fit(nll, float(expected_calibration_error(total)))
