"""Placements: what each step draws, and which part of the image comes to lie where."""

import numpy as np
import pytest

from segkit.loading.augment.geometric import (
    Aspect,
    Flip,
    GeometricStep,
    Placement,
    Position,
    RareCrops,
    Scale,
    Size,
    rarity,
)

CANVAS = (48, 64)


def place(
    rng: np.random.Generator,
    mask: np.ndarray,
    *steps: GeometricStep,
    canvas_hw: Size = CANVAS,
    fit_hw: Size = CANVAS,
) -> Placement:
    placement = Placement(mask.shape, canvas_hw, fit_hw)
    for step in steps:
        placement = step.sample(rng, placement, mask)
    return placement


def usual(scale: tuple[float, float] = (0.25, 2), aspect: float = 0.3, flip: float = 0.5) -> list[GeometricStep]:
    return [Aspect(aspect), Scale(*scale), Position(), Flip(flip)]


def test_the_usual_steps_draw_the_numbers_that_they_always_drew() -> None:
    mask, rng = np.zeros((60, 80), np.uint8), np.random.default_rng(7)
    drawn = [place(rng, mask, *usual(scale=(0.5, 2))) for _ in range(20)]
    rng = np.random.default_rng(7)
    for placement in drawn:
        stretch = rng.uniform(0.7, 1.3) / rng.uniform(0.7, 1.3)
        size = rng.uniform(0.5, 2) * min(48 / 60, 64 / (80 * stretch))
        positions, flip = rng.uniform(size=2), rng.uniform() < 0.5
        for axis, (length, scale) in enumerate(((60, size), (80, size * stretch))):
            start = round(positions[axis] * (CANVAS[axis] - round(length * scale)))
            assert placement.rectangles()[1][axis].start == max(0, start)
        assert placement.flip == flip


@pytest.mark.parametrize(("scale", "share"), [(0.5, 0.25), (1.0, 1.0), (2.0, 1.0)])
def test_scale_is_relative_to_the_size_that_just_fits(scale: float, share: float) -> None:
    placement = place(np.random.default_rng(0), np.zeros((96, 128), np.uint8), Scale(scale, scale), Position())
    rows, columns = placement.rectangles()[1]
    shown = (rows.stop - rows.start) * (columns.stop - columns.start)
    assert shown / (CANVAS[0] * CANVAS[1]) == pytest.approx(share, abs=0.02)


def test_a_crop_shows_the_image_at_the_scale_of_validation() -> None:
    mask = np.zeros((96, 128), np.uint8)
    placement = place(np.random.default_rng(0), mask, Position(), canvas_hw=(24, 32), fit_hw=(96, 128))
    (rows, columns), _ = placement.rectangles()
    assert (rows.stop - rows.start, columns.stop - columns.start) == (24, 32)


def test_positions_and_flips_differ_from_draw_to_draw() -> None:
    rng, mask = np.random.default_rng(0), np.zeros((96, 128), np.uint8)
    draws = [place(rng, mask, *usual()) for _ in range(200)]
    corners = {tuple(part.start for part in draw.rectangles()[1]) for draw in draws}
    assert len(corners) > 50
    assert 0.3 < np.mean([draw.flip for draw in draws]) < 0.7


def test_matrices_are_applied_in_the_order_of_the_steps() -> None:
    shift, double = np.array([[1.0, 0, 5], [0, 1, 0], [0, 0, 1]]), np.diag([2.0, 2, 1])
    placement = Placement((8, 8), CANVAS, CANVAS).moved(shift).moved(double)
    assert placement.matrix is not None
    assert (placement.matrix @ (1, 0, 1)).tolist() == [12, 0, 1]


# ---- rare crops


def cornered(hw: Size = (60, 80)) -> np.ndarray:
    """Ids: mostly 0, a fifth 1, and one pixel of 2 in a far corner."""
    mask = np.zeros(hw, np.uint8)
    mask[:, : hw[1] // 5] = 1
    mask[2, -3] = 2
    return mask


@pytest.mark.parametrize("hw", [(60, 80), (300, 90), (37, 211)])
@pytest.mark.parametrize("scale", [(1.0, 3.0), (0.3, 0.9), (2.5, 8.0)])
def test_the_drawn_pixel_is_always_in_the_crop(hw: Size, scale: tuple[float, float]) -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        mask = np.zeros(hw, np.uint8)
        row, column = rng.integers(hw[0]), rng.integers(hw[1])
        mask[row, column] = 2
        rows, columns = place(rng, mask, *usual(scale=scale), RareCrops(1.0, (0.0, 0.0, 1.0))).rectangles()[0]
        assert rows.start <= row < rows.stop
        assert columns.start <= column < columns.stop


def test_without_rare_crops_a_single_pixel_is_mostly_cut_off() -> None:
    def share(probability: float) -> float:
        rng, steps = np.random.default_rng(0), [Scale(3, 3), Position(), RareCrops(probability, (0.0, 0.0, 1.0))]
        sources = [place(rng, cornered(), *steps).rectangles()[0] for _ in range(300)]
        return float(np.mean([(cornered()[source] == 2).any() for source in sources]))

    assert share(0.0) < 0.2
    assert 0.4 < share(0.5) < 0.7
    assert share(1.0) == 1


def test_where_the_pixel_lies_on_the_canvas_is_uniform() -> None:
    mask = np.zeros((100, 100), np.uint8)
    mask[50, 50] = 1
    rng = np.random.default_rng(0)
    draws = [
        place(rng, mask, Position(), RareCrops(1.0, (0.0, 1.0)), canvas_hw=(50, 20), fit_hw=(100, 100))
        for _ in range(4000)
    ]
    for axis, size in enumerate((50, 20)):
        counts = np.bincount([50 - draw.rectangles()[0][axis].start for draw in draws], minlength=size)
        assert len(counts) == size
        assert (np.abs(counts - 4000 / size) < 5 * np.sqrt(4000 / size)).all()


def test_near_a_border_the_crop_stays_in_the_image() -> None:
    mask = np.zeros((100, 100), np.uint8)
    mask[1, 99] = 1
    rng = np.random.default_rng(0)
    found = [
        place(rng, mask, Position(), RareCrops(1.0, (0.0, 1.0)), canvas_hw=(50, 20), fit_hw=(100, 100)).rectangles()
        for _ in range(200)
    ]
    assert {source[0].start for source, _ in found} == {0, 1}
    assert {source[1].start for source, _ in found} == {80}
    assert all(target == (slice(0, 50), slice(0, 20)) for _, target in found)


def test_rarity_is_the_inverse_of_a_class_s_share() -> None:
    assert rarity([800, 100, 50, 0]) == pytest.approx((950 / 800, 9.5, 19.0, 0.0))


def test_classes_are_drawn_by_their_rarity_and_their_pixels_alike() -> None:
    step = RareCrops(1.0, rarity([800, 100, 50, 0]))
    mask = np.full((48, 64), 255, np.uint8)
    mask[:6, :4] = 1
    mask[-1, -1] = 2
    rng = np.random.default_rng(0)
    seen = [
        np.unique(mask[place(rng, mask, Position(), step, canvas_hw=(4, 4), fit_hw=(48, 64)).rectangles()[0]])
        for _ in range(600)
    ]
    assert np.mean([2 in ids for ids in seen]) == pytest.approx(2 / 3, abs=0.06)
    assert all(1 in ids or 2 in ids for ids in seen)


def test_an_image_without_a_labelled_pixel_is_cropped_anywhere() -> None:
    nothing, rng = np.full((60, 80), 255, np.uint8), np.random.default_rng(0)
    steps = [Scale(3, 3), Position(), RareCrops(1.0, (1.0, 1.0))]
    assert len({place(rng, nothing, *steps).rectangles()[0][0].start for _ in range(50)}) > 10
