"""A drawn video whose truth is known: textured discs that move and turn over a moving ground, under noisy logits."""

import math
from dataclasses import dataclass

import cv2
import numpy as np
import pytest

from segkit.evaluation.confusion import ConfusionMatrix
from segkit.prediction.smoothing import Smoother, flicker

HW = (96, 128)


def texture(hw: tuple[int, int], seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, 1, (*hw, 3)).astype(np.float32)
    return cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 2), None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)


def scene(number: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return an image with a camera's noise, uint8 RGB [h, w, 3], and its class ids: ground 0, discs 1 and 2."""
    image = texture((200, 200), seed)[number : number + HW[0], number : number + HW[1]].copy()
    mask = np.zeros(HW, np.uint8)
    for k, (x, y, speed, turn) in enumerate([(30, 30, 2.0, 3), (90, 60, -1.5, -4)], start=1):
        move = cv2.getRotationMatrix2D((20, 20), turn * number, 1)
        move[:, 2] += x + speed * number - 20, y - 20
        disc = cv2.circle(np.zeros((40, 40), np.uint8), (20, 20), 18, 255, -1)
        inside = cv2.warpAffine(disc, move, HW[::-1]) > 127
        image[inside] = cv2.warpAffine(texture((40, 40), seed + k) // 2 + 50 * k, move, HW[::-1])[inside]
        mask[inside] = k
    noise = np.random.default_rng([seed, number]).normal(0, 5, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8), mask


def noisy(mask: np.ndarray, number: int, *, amount: float = 1.0) -> np.ndarray:
    """Logits [3, h, w] that are right on average, wrong in blobs that differ from frame to frame."""
    noise = np.random.default_rng([7, number]).normal(0, 1, (*HW, 3)).astype(np.float32)
    blobs = cv2.GaussianBlur(noise, (0, 0), 3)
    logits: np.ndarray = 2 * np.eye(3, dtype=np.float32)[mask] + amount * blobs / blobs.std()
    return logits.transpose(2, 0, 1)


@dataclass
class Figures:
    """Of a video: mean flicker and mean IoU, as predicted and smoothed."""

    raw_flicker: float
    flicker: float
    raw_miou: float
    miou: float


def smooth_scene(*, amount: float, count: int = 25) -> Figures:
    smoother, flickers = Smoother(), []
    raw_matrix, matrix = ConfusionMatrix(3), ConfusionMatrix(3)
    for number in range(count):
        image, mask = scene(number)
        logits = noisy(mask, number, amount=amount)
        smoothed = smoother.update(image, logits)
        flickers.append((smoothed.raw_flicker, smoothed.smooth_flicker))
        raw_matrix.update(logits.argmax(axis=0).astype(np.uint8), mask)
        matrix.update(smoothed.logits.argmax(axis=0).astype(np.uint8), mask)
    assert all(map(math.isnan, flickers[0]))
    means = np.array(flickers[1:]).mean(axis=0)
    return Figures(*means, raw_matrix.scores().miou, matrix.scores().miou)


@pytest.mark.parametrize(("amount", "at_most"), [(1.0, 0.3), (0.7, 0.4), (0.5, 0.8)])
def test_smoothing_lowers_flicker_without_lowering_accuracy(amount: float, at_most: float) -> None:
    figures = smooth_scene(amount=amount)
    assert figures.flicker < at_most * figures.raw_flicker
    assert figures.miou > figures.raw_miou


def test_smoothed_probabilities_sum_to_one() -> None:
    smoother = Smoother()
    for number in range(3):
        image, mask = scene(number)
        total = np.exp(smoother.update(image, noisy(mask, number)).logits).sum(axis=0)
        assert np.abs(total - 1).max() < 1e-3


def test_tensors_in_any_memory_order_give_what_arrays_give() -> None:
    import torch

    smoothers = Smoother(), Smoother(), Smoother()
    for number in range(3):
        image, mask = scene(number)
        logits = noisy(mask, number)
        tensor = torch.from_numpy(np.ascontiguousarray(logits))
        last = tensor[None].contiguous(memory_format=torch.channels_last)[0]
        given = (logits, tensor, last)
        first, *others = [smoother.update(image, x) for smoother, x in zip(smoothers, given, strict=True)]
        assert all(np.allclose(first.logits, other.logits, atol=1e-4) for other in others)
        assert np.array_equal(logits, noisy(mask, number))  # left as they were
        assert np.array_equal(tensor.numpy(), logits)


def test_a_still_image_is_averaged_with_falling_weights() -> None:
    image, mask = scene(0)
    smoother = Smoother(kept=0.5)
    first, second = noisy(mask, 0), noisy(mask, 1)
    smoother.update(image, first)
    found = np.exp(smoother.update(image, second).logits)
    powers = [np.exp(x) / np.exp(x).sum(axis=0) for x in (first, second)]
    inner = (slice(None), slice(8, -8), slice(8, -8))
    assert np.abs(found - (powers[0] + powers[1]) / 2)[inner].mean() < 0.01


def test_what_changes_starts_again_and_the_rest_continues() -> None:
    image, mask = scene(0)
    changed = image.copy()
    changed[20:60, 20:60] = 255 - changed[20:60, 20:60] // 2
    smoother, alone = Smoother(), Smoother()
    smoother.update(image, noisy(mask, 0))
    found = np.exp(smoother.update(changed, noisy(mask, 1)).logits)
    unsmoothed = np.exp(alone.update(changed, noisy(mask, 1)).logits)
    difference = np.abs(found - unsmoothed).mean(axis=0)
    assert difference[30:50, 30:50].mean() < 0.1 * difference[70:, 70:].mean()


@pytest.mark.parametrize("bars", [0, 32])
@pytest.mark.parametrize("light", [1.0, 0.25])
def test_a_cut_starts_again(bars: int, light: float) -> None:
    smoother = Smoother()
    inner = (slice(bars, HW[0] - bars), slice(None))  # the bars of a letterbox look the same before and after
    (image, mask), (other, _) = scene(0), scene(0, seed=5)
    image, other = ((light * pixels).astype(np.uint8) for pixels in (image, other))
    for pixels in (image, other):
        pixels[:bars], pixels[HW[0] - bars :] = 128, 128
    smoother.update(image, noisy(mask, 0), inner)
    found = smoother.update(other, noisy(mask, 1), inner)
    alone = Smoother().update(other, noisy(mask, 1), inner)
    assert np.array_equal(found.logits, alone.logits)
    assert math.isnan(found.raw_flicker)


@pytest.mark.parametrize("brightness", [None, 128])
@pytest.mark.parametrize("noise", [5, 15])
def test_noise_is_no_cut(noise: float, brightness: int | None) -> None:
    smoother, rng = Smoother(), np.random.default_rng(0)
    image, mask = scene(0)
    if brightness is not None:
        image[:] = brightness  # shows nothing, as a wall
    for number in range(3):
        pixels = np.clip(image + rng.normal(0, noise, image.shape), 0, 255).astype(np.uint8)
        smoothed = smoother.update(pixels, noisy(mask, number))
    assert smoothed.smooth_flicker < smoothed.raw_flicker


def test_bars_of_the_letterbox_count_for_nothing() -> None:
    inner = (slice(16, 80), slice(None))
    within, whole = Smoother(), Smoother()
    for number in range(3):
        image, mask = scene(number)
        logits = noisy(mask, number)
        bare = whole.update(np.ascontiguousarray(image[inner]), np.ascontiguousarray(logits[:, *inner]))
        image[:16], image[80:] = 128, 128
        logits[:, :16], logits[:, 80:] = 9 * number, -9 * number
        boxed = within.update(image, logits, inner)
        assert np.array_equal(boxed.logits[:, *inner], bare.logits)
        assert boxed.raw_flicker == pytest.approx(bare.raw_flicker, nan_ok=True)


def test_another_size_starts_again() -> None:
    image, mask = scene(0)
    smoother = Smoother()
    smoother.update(image, noisy(mask, 0))
    found = smoother.update(image, noisy(mask, 1), (slice(0, 50), slice(None)))
    assert math.isnan(found.raw_flicker)


@pytest.mark.parametrize("hw", [(1, 128), (11, 50), (12, 64), (31, 31), (64, 5)])
def test_thin_images_are_smoothed(hw: tuple[int, int]) -> None:
    """On some of these sizes OpenCV's flow raises an error, on others it ends the process."""
    rng = np.random.default_rng(0)
    image = cv2.resize(texture((64, 128), 0), hw[::-1])
    smoother = Smoother()
    for _ in range(2):
        smoothed = smoother.update(image, rng.normal(0, 1, (2, *hw)).astype(np.float32))
    assert smoothed.smooth_flicker < smoothed.raw_flicker


def test_one_class_has_no_flicker() -> None:
    smoother = Smoother()
    for number in range(2):
        smoothed = smoother.update(scene(number)[0], np.zeros((1, *HW), np.float32))
    assert (smoothed.raw_flicker, smoothed.smooth_flicker) == (0, 0)


def test_flicker_is_the_share_that_changed_after_moving_along() -> None:
    rows, columns = np.indices((4, 6), dtype=np.float32)
    previous = np.zeros((4, 6), np.uint8)
    previous[:, 2] = 1
    current = np.zeros((4, 6), np.uint8)
    current[:, 3] = 1
    assert flicker(previous, current, (columns - 1, rows)) == 0  # what was a pixel to the left
    assert flicker(previous, current, (columns, rows)) == pytest.approx(2 / 6)
    assert math.isnan(flicker(previous, current, (columns + 10, rows)))
