"""Augmentation as training applies it: over the table of steps, and steps added to it."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest

from segkit.config.schema import AugmentConfig
from segkit.imaging.letterbox import BAR_GREY, LetterBox
from segkit.loading.augment.geometric import GeometricStep, Placement
from segkit.loading.augment.photometric import HsvJitter, PhotometricStep
from segkit.loading.augment.pipeline import STEPS, Recipe, augment, build_augment, draw

OFF = AugmentConfig(scale=(1, 1), aspect=0, flip=0, hue=0, saturation=0, value=0)
CANVAS = (48, 64)
ALONE = {  # every step of the table, with the others off
    "aspect": {"aspect": 0.3},
    "scale": {"scale": (0.25, 2)},
    "position": {},
    "flip": {"flip": 0.5},
    "rare_crops": {"rare_crops": 1.0, "scale": (1, 4)},
    "hsv": {"value": 0.2},
    "vflip": {"vflip": 0.5},
    "quarter_turns": {"quarter_turns": 1},
    "shear": {"shear": 20},
    "rotate": {"rotate": 45},
    "perspective": {"perspective": 0.15},
    "tones": {"brightness": 0.05, "contrast": 0.1, "gamma": 0.1},
    "clahe": {"clahe": 1},
    "grey": {"grey": 1},
    "channel_drop": {"channel_drop": 1},
    "blur": {"blur": 1},
    "noise": {"noise": 1},
    "jpeg": {"jpeg": 1},
}
TONES = ("clahe", "grey", "channel_drop")  # after which an image no longer tells its mask


def draw_image(hw: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """An image whose red channel is its mask times 100, so that the two can be compared wherever they come to lie."""
    mask = np.zeros(hw, np.uint8)
    mask[hw[0] // 3 : hw[0] // 3 * 2, hw[1] // 3 :] = 1
    mask[hw[0] // 3 * 2 :] = 2
    return np.stack([mask * 100, mask * 0, mask * 0], axis=2), mask


def agreement(image: np.ndarray, mask: np.ndarray) -> float:
    """Return the share of pixels within the bars whose red is that of their id; the bars themselves must be grey."""
    bars = mask == 255
    assert (image[bars] == BAR_GREY).all()
    return float((np.abs(image[~bars][:, 0].astype(int) - mask[~bars] * 100) <= 50).mean())


def build(config: AugmentConfig) -> Recipe:
    return build_augment(config, canvas_hw=CANVAS, ignore_index=255, class_pixels=[100, 10, 5])


def test_the_tests_know_every_step_of_the_table() -> None:
    assert ALONE.keys() == STEPS.keys()


@pytest.mark.parametrize("hw", [(48, 64), (30, 90), (200, 100), (5, 5)])
@pytest.mark.parametrize("name", [name for name in STEPS if name not in TONES])
def test_image_and_mask_go_the_same_way(name: str, hw: tuple[int, int]) -> None:
    recipe = build(replace(OFF, **ALONE[name]))
    for seed in range(8):
        image, mask = augment(recipe, np.random.default_rng(seed), *draw_image(hw))
        assert image.shape == (*CANVAS, 3)
        assert mask.shape == CANVAS
        assert agreement(image, mask) > (0.9 if min(hw) > 5 else 0.6)


@pytest.mark.parametrize("name", [name for name in STEPS if name != "position"])  # centred without bars or crops
def test_every_step_changes_something(name: str) -> None:
    source = draw_image((60, 64))
    without = replace(OFF, scale=(1, 4)) if name == "rare_crops" else OFF
    recipes = build(replace(OFF, **ALONE[name])), build(without)
    seeds = range(8)
    changed, plain = ([augment(recipe, np.random.default_rng(k), *source) for k in seeds] for recipe in recipes)
    assert any(not np.array_equal(one[0], other[0]) for one, other in zip(changed, plain, strict=True))


@pytest.mark.parametrize("hw", [(48, 64), (30, 90), (200, 100), (20, 20)])
def test_everything_off_gives_the_letterboxed_image_but_for_its_position(hw: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    image, mask = rng.integers(0, 256, (*hw, 3), np.uint8), rng.integers(0, 3, hw, np.uint8)
    out_image, out_mask = augment(build(OFF), rng, image, mask)
    box = LetterBox.fit(hw, CANVAS)
    rows, columns = np.nonzero(out_mask != 255)
    shown = slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1)
    assert np.array_equal(out_image[shown], box.apply(image)[box.inner])
    assert np.array_equal(out_mask[shown], box.apply_mask(mask, ignore_index=255)[box.inner])


def test_flip_mirrors_the_image() -> None:
    image, mask = draw_image(CANVAS)
    out_image, out_mask = augment(build(replace(OFF, flip=1)), np.random.default_rng(0), image, mask)
    assert np.array_equal(out_image, image[:, ::-1])
    assert np.array_equal(out_mask, mask[:, ::-1])


@pytest.mark.parametrize(
    ("setting", "added"),
    [({}, set()), ({"hue": 0.1}, {"HsvJitter"}), ({"saturation": 0.1}, {"HsvJitter"}), ({"value": 0.1}, {"HsvJitter"}),
     ({"rare_crops": 0.5}, {"RareCrops"})],
)  # fmt: skip
def test_a_step_that_changes_nothing_is_left_out(setting: dict[str, float], added: set[str]) -> None:
    always = {"Aspect", "Scale", "Position", "Flip"}  # they draw, so leaving them out would change other draws
    assert {type(step).__name__ for step in build(replace(OFF, **setting)).steps} == always | added


def test_a_sample_is_written_into_the_arrays_given_and_is_the_same_there() -> None:
    recipe, source = build(AugmentConfig(rare_crops=1.0, scale=(0.5, 4))), draw_image((90, 130))
    out = np.empty((*CANVAS, 3), np.uint8), np.empty(CANVAS, np.uint8)
    for seed in range(8):
        written = augment(recipe, np.random.default_rng(seed), *source, out=out)
        assert written[0] is out[0]
        assert written[1] is out[1]
        fresh = augment(recipe, np.random.default_rng(seed), *source)
        assert np.array_equal(fresh[0], out[0])
        assert np.array_equal(fresh[1], out[1])


@pytest.mark.parametrize(("labelled_crops", "all_hold_one"), [(True, True), (False, False)])
def test_crops_of_a_scribble_hold_a_labelled_pixel_where_asked_for(labelled_crops: bool, all_hold_one: bool) -> None:
    image, mask = draw_image((90, 130))
    scribble = np.full_like(mask, 255)
    scribble[40:46, 20:50] = mask[40:46, 20:50]
    config = replace(OFF, scale=(2.0, 4.0))
    recipe = build_augment(
        config, canvas_hw=CANVAS, ignore_index=255, class_pixels=[100, 10, 5], labelled_crops=labelled_crops
    )
    crops = [augment(recipe, np.random.default_rng(seed), image, scribble)[1] for seed in range(40)]
    assert all((crop != 255).any() for crop in crops) == all_hold_one


@pytest.mark.parametrize("scale", [(0.25, 0.5), (2, 4)])
def test_what_is_read_is_not_written_to(scale: tuple[float, float]) -> None:
    image, mask = draw_image((60, 80))
    image.flags.writeable = mask.flags.writeable = False  # as pixels of a cache should be left
    augment(
        build(AugmentConfig(scale=scale, hue=0.5, saturation=0.5, value=0.5)), np.random.default_rng(0), image, mask
    )


@pytest.mark.parametrize(("scale", "num_pixels"), [((3, 3), 20 * 30), ((0.5, 0.5), 24 * 32)])
def test_colours_change_where_there_are_fewer_pixels(
    monkeypatch: pytest.MonkeyPatch, scale: tuple[float, float], num_pixels: int
) -> None:
    seen, apply = [], HsvJitter.apply

    def counted(self: HsvJitter, pixels: np.ndarray, parameters: np.ndarray) -> np.ndarray:
        seen.append(pixels.shape[0] * pixels.shape[1])
        return apply(self, pixels, parameters)

    monkeypatch.setattr(HsvJitter, "apply", counted)
    augment(build(replace(OFF, value=0.2, scale=scale)), np.random.default_rng(0), *draw_image((60, 80)))
    assert seen == [pytest.approx(num_pixels, rel=0.25)]


# ---- adding a step: a class and a line


@dataclass(frozen=True)
class Turn(GeometricStep):
    """Turn by up to 90 degrees, about the middle of the canvas."""

    def sample(self, rng: np.random.Generator, placement: Placement, mask: np.ndarray) -> Placement:
        angle = rng.uniform(0.2, np.pi / 2)
        y, x = ((length - 1) / 2 for length in placement.canvas_hw)
        about = np.array([[1, 0, x], [0, 1, y], [0, 0, 1]])
        turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
        return placement.moved(about @ turn @ np.linalg.inv(about))


@dataclass(frozen=True)
class Lines(PhotometricStep):
    """Paint every second row blue: a change that isn't pointwise, so it must come after resizing."""

    def sample(self, rng: np.random.Generator) -> int:
        return int(rng.integers(100, 200))

    def apply(self, pixels: np.ndarray, parameters: int) -> np.ndarray:
        changed = pixels.copy()
        changed[::2, :, 2] = parameters
        return changed


@pytest.fixture
def add(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, GeometricStep | PhotometricStep], None]:
    return lambda name, step: monkeypatch.setitem(STEPS, name, lambda config, class_pixels: step)


@pytest.mark.parametrize("scale", [(0.5, 0.5), (1, 1), (2, 2)])
def test_an_added_geometric_step_moves_image_and_mask_together(
    add: Callable[..., None], scale: tuple[float, float]
) -> None:
    source, config = draw_image((60, 80)), replace(OFF, scale=scale)
    straight = augment(build(config), np.random.default_rng(0), *source)
    add("turn", Turn())
    for seed in range(8):
        image, mask = augment(build(config), np.random.default_rng(seed), *source)
        assert agreement(image, mask) > 0.9
        assert (mask != straight[1]).mean() > 0.05


@pytest.mark.parametrize("scale", [(0.5, 0.5), (1, 1), (3, 3)])
@pytest.mark.parametrize("turned", [False, True])
def test_an_added_photometric_step_changes_the_pixels_that_are_seen_and_no_mask(
    add: Callable[..., None], scale: tuple[float, float], turned: bool
) -> None:
    source, config = draw_image((60, 80)), replace(OFF, scale=scale)
    if turned:
        add("turn", Turn())
    before = augment(build(config), np.random.default_rng(0), *source)
    add("lines", Lines())
    after = augment(build(config), np.random.default_rng(0), *source)
    assert np.array_equal(after[1], before[1])
    assert np.array_equal(after[0][..., :2], before[0][..., :2])
    blue, bars = after[0][..., 2], before[1] == 255
    assert (blue[bars] == BAR_GREY).all()
    assert (blue[~bars] >= 100).mean() == pytest.approx(0.5, abs=0.05)  # rows of the canvas, not of the source


def test_an_added_step_changes_no_number_of_those_before_it(add: Callable[..., None]) -> None:
    source = draw_image((60, 80))
    before = draw(build(AugmentConfig()), np.random.default_rng(0), source[1])
    add("lines", Lines())
    after = draw(build(AugmentConfig()), np.random.default_rng(0), source[1])
    assert after[0] == before[0]
    assert np.array_equal(after[1][0][1], before[1][0][1])


def test_a_growing_step_keeps_the_decoder_from_shrinking_too_much(add: Callable[..., None]) -> None:
    class Grow(Turn):
        @property
        def max_growth(self) -> float:
            return 3.0

    hw = (480, 640)
    assert build(OFF).reduction(hw) == 8
    add("grow", Grow())
    assert build(OFF).reduction(hw) == 2
