import hashlib
import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch.utils.data import DataLoader

from segkit.config.schema import AugmentConfig, DataConfig
from segkit.datasets.layouts import list_items, resolve_classes
from segkit.datasets.masks import build_mask_reader
from segkit.errors import ConfigError, DataError
from segkit.loading.augment.pipeline import build_augment
from segkit.loading.batch_plan import BatchPlan
from segkit.loading.collate import collate, collate_evaluation, one_hot
from segkit.loading.evaluation_set import EvaluationSet, evaluation_batches
from segkit.loading.loader import training_batches
from segkit.loading.training_set import TrainingSet, sample_rng

CANVAS = (32, 40)


def training_set(root: Path, *, seed: int = 0) -> TrainingSet:
    data = DataConfig(root=str(root))
    reader = build_mask_reader(data, resolve_classes(data))
    steps = build_augment(AugmentConfig(), canvas_hw=CANVAS, ignore_index=255)
    return TrainingSet(list_items(data, "train"), reader, steps, seed=seed)


def evaluation_set(root: Path) -> EvaluationSet:
    data = DataConfig(root=str(root))
    return EvaluationSet(list_items(data, "val"), build_mask_reader(data, resolve_classes(data)), canvas_hw=CANVAS)


def digests(
    root: Path,
    *,
    workers: int = 0,
    epochs: int = 1,
    num_ranks: int = 1,
    seed: int = 0,
    first: int = 0,
    views: tuple[float, ...] | None = None,
) -> list[str]:
    """Hash every sample of some epochs in the order of the global batches, however they are loaded."""
    plan = BatchPlan(12, 4, seed, num_ranks=num_ranks, views=views)
    num_steps = epochs * plan.batches_per_epoch
    streams = [
        training_batches(
            training_set(root, seed=seed), plan, rank=rank, first_step=first, num_steps=num_steps, workers=workers
        )
        for rank in range(num_ranks)
    ]
    return [
        hashlib.sha256(image.numpy().tobytes() + mask.numpy().tobytes() + name.encode()).hexdigest()
        for batches in zip(*streams, strict=True)
        for batch in batches
        for image, mask, name in zip(batch.images, batch.masks, batch.names, strict=True)
    ]


# ---- randomness: a function of (seed, epoch, index)


@pytest.mark.parametrize("workers", [1, 4])
def test_workers_change_no_byte_of_an_epoch(shapes: Path, workers: int) -> None:
    assert digests(shapes, workers=workers) == digests(shapes)


@pytest.mark.parametrize("num_ranks", [2, 4])
def test_ranks_share_the_same_batches_byte_for_byte(shapes: Path, num_ranks: int) -> None:
    assert digests(shapes, num_ranks=num_ranks) == digests(shapes)


def test_a_stream_that_starts_late_continues_as_the_whole_one_does(shapes: Path) -> None:
    assert digests(shapes, epochs=2, first=4) == digests(shapes, epochs=2)[16:]


def test_epochs_samples_and_seeds_are_augmented_differently(shapes: Path) -> None:
    seen = digests(shapes, epochs=3) + digests(shapes, epochs=3, seed=1)
    assert len(set(seen)) == len(seen)


def test_generators_of_neighbours_are_unrelated() -> None:
    draws = {
        tuple(sample_rng(seed, epoch, index).integers(0, 2**62, 2).tolist())
        for seed, epoch, index in itertools.product(range(3), range(5), range(5))
    }
    assert len(draws) == 75


def test_the_first_view_of_an_image_draws_what_it_always_drew() -> None:
    expected = np.random.Generator(np.random.Philox(key=[5, 0], counter=[0, 0, 2, 7])).uniform(size=4)
    assert np.array_equal(sample_rng(5, 2, 7).uniform(size=4), expected)
    assert not np.array_equal(sample_rng(5, 2, 7, 1).uniform(size=4), expected)


def test_views_of_an_image_in_one_epoch_are_augmented_differently(shapes: Path) -> None:
    dataset = training_set(shapes)
    samples = [dataset[0, 3 + 12 * occurrence] for occurrence in range(4)]
    assert {sample.name for sample in samples} == {dataset.items[3].name}
    assert len({sample.image.numpy().tobytes() for sample in samples}) == 4


def test_a_plain_index_is_an_image_s_first_view_in_epoch_0(shapes: Path) -> None:
    dataset = training_set(shapes)
    for index, key in ((3, 3), (-1, 11)):
        assert torch.equal(dataset[index].image, dataset[0, key].image)
    with pytest.raises(IndexError):
        dataset[12]
    assert len(list(dataset)) == 12  # a plain loop ends


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("num_ranks", [1, 2])
def test_repeats_are_the_same_however_they_are_loaded(shapes: Path, workers: int, num_ranks: int) -> None:
    views = (3.5, 0.5, *(1.0,) * 10)  # 14 draws: more than there are images
    found = [digests(shapes, epochs=2, workers=w, num_ranks=n, views=views) for w, n in ((0, 1), (workers, num_ranks))]
    assert found[0] == found[1]
    assert len(found[0]) == 2 * 16
    assert len(set(found[0])) == 2 * 14  # no view is like another; the last batch of each epoch is filled up


# ---- a DataLoader of one's own


@pytest.mark.parametrize("workers", [0, 2])
def test_any_data_loader_gives_the_bytes_of_our_own(shapes: Path, workers: int) -> None:
    plan = BatchPlan(12, 4, 0)
    found = []
    for epoch in range(2):
        loader = DataLoader(
            training_set(shapes), batch_sampler=plan.epoch(epoch), num_workers=workers, collate_fn=collate
        )
        assert len(loader) == 3
        for batch in loader:
            assert batch.images.dtype == batch.masks.dtype == torch.uint8
            assert batch.images.is_contiguous(memory_format=torch.channels_last)
            found += [
                hashlib.sha256(image.numpy().tobytes() + mask.numpy().tobytes() + name.encode()).hexdigest()
                for image, mask, name in zip(batch.images, batch.masks, batch.names, strict=True)
            ]
    assert found == digests(shapes, epochs=2)


def test_a_data_loader_takes_plain_indices(shapes: Path) -> None:
    dataset = training_set(shapes)
    batches = list(DataLoader(dataset, batch_size=5, collate_fn=collate))
    assert [name for batch in batches for name in batch.names] == [item.name for item in dataset.items]


def test_collate_gives_one_hot_masks_on_request(shapes: Path) -> None:
    dataset = training_set(shapes)
    samples = [dataset[k] for k in range(3)]
    assert collate(samples).onehot is None
    batch = collate(samples, onehot_classes=4)
    assert batch.onehot is not None
    assert batch.onehot.shape == (3, *CANVAS, 5)
    assert torch.equal(batch.onehot.argmax(dim=-1) == 4, batch.masks == 255)


# ---- batches


def test_batches_are_uint8(shapes: Path) -> None:
    plan = BatchPlan(12, 4, seed=0)
    batch = next(training_batches(training_set(shapes), plan, rank=0, first_step=0, num_steps=1, workers=0))
    assert batch.images.dtype == batch.masks.dtype == torch.uint8
    assert batch.images.shape == (4, 3, *CANVAS)
    assert batch.masks.shape == (4, *CANVAS)
    assert batch.onehot is None


def test_one_hot_equals_that_of_the_masks_with_ignored_pixels_last(shapes: Path) -> None:
    plan = BatchPlan(12, 4, seed=0)
    stream = training_batches(
        training_set(shapes), plan, rank=0, first_step=0, num_steps=1, workers=0, onehot_classes=4
    )
    batch = next(stream)
    assert batch.onehot is not None
    ids = batch.masks.long()
    expected = F.one_hot(torch.where(ids == 255, 4, ids), 5).float()
    assert torch.equal(batch.onehot, expected)
    assert (batch.masks == 255).any()


def test_one_hot_of_ids_on_both_sides_of_the_ignored_one() -> None:
    assert one_hot(torch.tensor([[[0, 2, 255]]], dtype=torch.uint8), 3)[0, 0].tolist() == [
        [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1],
    ]  # fmt: skip


def test_every_image_is_seen_in_every_epoch_and_batches_are_full() -> None:
    plan = BatchPlan(10, 4, seed=0)
    batches = list(plan.micro_batches(rank=0, first_step=0, num_steps=2 * plan.batches_per_epoch))
    assert {len(batch) for batch in batches} == {4}
    for epoch in range(2):
        indices = [index for batch in batches for key_epoch, index in batch if key_epoch == epoch]
        assert set(indices) == set(range(10))
        assert len(indices) == 12


def test_a_data_set_smaller_than_a_batch_still_fills_it() -> None:
    assert len(next(iter(BatchPlan(3, 8, seed=0).micro_batches(rank=0, first_step=0, num_steps=1)))) == 8


@pytest.mark.parametrize(("accumulate", "num_ranks"), [(1, 1), (2, 1), (1, 2), (2, 2), (4, 2)])
def test_micro_batches_of_all_ranks_make_up_the_same_batch(accumulate: int, num_ranks: int) -> None:
    whole = list(BatchPlan(20, 8, seed=3).micro_batches(rank=0, first_step=0, num_steps=3))
    plan = BatchPlan(20, 8, 3, accumulate, num_ranks)
    streams = [list(plan.micro_batches(rank=r, first_step=0, num_steps=3)) for r in range(num_ranks)]
    for step in range(3):
        parts = [streams[r][step * accumulate + part] for part in range(accumulate) for r in range(num_ranks)]
        assert [key for part in parts for key in part] == whole[step]


def test_a_batch_of_mostly_repeats_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"found 32, but there are 8 training images.*at most 16"):
        BatchPlan(8, 32, seed=0)
    BatchPlan(40, 32, seed=0)


def test_a_batch_that_cannot_be_shared_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"train\.batch_size: 8 can't be divided by 3 process"):
        BatchPlan(20, 8, seed=0, num_ranks=3)


# ---- evaluation


def test_any_data_loader_evaluates(shapes: Path) -> None:
    dataset = evaluation_set(shapes)
    theirs = list(DataLoader(dataset, batch_size=4, collate_fn=collate_evaluation))
    ours = list(evaluation_batches(dataset, batch_size=4, workers=0))
    assert [batch.names for batch in theirs] == [batch.names for batch in ours]
    for one, other in zip(theirs, ours, strict=True):
        assert isinstance(one.images, torch.Tensor)
        assert isinstance(one.canvas_masks, torch.Tensor)
        assert np.array_equal(one.images, other.images)
        assert np.array_equal(one.canvas_masks, other.canvas_masks)
        assert all(np.array_equal(*pair) for pair in zip(one.masks, other.masks, strict=True))


@pytest.mark.parametrize("num_ranks", [1, 2, 3, 5])
def test_every_image_comes_exactly_once_on_any_number_of_ranks(shapes: Path, num_ranks: int) -> None:
    names = [
        name
        for rank in range(num_ranks)
        for batch in evaluation_batches(evaluation_set(shapes), batch_size=2, rank=rank, num_ranks=num_ranks, workers=0)
        for name in batch.names
    ]
    assert sorted(names) == sorted(item.name for item in evaluation_set(shapes).items)


def test_evaluation_samples_keep_their_mask_at_its_own_size(shapes: Path) -> None:
    dataset = evaluation_set(shapes)
    batch = next(evaluation_batches(dataset, batch_size=6, workers=0))
    for mask, box, item in zip(batch.masks, batch.boxes, dataset.items, strict=True):
        assert item.mask is not None
        assert np.array_equal(mask, np.array(Image.open(item.mask)))
        assert box.source_hw == mask.shape
    assert batch.canvas_masks.shape == (6, *CANVAS)


# ---- failures


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_image_stops_the_loader_with_its_own_message(
    write_folders: Callable[..., DataConfig], workers: int
) -> None:
    data = write_folders({"a": np.zeros((8, 8), np.uint8), "b": np.full((8, 8), 9, np.uint8)})
    reader = build_mask_reader(data, resolve_classes(data))
    dataset = TrainingSet(
        [*list_items(data, "train"), *list_items(data, "val")],
        reader,
        build_augment(AugmentConfig(), canvas_hw=(16, 16), ignore_index=255),
        seed=0,
    )
    stream = training_batches(dataset, BatchPlan(2, 2, seed=0), rank=0, first_step=0, num_steps=1, workers=workers)
    with pytest.raises(DataError, match=r"^\S*b\.png: value 9 at \(0, 0\) is no class") as caught:
        next(stream)
    assert "Traceback" not in str(caught.value)


def test_sizes_that_differ_are_refused(write_folders: Callable[..., DataConfig]) -> None:
    data = write_folders({name: np.zeros((8, 12), np.uint8) for name in "ab"})
    Image.new("RGB", (8, 12)).save(Path(data.root) / "images" / "a.png")
    reader = build_mask_reader(data, resolve_classes(data))
    item = next(i for split in ("train", "val") for i in list_items(data, split) if i.name == "a")
    with pytest.raises(DataError, match=r"a\.png: the label is 12x8 pixels, its image a\.png is 8x12; .*turned by 90"):
        next(evaluation_batches(EvaluationSet([item], reader, canvas_hw=(16, 16)), batch_size=1, workers=0))
