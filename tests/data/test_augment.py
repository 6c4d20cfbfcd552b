from dataclasses import replace

import numpy as np
import pytest

from segkit.config import AugmentConfig
from segkit.data.augment import ColorJitter, RandomPlacement, augment, build_augment
from segkit.geometry import BAR_GREY

OFF = AugmentConfig(scale=(1, 1), aspect=0, flip=0, hue=0, saturation=0, value=0)
CANVAS = (48, 64)


def picture(hw: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """An image whose red channel is its mask times 100, so that the two can be compared after any placement."""
    mask = np.zeros(hw, np.uint8)
    mask[hw[0] // 3 : hw[0] // 3 * 2, hw[1] // 3 :] = 1
    mask[hw[0] // 3 * 2 :] = 2
    return np.stack([mask * 100, mask * 0, mask * 0], axis=2), mask


def placement(**settings: object) -> RandomPlacement:
    plain = RandomPlacement(CANVAS, CANVAS, scale=(1, 1), aspect=0, flip=0, ignore_index=255)
    return replace(plain, **settings)  # type: ignore[arg-type]


def test_everything_off_gives_the_letterboxed_picture() -> None:
    image, mask = picture(CANVAS)
    steps = build_augment(OFF, canvas_hw=CANVAS, ignore_index=255)
    out_image, out_mask = augment(steps, np.random.default_rng(0), image, mask)
    assert np.array_equal(out_image, image)
    assert np.array_equal(out_mask, mask)


@pytest.mark.parametrize("hw", [(48, 64), (30, 90), (200, 100), (5, 5)])
@pytest.mark.parametrize("seed", range(8))
def test_image_and_mask_go_the_same_way(hw: tuple[int, int], seed: int) -> None:
    image, mask = picture(hw)
    step = placement(scale=(0.25, 2), aspect=0.3, flip=0.5)
    parameters = step.sample(np.random.default_rng(seed), hw)
    out_image, out_mask = step.image(image, parameters), step.mask(mask, parameters)
    assert out_image.shape == (*CANVAS, 3)
    assert out_mask.shape == CANVAS
    bars = out_mask == 255
    assert (out_image[bars] == BAR_GREY).all()
    agree = np.abs(out_image[~bars][:, 0].astype(int) - out_mask[~bars] * 100) <= 50
    assert agree.mean() > (0.9 if min(hw) > 5 else 0.6)


def test_flip_mirrors_the_picture() -> None:
    image, mask = picture(CANVAS)
    step = placement(flip=1)
    parameters = step.sample(np.random.default_rng(0), CANVAS)
    assert np.array_equal(step.image(image, parameters), image[:, ::-1])
    assert np.array_equal(step.mask(mask, parameters), mask[:, ::-1])


@pytest.mark.parametrize(("scale", "share"), [(0.5, 0.25), (1.0, 1.0), (2.0, 1.0)])
def test_scale_is_relative_to_the_size_that_just_fits(scale: float, share: float) -> None:
    _, mask = picture((96, 128))
    step = placement(scale=(scale, scale))
    out = step.mask(mask, step.sample(np.random.default_rng(0), mask.shape))
    assert (out != 255).mean() == pytest.approx(share, abs=0.02)


def test_a_crop_shows_the_picture_at_the_scale_of_validation() -> None:
    _, mask = picture((96, 128))
    step = placement(canvas_hw=(24, 32), fit_hw=(96, 128))
    parameters = step.sample(np.random.default_rng(0), mask.shape)
    assert step.mask(mask, parameters).shape == (24, 32)
    assert parameters.source[0].stop - parameters.source[0].start == 24


def test_places_and_stretches_differ_from_draw_to_draw() -> None:
    step = placement(scale=(0.25, 2), aspect=0.3, flip=0.5)
    rng = np.random.default_rng(0)
    draws = [step.sample(rng, (96, 128)) for _ in range(200)]
    assert len({(draw.target[0].start, draw.target[1].start) for draw in draws}) > 50
    assert 0.3 < np.mean([draw.flip for draw in draws]) < 0.7


def test_color_jitter_changes_each_channel_by_its_amount_alone() -> None:
    image = np.full((4, 4, 3), (200, 100, 50), np.uint8)
    import cv2

    before = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)[0, 0].astype(int)
    for channel in range(3):
        factors = np.ones(3)
        factors[channel] = 0.7
        changed = ColorJitter(0.1, 0.7, 0.3).image(image, factors)
        after = cv2.cvtColor(changed, cv2.COLOR_RGB2HSV)[0, 0].astype(int)
        expected = before * factors
        assert np.abs(after - expected).max() <= 3, channel


def test_color_jitter_draws_factors_within_its_amounts_and_leaves_the_mask_alone() -> None:
    step = ColorJitter(0.1, 0.7, 0.3)
    rng = np.random.default_rng(0)
    draws = np.array([step.sample(rng, CANVAS) for _ in range(500)])
    assert (np.abs(draws - 1) <= (0.1, 0.7, 0.3)).all()
    assert (np.abs(draws - 1).max(axis=0) > (0.09, 0.65, 0.28)).all()
    _, mask = picture(CANVAS)
    assert step.mask(mask, draws[0]) is mask


@pytest.mark.parametrize(
    ("key", "value", "steps"), [("hue", 0.1, 1), ("saturation", 0.1, 1), ("value", 0.1, 1), ("flip", 0.5, 0)]
)
def test_color_that_is_off_costs_nothing(key: str, value: float, steps: int) -> None:
    assert len(build_augment(replace(OFF, **{key: value}), canvas_hw=CANVAS, ignore_index=255).colour) == steps
