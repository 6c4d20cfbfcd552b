"""The general warp, by a matrix, against the one from rectangle to rectangle."""

from dataclasses import replace

import numpy as np
import pytest

from segkit.datasets.shapes import draw_scene
from segkit.imaging.letterbox import BAR_GREY
from segkit.loading.augment.geometric import Placement, Size
from segkit.loading.augment.warp import warp

CANVAS = (48, 64)


def warped(image: np.ndarray, mask: np.ndarray, placement: Placement) -> tuple[np.ndarray, np.ndarray]:
    out = np.empty((*placement.canvas_hw, 3), np.uint8), np.empty(placement.canvas_hw, np.uint8)
    warp(image, mask, placement, out=out, ignore_index=255)
    return out


@pytest.mark.parametrize("hw", [(48, 64), (211, 300), (20, 30)])
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize(
    ("size", "same_ids", "difference"),
    [(0.4, 0.97, 4), (0.8, 0.97, 4), (2.5, 0.9, 16)],  # a crop is cut from the source at whole pixels
)
def test_a_matrix_that_moves_nothing_gives_the_plain_resize(
    hw: Size, flip: bool, size: float, same_ids: float, difference: float
) -> None:
    image, mask = draw_scene(np.random.default_rng(0), hw)
    plain = Placement(hw, CANVAS, CANVAS, stretch=1.2, size=size, position=(0.3, 0.8), flip=flip)
    expected, found = warped(image, mask, plain), warped(image, mask, plain.moved(np.eye(3)))
    assert (expected[1] == found[1]).mean() > same_ids
    assert np.abs(expected[0].astype(int) - found[0]).mean() < difference


def test_a_quarter_turn_turns_image_and_mask() -> None:
    image, mask = draw_scene(np.random.default_rng(0), (40, 40))
    turn = np.array([[0.0, -1, 39], [1, 0, 0], [0, 0, 1]])  # (x, y) -> (39 - y, x): clockwise
    found = warped(image, mask, Placement((40, 40), (40, 40), (40, 40), matrix=turn))
    assert np.array_equal(found[0], np.rot90(image, -1))
    assert np.array_equal(found[1], np.rot90(mask, -1))


def test_what_is_shown_from_outside_the_image_is_bars() -> None:
    image, mask = draw_scene(np.random.default_rng(0), CANVAS)
    mask[:] = 255  # ids alone don't say where the image ends
    shift = np.array([[1.0, 0, 10], [0, 1, 0], [0, 0, 1]])
    pixels, ids = warped(image, mask, Placement(CANVAS, CANVAS, CANVAS, matrix=shift))
    assert (pixels[:, :10] == BAR_GREY).all()
    assert np.array_equal(pixels[:, 10:], image[:, :-10])
    assert (ids == 255).all()


@pytest.mark.parametrize("shift", [-500.0, 500.0])
def test_an_image_moved_off_the_canvas_leaves_bars(shift: float) -> None:
    image, mask = draw_scene(np.random.default_rng(0), CANVAS)
    away = np.array([[1.0, 0, shift], [0, 1, 0], [0, 0, 1]])
    pixels, ids = warped(image, mask, Placement(CANVAS, CANVAS, CANVAS, matrix=away))
    assert (pixels == BAR_GREY).all()
    assert (ids == 255).all()


def test_shrinking_by_a_matrix_averages_rather_than_skips() -> None:
    checks = (np.indices((480, 640)).sum(axis=0) % 2 * 255).astype(np.uint8)
    image, mask = np.repeat(checks[:, :, None], 3, axis=2), np.zeros((480, 640), np.uint8)
    placement = Placement((480, 640), CANVAS, CANVAS)
    pixels, _ = warped(image, mask, replace(placement, matrix=np.eye(3)))
    assert np.abs(pixels.astype(int) - 127).max() <= 2
