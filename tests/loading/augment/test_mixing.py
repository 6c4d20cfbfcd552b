"""Several images in one sample."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from segkit.config.schema import AugmentConfig, RunConfig
from segkit.imaging.letterbox import BAR_GREY
from segkit.loading.augment.mixing import (
    CUT_MIX,
    CUT_OUT,
    MIXES,
    ClassMix,
    CopyPaste,
    CutMix,
    CutOut,
    Mosaic,
    Sample,
    mix,
    rectangle,
)
from segkit.loading.prepare import prepare_data
from segkit.training.setup import build_training_set

HW = (40, 60)


def of(ids: np.ndarray, *, red: int) -> Sample:
    """A sample whose green is its mask times 40, and whose red says which image it is."""
    mask = ids.astype(np.uint8)
    return np.dstack([np.full_like(mask, red), mask * 40, mask * 0]), mask


def two() -> tuple[Sample, Sample]:
    """Stripes of classes 0 and 1, and stripes of 2 to 4, the other way; a corner of each is ignored."""
    first = np.repeat([[0, 1]], HW[0], axis=0).repeat(HW[1] // 2, axis=1)
    second = np.repeat([2, 3, 4, 2], HW[0] // 4)[:, None].repeat(HW[1], axis=1)
    first[:5, :5] = second[-5:, -5:] = 6
    return of(first, red=100), of(second, red=200)


def from_both(sample: Sample) -> np.ndarray:
    """True where a pixel is of the second image; its id and its colours must be of the same one."""
    image, mask = sample
    theirs: np.ndarray = image[..., 0] == 200
    for red, whole in zip((100, 200), two(), strict=True):
        here = image[..., 0] == red
        assert np.array_equal(mask[here], whole[1][here])
        assert np.array_equal(image[here], whole[0][here])
    return theirs


def mixed(each: CutMix | ClassMix | CopyPaste | Mosaic | CutOut, seed: int) -> Sample:
    sample, other = two()
    each.apply(np.random.default_rng(seed), sample, lambda: (other[0].copy(), other[1].copy()), 6)
    return sample


def test_cutmix_fills_a_rectangle_with_what_is_there_in_the_other_image() -> None:
    shares = []
    for seed in range(60):
        theirs = from_both(mixed(CutMix(1), seed))
        rows, columns = theirs.any(axis=1), theirs.any(axis=0)
        assert theirs.sum() == rows.sum() * columns.sum()
        shares.append(theirs.mean())
    assert min(shares) > CUT_MIX[0] * 0.8
    assert max(shares) < CUT_MIX[1] * 1.2


def test_classmix_pastes_half_of_the_other_images_classes_whole() -> None:
    chosen = set()
    for seed in range(30):
        sample = mixed(ClassMix(1), seed)
        theirs = from_both(sample)
        classes = set(np.unique(sample[1][theirs]).tolist())
        assert len(classes) == 2  # of three, rounded up; what is ignored is no class
        assert np.array_equal(theirs, np.isin(two()[1][1], list(classes)))
        chosen |= classes
    assert chosen == {2, 3, 4}


def test_copy_paste_takes_one_class_and_rare_ones_more_often() -> None:
    drawn = [
        np.unique(sample[1][from_both(sample)])
        for sample in (mixed(CopyPaste(1, (0, 0, 1.0, 8.0, 1.0)), seed) for seed in range(60))
    ]
    assert all(len(classes) == 1 for classes in drawn)
    counts = np.bincount(np.concatenate(drawn), minlength=5)
    assert counts[3] > counts[2] + counts[4]


def test_copy_paste_from_an_image_without_labels_changes_nothing() -> None:
    sample, nothing = two()[0], of(np.full(HW, 6), red=200)
    CopyPaste(1, (1.0,) * 5).apply(np.random.default_rng(0), sample, lambda: nothing, 6)
    assert np.array_equal(sample[0], two()[0][0])


def test_a_mosaic_keeps_a_corner_of_its_own() -> None:
    for seed in range(20):
        theirs = from_both(mixed(Mosaic(1), seed))
        own = ~theirs
        rows, columns = own.any(axis=1).sum(), own.any(axis=0).sum()
        assert own[:rows, :columns].all()
        assert own.sum() == rows * columns
        assert HW[0] / 4 <= rows <= 3 * HW[0] / 4
        assert HW[1] / 4 <= columns <= 3 * HW[1] / 4


def test_what_is_cut_out_is_grey_and_ignored() -> None:
    for seed in range(20):
        image, mask = mixed(CutOut(1), seed)
        gone = (image == BAR_GREY).all(axis=2)
        assert (mask[gone] == 6).all()
        assert CUT_OUT[0] * 0.7 < gone.mean() < CUT_OUT[1] * 1.3


def test_rectangles_lie_within_the_canvas_and_reach_all_of_it() -> None:
    seen = np.zeros(HW, bool)
    rng = np.random.default_rng(0)
    for _ in range(300):
        part = rectangle(rng, HW, (0.05, 0.3))
        assert all(0 <= span.start < span.stop <= side for span, side in zip(part, HW, strict=True))
        seen[part] = True
    assert seen.any(axis=0).all()
    assert seen.any(axis=1).all()


def test_a_mix_comes_as_often_as_its_probability_says() -> None:
    rng, counts = np.random.default_rng(0), 0
    for _ in range(200):
        sample, other = two()
        mix([CutMix(0.25)], rng, sample, lambda other=other: other, ignore_index=6)
        counts += bool((sample[0][..., 0] == 200).any())
    assert 30 < counts < 70


# ---- in training


@pytest.mark.parametrize("name", MIXES)
def test_a_sample_depends_on_its_key_alone(name: str, make_config: Callable[..., RunConfig], tmp_path: Path) -> None:
    config = make_config(tmp_path, f"augment.{name}=1.0")
    data = prepare_data(config.data, seed=0)
    sets = [build_training_set(config, data, cached=False) for _ in range(2)]
    keys = [(epoch, view) for epoch in range(2) for view in range(4)]
    drawn = [sets[0].draw(key) for key in keys]
    again = [sets[1].draw(key) for key in reversed(keys)][::-1]
    assert all(np.array_equal(a[k], b[k]) for a, b in zip(drawn, again, strict=True) for k in range(2))
    assert not np.array_equal(drawn[0][0], drawn[4][0])


def test_without_a_mix_no_number_is_drawn(make_config: Callable[..., RunConfig], tmp_path: Path) -> None:
    off, on = make_config(tmp_path), make_config(tmp_path, "augment.cutout=0.000000000001")
    data = prepare_data(off.data, seed=0)
    plain, drawing = (build_training_set(config, data, cached=False) for config in (off, on))
    assert plain.recipe.mixes == ()
    for view in range(4):  # a mix draws after all steps: what they do stays
        assert all(np.array_equal(a, b) for a, b in zip(plain.draw((0, view)), drawing.draw((0, view)), strict=True))


def test_every_key_of_the_table_is_one_of_the_config() -> None:
    for name, make in MIXES.items():
        assert make(replace(AugmentConfig(), **{name: 0.5}), [1, 2, 3]) is not None
        assert make(AugmentConfig(), [1, 2, 3]) is None
