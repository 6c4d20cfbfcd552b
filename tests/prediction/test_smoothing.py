"""A drawn scene whose truth is known: a disc that moves over a textured ground, under noisy logits."""

import math
import statistics

import cv2
import numpy as np
import pytest

from segkit.prediction.smoothing import Smoother, flicker

HW = (96, 128)


def scene(number: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return an image, uint8 RGB [h, w, 3], and its class ids: the disc (1) moves right, the ground (0) moves left."""
    rng = np.random.default_rng(seed)
    ground = cv2.GaussianBlur(rng.integers(0, 256, (HW[0], HW[1] + 100, 3), np.uint8), (0, 0), 2)
    disc = cv2.GaussianBlur(rng.integers(0, 256, (60, 60, 3), np.uint8), (0, 0), 2) // 2 + 120
    image = ground[:, number : number + HW[1]].copy()
    y, x = np.ogrid[:60, :60]
    inside = (y - 30) ** 2 + (x - 30) ** 2 < 25**2
    mask = np.zeros(HW, np.uint8)
    left = 10 + 2 * number
    image[18:78, left : left + 60][inside] = disc[inside]
    mask[18:78, left : left + 60][inside] = 1
    return image, mask


def noisy(mask: np.ndarray, number: int) -> np.ndarray:
    """Logits [2, h, w] that are right on average, wrong in blobs that differ from frame to frame."""
    rng = np.random.default_rng([7, number])
    noise = cv2.GaussianBlur(rng.normal(0, 1, (*HW, 2)).astype(np.float32), (0, 0), 2) * 12
    right = np.stack([mask == 0, mask == 1]).astype(np.float32) * 2
    logits: np.ndarray = right + noise.transpose(2, 0, 1)
    return logits


def test_smoothing_lowers_flicker_and_errors() -> None:
    smoother, raw_errors, smooth_errors = Smoother(), [], []
    for number in range(20):
        image, mask = scene(number)
        logits = noisy(mask, number)
        smoothed = smoother.update(image, logits)
        raw_errors.append((logits.argmax(axis=0) != mask).mean())
        smooth_errors.append((smoothed.argmax(axis=0) != mask).mean())
    assert len(smoother.raw_flicker) == 19
    assert statistics.fmean(smoother.smooth_flicker) < 0.5 * statistics.fmean(smoother.raw_flicker)
    assert statistics.fmean(smooth_errors[5:]) < 0.7 * statistics.fmean(raw_errors[5:])


def test_smoothed_probabilities_sum_to_one() -> None:
    smoother = Smoother()
    for number in range(3):
        image, mask = scene(number)
        total = np.exp(smoother.update(image, noisy(mask, number))).sum(axis=0)
        assert np.abs(total - 1).max() < 1e-3


def test_a_cut_starts_again() -> None:
    smoother = Smoother()
    image, mask = scene(0)
    smoother.update(image, noisy(mask, 0))
    other = 255 - image // 2  # brighter than anything before
    logits = noisy(mask, 1)
    alone = Smoother().update(other, logits)
    assert np.array_equal(smoother.update(other, logits), alone)
    assert smoother.raw_flicker == []


def test_flicker_is_the_share_that_changed_after_moving_along() -> None:
    rows, columns = np.indices((4, 6), dtype=np.float32)
    previous = np.zeros((4, 6), np.uint8)
    previous[:, 2] = 1
    current = np.zeros((4, 6), np.uint8)
    current[:, 3] = 1
    assert flicker(previous, current, (columns - 1, rows)) == 0  # what was a pixel to the left
    assert flicker(previous, current, (columns, rows)) == pytest.approx(2 / 6)
    assert math.isnan(flicker(previous, current, (columns + 10, rows)))
