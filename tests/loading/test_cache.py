from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segkit.config.schema import AugmentConfig, DataConfig
from segkit.datasets.layouts import list_items, resolve_classes
from segkit.datasets.masks import build_mask_reader
from segkit.errors import ConfigError
from segkit.loading.augment.pipeline import build_augment
from segkit.loading.batch_plan import BatchPlan
from segkit.loading.cache import PixelCache, build_cache
from segkit.loading.loader import training_batches
from segkit.loading.training_set import TrainingSet

RECIPE = build_augment(AugmentConfig(), canvas_hw=(16, 16), ignore_index=255)


@pytest.fixture
def images(write_folders: Callable[..., DataConfig]) -> DataConfig:
    return write_folders({name: np.zeros((8 + k, 12), np.uint8) for k, name in enumerate("abcdef")})


@pytest.mark.parametrize("on_disk", [False, True])
def test_what_is_put_is_got_and_nothing_else(tmp_path: Path, on_disk: bool) -> None:
    rng = np.random.default_rng(0)
    sizes = [(5, 7), (3, 2), (9, 4)]
    cache = PixelCache(sizes, folder=tmp_path if on_disk else None)
    assert cache.get(1) is None
    for index in (2, 0):
        image, mask = rng.integers(0, 256, (*sizes[index], 3), np.uint8), rng.integers(0, 9, sizes[index], np.uint8)
        cache.put(index, image, mask)
        kept = cache.get(index)
        assert kept is not None
        assert np.array_equal(kept[0], image)
        assert np.array_equal(kept[1], mask)
    assert cache.get(1) is None
    assert list(tmp_path.iterdir()) == []  # nothing is left to clean up


def test_an_image_of_another_size_than_announced_is_not_kept() -> None:
    cache = PixelCache([(5, 7)])
    cache.put(0, np.zeros((6, 7, 3), np.uint8), np.zeros((6, 7), np.uint8))
    assert cache.get(0) is None


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kind", ["ram", "disk"])
def test_epochs_are_the_same_bytes_with_a_cache(
    shapes: Path, kind: str, workers: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def epochs(kind: str) -> list[bytes]:
        data = DataConfig(root=str(shapes), cache=kind)  # type: ignore[arg-type]
        recipe = build_augment(AugmentConfig(), canvas_hw=(32, 40), ignore_index=255)
        items = list_items(data, "train")
        cache = build_cache(data, items, recipe)
        assert (cache is None) == (kind == "none")
        dataset = TrainingSet(items, build_mask_reader(data, resolve_classes(data)), recipe, seed=0, cache=cache)
        plan = BatchPlan(12, 4, seed=0)
        stream = training_batches(dataset, plan, rank=0, first_step=0, num_steps=9, workers=workers)
        found = [batch.images.numpy().tobytes() + batch.masks.numpy().tobytes() for batch in stream]
        assert cache is None or all(cache.get(index) for index in range(12))
        return found

    assert epochs(kind) == epochs("none")


def test_images_are_decoded_once(images: DataConfig) -> None:
    data = replace(images, cache="ram")
    items = list_items(data, "train")
    cache = build_cache(data, items, RECIPE)
    dataset = TrainingSet(items, build_mask_reader(data, resolve_classes(data)), RECIPE, seed=0, cache=cache)
    before = dataset[0, 0].image
    Image.new("RGB", (1, 1)).save(items[0].image)
    assert (dataset[0, 0].image == before).all()


def test_more_than_the_budget_is_refused_with_what_it_takes(images: DataConfig) -> None:
    items = list_items(images, "train")
    with pytest.raises(ConfigError, match=r"data\.cache: ram needs .* GiB for \d+ decoded images, expected at most"):
        build_cache(DataConfig(cache="ram", cache_gib=1e-9), items, RECIPE)
    assert build_cache(DataConfig(cache="ram", cache_gib=1e-3), items, RECIPE)


def test_every_process_of_a_machine_counts(images: DataConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    items = list_items(images, "train")
    needed = sum(4 * (8 + k) * 12 + 1 for k in range(6)) / 2**30
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    with pytest.raises(ConfigError, match="in each of 4 processes"):
        build_cache(DataConfig(cache="ram", cache_gib=2 * needed), items, RECIPE)


def test_a_full_disk_is_said_before_training(
    images: DataConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("segkit.loading.cache.free_disk", lambda folder: 10)
    with pytest.raises(ConfigError, match=r"on the disk of .* are free; free some, or set data\.cache: none"):
        build_cache(DataConfig(cache="disk"), list_items(images, "train"), RECIPE)
