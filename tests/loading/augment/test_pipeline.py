from dataclasses import replace

import numpy as np
import pytest

from segkit.config.schema import AugmentConfig
from segkit.imaging.letterbox import BAR_GREY
from segkit.loading.augment.geometric import RandomPlacement
from segkit.loading.augment.photometric import ColorJitter
from segkit.loading.augment.pipeline import augment, build_augment

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


# ---- rare crops


def scene(hw: tuple[int, int] = (60, 80)) -> np.ndarray:
    """Ids: mostly 0, a fifth 1, and one pixel of 2 in a far corner."""
    mask = np.zeros(hw, np.uint8)
    mask[:, : hw[1] // 5] = 1
    mask[2, -3] = 2
    return mask


def test_without_rare_crops_the_numbers_stay_as_they_were() -> None:
    step = placement(scale=(0.5, 2), aspect=0.3, flip=0.5, rarity=(1.0, 5.0, 99.0))
    rng = np.random.default_rng(7)
    drawn = [step.sample(rng, (60, 80), scene()) for _ in range(3)]
    rng = np.random.default_rng(7)
    for one in drawn:
        stretch = rng.uniform(0.7, 1.3) / rng.uniform(0.7, 1.3)
        size = rng.uniform(0.5, 2) * min(48 / 60, 64 / (80 * stretch))
        places, flip = rng.uniform(size=2), rng.uniform() < 0.5
        for axis, (length, scale) in enumerate(((60, size), (80, size * stretch))):
            start = round(places[axis] * (CANVAS[axis] - round(length * scale)))
            assert one.target[axis].start == max(0, start)
        assert one.flip == flip


@pytest.mark.parametrize("hw", [(60, 80), (300, 90), (37, 211)])
@pytest.mark.parametrize("scale", [(1.0, 3.0), (0.3, 0.9), (2.5, 8.0)])
def test_the_drawn_pixel_is_always_in_the_crop(hw: tuple[int, int], scale: tuple[float, float]) -> None:
    step = placement(scale=scale, aspect=0.3, flip=0.5, rare_crops=1.0, rarity=(0.0, 0.0, 1.0))
    rng = np.random.default_rng(0)
    for _ in range(200):
        mask = np.zeros(hw, np.uint8)
        row, column = rng.integers(hw[0]), rng.integers(hw[1])
        mask[row, column] = 2
        where = step.sample(rng, hw, mask)
        assert where.source[0].start <= row < where.source[0].stop
        assert where.source[1].start <= column < where.source[1].stop
        seen, placed = ([part.stop - part.start for part in parts] for parts in (where.source, where.target))
        if placed[0] >= seen[0] and placed[1] >= seen[1]:  # nothing is left out by shrinking
            assert (step.mask(mask, where) == 2).any()


def test_without_rare_crops_a_single_pixel_is_mostly_cut_off() -> None:
    def share(**settings: object) -> float:
        step = placement(scale=(3, 3), rarity=(0.0, 0.0, 1.0), **settings)
        rng = np.random.default_rng(0)
        return float(
            np.mean([(step.mask(scene(), step.sample(rng, (60, 80), scene())) == 2).any() for _ in range(300)])
        )

    assert share() < 0.2
    assert 0.4 < share(rare_crops=0.5) < 0.7
    assert share(rare_crops=1.0) == 1


def test_places_of_the_pixel_on_the_canvas_are_uniform() -> None:
    mask = np.zeros((100, 100), np.uint8)
    mask[50, 50] = 1
    step = placement(canvas_hw=(50, 20), fit_hw=(100, 100), rare_crops=1.0, rarity=(0.0, 1.0))
    rng = np.random.default_rng(0)
    draws = [step.sample(rng, (100, 100), mask) for _ in range(4000)]
    for axis, size in enumerate((50, 20)):
        counts = np.bincount([50 - draw.source[axis].start for draw in draws], minlength=size)
        assert len(counts) == size
        assert (np.abs(counts - 4000 / size) < 5 * np.sqrt(4000 / size)).all()


def test_near_a_border_the_crop_stays_in_the_picture() -> None:
    mask = np.zeros((100, 100), np.uint8)
    mask[1, 99] = 1
    step = placement(canvas_hw=(50, 20), fit_hw=(100, 100), rare_crops=1.0, rarity=(0.0, 1.0))
    rng = np.random.default_rng(0)
    draws = [step.sample(rng, (100, 100), mask) for _ in range(200)]
    assert {draw.source[0].start for draw in draws} == {0, 1}
    assert {draw.source[1].start for draw in draws} == {80}
    assert all(draw.target == (slice(0, 50), slice(0, 20)) for draw in draws)


def test_classes_are_drawn_by_the_inverse_of_their_share_and_their_pixels_alike() -> None:
    step = build_augment(
        replace(OFF, rare_crops=1.0, crop=(4, 4)), canvas_hw=(48, 64), ignore_index=255, class_pixels=[800, 100, 50, 0]
    ).placement
    assert step.rarity == pytest.approx((950 / 800, 9.5, 19.0, 0.0))
    mask = np.full((48, 64), 255, np.uint8)
    mask[:6, :4] = 1
    mask[-1, -1] = 2
    rng = np.random.default_rng(0)
    seen = [np.unique(step.mask(mask, step.sample(rng, mask.shape, mask))) for _ in range(600)]
    assert np.mean([2 in ids for ids in seen]) == pytest.approx(2 / 3, abs=0.06)
    assert all(1 in ids or 2 in ids for ids in seen)


def test_a_picture_without_a_label_is_placed_anywhere() -> None:
    step = placement(scale=(3, 3), rare_crops=1.0, rarity=(1.0, 1.0))
    nothing = np.full((60, 80), 255, np.uint8)
    rng = np.random.default_rng(0)
    assert len({step.sample(rng, (60, 80), nothing).source[0].start for _ in range(50)}) > 10


def test_a_rare_crop_is_drawn_once_for_image_and_mask_and_written_where_it_belongs() -> None:
    recipe = build_augment(
        AugmentConfig(rare_crops=1.0, scale=(1, 4), hue=0, saturation=0, value=0),
        canvas_hw=CANVAS, ignore_index=255, class_pixels=[100, 10, 5],
    )  # fmt: skip
    image, mask = picture((90, 130))
    out = np.empty((*CANVAS, 3), np.uint8), np.empty(CANVAS, np.uint8)
    for seed in range(8):
        there = augment(recipe, np.random.default_rng(seed), image, mask, out=out)
        assert there[0] is out[0]
        fresh = augment(recipe, np.random.default_rng(seed), image, mask)
        assert np.array_equal(fresh[0], out[0])
        assert np.array_equal(fresh[1], out[1])
        shown = out[1] != 255
        assert (np.abs(out[0][shown][:, 0].astype(int) - out[1][shown] * 100) <= 50).mean() > 0.9
