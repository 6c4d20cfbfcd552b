"""Steps one by one: what each does to pixels and ids, by its own definition."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from segkit.config.schema import AugmentConfig
from segkit.loading.augment.degrading import Blur, Jpeg, Noise
from segkit.loading.augment.geometric import Placement
from segkit.loading.augment.matrices import Perspective, Rotation, Shear
from segkit.loading.augment.photometric import PhotometricStep
from segkit.loading.augment.pipeline import augment, build_augment
from segkit.loading.augment.tones import ChannelDrop, Clahe, Grey, Tones

OFF = AugmentConfig(scale=(1, 1), aspect=0, flip=0, hue=0, saturation=0, value=0)
PHOTOMETRIC: list[PhotometricStep] = [
    Tones(0.2, 0.3, 0.4), Clahe(1), Grey(1), ChannelDrop(1), Blur(1), Noise(1), Jpeg(1)
]  # fmt: skip
IMAGE = np.random.default_rng(0).integers(0, 256, (40, 56, 3), np.uint8)


def by(config: AugmentConfig, image: np.ndarray, mask: np.ndarray, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    recipe = build_augment(config, canvas_hw=mask.shape, ignore_index=255)
    return augment(recipe, np.random.default_rng(seed), image, mask)


def scene(side: int = 48) -> tuple[np.ndarray, np.ndarray]:
    mask = np.kron(np.arange(16).reshape(4, 4) % 5, np.ones((side // 4, side // 4))).astype(np.uint8)
    return np.dstack([mask * 50] * 3), mask


# ---- where things lie


def test_a_vertical_flip_is_exact() -> None:
    image, mask = scene()
    out_image, out_mask = by(replace(OFF, vflip=1), image, mask)
    assert np.array_equal(out_image, image[::-1])
    assert np.array_equal(out_mask, mask[::-1])


def test_quarter_turns_are_exact_and_each_comes() -> None:
    image, mask = scene()
    turns = set()
    for seed in range(20):
        out_image, out_mask = by(replace(OFF, quarter_turns=1), image, mask, seed=seed)
        k = next(k for k in (1, 2, 3) if np.array_equal(out_mask, np.rot90(mask, k)))
        assert np.array_equal(out_image, np.rot90(image, k))
        turns.add(k)
    assert turns == {1, 2, 3}


def test_a_turned_canvas_has_ignored_corners_and_keeps_its_middle() -> None:
    image, mask = scene()
    step = Rotation(45)
    turned = [step.sample(np.random.default_rng(seed), Placement(*[mask.shape] * 3), mask) for seed in range(50)]
    angles = [
        np.degrees(np.arctan2(each.matrix[1, 0], each.matrix[0, 0])) for each in turned if each.matrix is not None
    ]
    assert min(angles) < -30
    assert max(angles) > 30
    assert max(map(abs, angles)) <= 45
    middle = np.array([23.5, 23.5, 1])
    assert all(each.matrix @ middle == pytest.approx(middle) for each in turned if each.matrix is not None)
    _, ids = by(replace(OFF, rotate=45), image, mask, seed=int(np.argmax(np.abs(angles))))
    assert ids[0, 0] == ids[-1, -1] == 255
    assert ids[24, 24] == mask[24, 24]


@pytest.mark.parametrize("step", [Shear(20), Perspective(0.2)])
def test_no_length_grows_by_more_than_a_step_says(step: Shear | Perspective) -> None:
    placement = Placement((48, 64), (48, 64), (48, 64))
    rng = np.random.default_rng(0)
    for _ in range(50):
        matrix = step.sample(rng, placement, np.zeros((48, 64), np.uint8)).matrix
        assert matrix is not None
        points = rng.uniform(5, 40, (50, 1, 2)).astype(np.float32)
        ends = points + np.float32(0.01) * rng.normal(size=points.shape).astype(np.float32)
        moved = [cv2.perspectiveTransform(each.astype(np.float64), matrix) for each in (points, ends)]
        grown = np.linalg.norm(moved[1] - moved[0], axis=2) / np.linalg.norm(ends.astype(float) - points, axis=2)
        assert grown.max() <= step.max_growth * 1.05


# ---- what pixels look like


@pytest.mark.parametrize("step", PHOTOMETRIC, ids=lambda step: type(step).__name__)
def test_pixels_change_into_new_ones_and_those_given_stay(step: PhotometricStep) -> None:
    given = IMAGE.copy()
    given.flags.writeable = False
    changed = step.apply(given, step.sample(np.random.default_rng(1)))
    assert changed.dtype == np.uint8
    assert changed.shape == IMAGE.shape
    assert not np.array_equal(changed, IMAGE)
    assert np.array_equal(step.apply(given, step.sample(np.random.default_rng(1))), changed)


@pytest.mark.parametrize(
    "step", [step for step in PHOTOMETRIC if not isinstance(step, Tones)], ids=lambda step: type(step).__name__
)
def test_with_a_probability_of_a_half_half_of_the_samples_change(step: PhotometricStep) -> None:
    half = type(step)(0.5)  # type: ignore[call-arg]
    rng = np.random.default_rng(0)
    changed = [not np.array_equal(half.apply(IMAGE, half.sample(rng)), IMAGE) for _ in range(200)]
    assert 70 < sum(changed) < 130


@pytest.mark.parametrize("step", [step for step in PHOTOMETRIC if step.pointwise], ids=lambda step: type(step).__name__)
def test_a_pointwise_step_changes_a_pixel_alike_wherever_it_lies(step: PhotometricStep) -> None:
    parameters = step.sample(np.random.default_rng(2))
    assert np.array_equal(step.apply(IMAGE[::-1].copy(), parameters)[::-1], step.apply(IMAGE, parameters))


def test_tones_follow_their_curve() -> None:
    ramp = np.dstack([np.arange(256, dtype=np.uint8)[None]] * 3)
    found = Tones(1, 1, 2).apply(ramp, np.array([0.1, 0.5, 2.0]))[0, :, 0]
    curve = 0.5 * ((np.arange(256) / 255) ** 2 - 0.5) + 0.5 + 0.1
    assert np.array_equal(found, np.clip(np.round(255 * curve), 0, 255))


def test_noise_has_the_deviation_that_was_drawn() -> None:
    middle = np.full((200, 200, 3), 128, np.uint8)
    noisy = Noise(1).apply(middle, (10.0, 7))
    assert np.std(noisy.astype(float)) == pytest.approx(10, rel=0.02)
    assert np.mean(noisy) == pytest.approx(128, abs=0.1)


def test_grey_is_the_luma_in_all_channels() -> None:
    grey = Grey(1).apply(IMAGE, True)
    assert (grey == grey[..., :1]).all()
    assert grey[..., 0] == pytest.approx(IMAGE @ [0.299, 0.587, 0.114], abs=1)
