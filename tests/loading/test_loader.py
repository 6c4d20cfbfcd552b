import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from segkit.config.schema import AugmentConfig, DataConfig
from segkit.datasets.images import decoded_size_hw, read_image
from segkit.datasets.layouts import Item, list_items, resolve_classes
from segkit.datasets.masks import MaskReader, build_mask_reader
from segkit.datasets.reading import read_pair
from segkit.datasets.shapes import SHAPE_CLASSES, draw_scene
from segkit.loading.augment.geometric import RareCrops
from segkit.loading.augment.pipeline import augment, build_augment, draw
from segkit.loading.batch_plan import BatchPlan
from segkit.loading.loader import training_batches
from segkit.loading.training_set import TrainingSet, sample_rng

CANVAS = (32, 40)


def training_set(root: Path) -> TrainingSet:
    data = DataConfig(root=str(root))
    recipe = build_augment(AugmentConfig(), canvas_hw=CANVAS, ignore_index=255)
    return TrainingSet(list_items(data, "train"), build_mask_reader(data, resolve_classes(data)), recipe, seed=0)


# ---- the ring


@pytest.mark.parametrize(("workers", "accumulate"), [(0, 1), (0, 3), (1, 1), (2, 2)])
def test_a_batch_holds_until_a_steps_worth_of_further_batches_was_asked_for(
    shapes: Path, workers: int, accumulate: int
) -> None:
    dataset = training_set(shapes)
    plan = BatchPlan(12, 6, seed=0, accumulate=accumulate)
    stream = training_batches(dataset, plan, rank=0, first_step=0, num_steps=20, workers=workers)
    keys = iter(plan.micro_batches(rank=0, first_step=0, num_steps=20))
    for _ in range(20):
        step = [(next(stream), next(keys)) for _ in range(accumulate)]
        for batch, expected in step:  # looked at after the whole step was loaded
            for image, mask, key in zip(batch.images, batch.masks, expected, strict=True):
                sample = dataset[key]
                assert torch.equal(image, sample.image)
                assert torch.equal(mask, sample.mask)


def test_a_program_that_ends_with_an_error_does_not_wait_for_its_workers(shapes: Path) -> None:
    program = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_loader import *
dataset, plan = training_set(Path({str(shapes)!r})), BatchPlan(12, 4, seed=0)
stream = training_batches(dataset, plan, rank=0, first_step=0, num_steps=10**6, workers=2)
next(stream)
sys.held_for_ever = stream
raise SystemExit(3)
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 3
    assert done.stderr == ""


# ---- decoding at a reduced scale


@pytest.fixture
def photo(tmp_path: Path) -> Item:
    """An image much larger than the canvas, as a camera takes it."""
    image, mask = draw_scene(np.random.default_rng(0), (603, 805))
    image = cv2.GaussianBlur(image, (0, 0), 3)
    Image.fromarray(image).save(tmp_path / "photo.jpg", quality=95)
    Image.fromarray(mask).save(tmp_path / "photo.png")
    return Item("photo", tmp_path / "photo.jpg", tmp_path / "photo.png")


def reader() -> MaskReader:
    return build_mask_reader(DataConfig(), SHAPE_CLASSES)


@pytest.mark.parametrize("reduction", [1, 2, 4, 8])
def test_a_reduced_jpeg_is_the_image_at_the_announced_size(photo: Item, reduction: int) -> None:
    small = read_image(photo.image, reduction=reduction)
    assert small.shape[:2] == decoded_size_hw(photo.image, lambda hw: reduction)
    whole = Image.fromarray(read_image(photo.image))
    extent = (0, 0, reduction * small.shape[1], reduction * small.shape[0])  # blocks at the far edges reach beyond
    averaged = np.asarray(whole.crop(extent).resize(small.shape[1::-1], Image.Resampling.BOX)).astype(int)
    assert np.abs(small.astype(int) - averaged)[:-1, :-1].mean() < 2


def test_a_cmyk_jpeg_is_decoded_in_full_and_announced_so(tmp_path: Path) -> None:
    Image.new("CMYK", (64, 48)).save(tmp_path / "a.jpg")
    assert read_image(tmp_path / "a.jpg", reduction=4).shape == (48, 64, 3)
    assert decoded_size_hw(tmp_path / "a.jpg", lambda hw: 4) == (48, 64)


def test_the_first_of_several_images_in_one_jpeg_is_reduced(tmp_path: Path) -> None:
    first, second = Image.new("RGB", (64, 48), (200, 10, 10)), Image.new("RGB", (64, 48))
    first.save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[second])
    small = read_image(tmp_path / "a.jpg", reduction=4)
    assert small.shape[:2] == decoded_size_hw(tmp_path / "a.jpg", lambda hw: 4) == (12, 16)
    assert small[0, 0, 0] > 190


def test_a_png_is_decoded_in_full_whatever_is_allowed(tmp_path: Path) -> None:
    Image.new("RGB", (64, 48)).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png", reduction=4).shape == (48, 64, 3)
    assert decoded_size_hw(tmp_path / "a.png", lambda hw: 4) == (48, 64)


@pytest.mark.parametrize(
    ("scale", "aspect", "expected"),
    [
        ((0.25, 1.0), 0.0, 8),
        ((0.25, 4.0), 0.0, 4),
        ((1.0, 10.0), 0.0, 2),
        ((1.0, 25.0), 0.0, 1),
        ((0.25, 2.0), 0.3, 8),
    ],
)
def test_the_reduction_never_makes_an_image_smaller_than_it_will_be_shown(
    scale: tuple[float, float], aspect: float, expected: int
) -> None:
    recipe = build_augment(AugmentConfig(scale=scale, aspect=aspect), canvas_hw=CANVAS, ignore_index=255)
    source_hw = (640, 800)
    reduction = recipe.reduction(source_hw)
    assert reduction == expected
    for seed in range(200):
        placement, _ = draw(recipe, np.random.default_rng(seed), np.zeros(source_hw, np.uint8))
        for source, target in zip(*placement.rectangles(), strict=True):
            seen, placed = source.stop - source.start, target.stop - target.start
            assert reduction == 1 or placed <= seen / reduction * 1.05 + 1


def test_image_and_mask_of_a_reduced_image_stay_aligned(photo: Item) -> None:
    off = AugmentConfig(scale=(1, 1), aspect=0, flip=0, hue=0, saturation=0, value=0)
    recipe = build_augment(off, canvas_hw=(60, 80), ignore_index=255)
    reduced = read_pair(photo, reader(), reduction=recipe.reduction)
    assert reduced[0].shape[:2] == reduced[1].shape == (76, 101)
    rng = sample_rng(0, 0, 0)
    small_image, small_mask = augment(recipe, rng, *reduced)
    image, mask = augment(recipe, sample_rng(0, 0, 0), *read_pair(photo, reader()))
    assert np.abs(small_image.astype(int) - image.astype(int)).mean() < 3
    assert (small_mask == mask).mean() > 0.98  # but for pixels on an outline


def test_rare_crops_find_their_pixels_in_reduced_images_too(photo: Item) -> None:
    assert photo.mask is not None
    mask = np.zeros((603, 805), np.uint8)
    mask[500:516, 30:46] = 3
    Image.fromarray(mask).save(photo.mask)
    config = AugmentConfig(crop=(15, 20), scale=(1, 2), rare_crops=1)
    recipe = build_augment(config, canvas_hw=(60, 80), ignore_index=255, class_pixels=[603 * 805, 0, 0, 256])
    assert recipe.reduction(mask.shape) > 1
    shares = []
    for rare_crops in (0.0, 1.0):
        steps = *recipe.steps[:4], RareCrops(rare_crops, (0.0, 0.0, 0.0, 1.0))
        dataset = TrainingSet([photo], reader(), replace(recipe, steps=steps), seed=0)
        shares.append(np.mean([bool((dataset[0, view].mask == 3).any()) for view in range(100)]))
    assert shares[0] < 0.15
    assert shares[1] > 0.85  # at times only an edge of it lies in the crop, and is lost in shrinking


def test_a_mask_of_another_size_is_refused_for_a_reduced_image_too(photo: Item) -> None:
    from segkit.errors import DataError

    assert photo.mask is not None
    Image.fromarray(np.zeros((620, 806), np.uint8)).save(photo.mask)
    with pytest.raises(DataError, match=r"the label is 806x620 pixels, its image photo\.jpg is 805x603"):
        read_pair(photo, reader(), reduction=lambda hw: 8)
