"""Samples, batches and their order. Everything random is a function of (seed, epoch, index, occurrence).

So augmentation doesn't depend on the number of workers, of ranks, or on where a run was resumed. Batches are uint8;
the model normalises on its own device.
"""

import functools
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset

from segkit.data.augment import Recipe, augment
from segkit.data.cache import PixelCache
from segkit.data.sampler import count_views, num_draws
from segkit.datasets.layouts import Item
from segkit.datasets.masks import MaskReader
from segkit.datasets.reading import read_pair
from segkit.datasets.shards import Member
from segkit.errors import ConfigError
from segkit.imaging.letterbox import LetterBox


class Sample(NamedTuple):
    """One augmented picture on the canvas."""

    image: torch.Tensor  # uint8 RGB [3, H, W]
    mask: torch.Tensor  # uint8 [H, W]
    name: str


class Batch(NamedTuple):
    """Samples side by side; `onehot` only where a caller asked for it."""

    images: torch.Tensor  # uint8 RGB [B, 3, H, W]
    masks: torch.Tensor  # uint8 [B, H, W]
    names: list[str]
    onehot: torch.Tensor | None = None  # float32 [B, H, W, C+1], last channel = ignored pixels


class Scene(NamedTuple):
    """One picture for evaluation: letterboxed pixels, and the mask both on the canvas and untouched."""

    image: torch.Tensor  # uint8 RGB [3, H, W]
    canvas_mask: torch.Tensor  # uint8 [H, W], for the validation loss
    mask: np.ndarray  # uint8 [h, w], for the metric
    box: LetterBox
    name: str


class SceneBatch(NamedTuple):
    """Scenes side by side; their untouched masks keep their own sizes."""

    images: torch.Tensor  # uint8 RGB [B, 3, H, W]
    canvas_masks: torch.Tensor  # uint8 [B, H, W]
    masks: list[np.ndarray]  # B times uint8 [h, w]
    boxes: list[LetterBox]
    names: list[str]


class TrainingSet(Dataset[Sample]):
    """Items, read and augmented. A key is (epoch, view), so that an epoch needs no hidden state in the workers.

    View number index + occurrence * len(items) is a picture's view of that occurrence: a picture that is seen several
    times in an epoch is augmented differently each time, and its first view has the number of the picture.

    With a `cache`, a picture is decoded once and then kept.
    """

    def __init__(
        self,
        items: Sequence[Item],
        reader: MaskReader,
        recipe: Recipe,
        *,
        seed: int,
        cache: PixelCache | None = None,
    ) -> None:
        self.items, self.reader, self.recipe, self.seed, self.cache = items, reader, recipe, seed, cache

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        image, mask = self.draw(key)
        return Sample(to_tensor(image), torch.from_numpy(mask), self.item(key).name)

    def item(self, key: tuple[int, int]) -> Item:
        """Return the item that a key is a view of."""
        return self.items[key[1] % len(self.items)]

    def draw(
        self, key: tuple[int, int], *, out: tuple[np.ndarray, np.ndarray] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the augmented picture of a key, uint8 RGB [H, W, 3], and its class ids, uint8 [H, W], or fill `out`.

        Raises:
            DataError: as `read_pair`.
        """
        epoch, view = key
        occurrence, index = divmod(view, len(self.items))
        return augment(self.recipe, sample_rng(self.seed, epoch, index, occurrence), *self._decoded(index), out=out)

    def _decoded(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        kept = self.cache.get(index) if self.cache else None
        if kept is not None:
            return kept
        pair = read_pair(self.items[index], self.reader, reduction=self.recipe.placement.reduction)
        if self.cache:
            self.cache.put(index, *pair)
        return pair


class EvaluationSet(Dataset[Scene]):
    """Items, read and letterboxed, with their untouched masks. A key is an index."""

    def __init__(self, items: Sequence[Item], reader: MaskReader, *, canvas_hw: tuple[int, int]) -> None:
        self.items, self.reader, self.canvas_hw = items, reader, canvas_hw

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Scene:
        image, mask = read_pair(self.items[index], self.reader)
        box = LetterBox.fit(mask.shape, self.canvas_hw)
        canvas_mask = box.apply_mask(mask, ignore_index=self.reader.classes.ignore_index)
        return Scene(to_tensor(box.apply(image)), torch.from_numpy(canvas_mask), mask, box, self.items[index].name)


def to_tensor(image: np.ndarray) -> torch.Tensor:
    """uint8 [h, w, 3] -> uint8 [3, h, w], mostly the same memory: channels stay innermost (channels_last)."""
    image = np.require(image, requirements=["C", "W"])  # a caller's own array may be a view, or not for writing
    return torch.from_numpy(image).permute(2, 0, 1)


def sample_rng(seed: int, epoch: int, index: int, occurrence: int = 0) -> np.random.Generator:
    """Return the generator of one sample: Philox, counter-based (Salmon et al. 2011), keyed by the seed.

    Its first word counts 2^64 blocks before the second, the occurrence, would change.
    """
    return np.random.Generator(np.random.Philox(key=[seed, 0], counter=[0, occurrence, epoch, index]))


# ---- batches


def shard_sizes(items: Sequence[Item]) -> tuple[int, ...] | None:
    """Return how many items are in each shard, in their order; None where they aren't in shards."""
    if not all(isinstance(item.image, Member) for item in items):
        return None
    shards = (item.image.shard for item in items if isinstance(item.image, Member))
    return tuple(len(list(group)) for _, group in itertools.groupby(shards))


def one_hot(masks: torch.Tensor, num_classes: int) -> torch.Tensor:
    """Turn class ids uint8 [B, H, W] into float32 [B, H, W, C+1]; every other id (ignored) goes to the last channel."""
    ids = masks.clamp(max=num_classes).long()
    return torch.nn.functional.one_hot(ids, num_classes + 1).float()


def _stack(images: Sequence[torch.Tensor]) -> torch.Tensor:
    """B times [3, H, W] -> [B, 3, H, W], channels_last as they are.

    By numpy: torch's threads would go on spinning after this, and take the cores of those that load.
    """
    return torch.from_numpy(np.stack([image.permute(1, 2, 0).numpy() for image in images])).permute(0, 3, 1, 2)


def collate_scenes(scenes: Sequence[Scene]) -> SceneBatch:
    """Stack what has the canvas' size, list what has its own."""
    images, canvas_masks, masks, boxes, names = zip(*scenes, strict=True)
    ids = torch.from_numpy(np.stack([mask.numpy() for mask in canvas_masks]))
    return SceneBatch(_stack(images), ids, list(masks), list(boxes), list(names))


@dataclass(frozen=True)
class BatchPlan:
    """Which samples make up which batch: a function of (seed, epoch) alone, the same on any number of ranks.

    An epoch is one permutation, cut into batches of `batch_size`. The last one is filled up from the permutation's
    start, so that nothing is left out and no batch is smaller than the others. A batch is divided into `accumulate`
    micro-batches, each of which is divided over the ranks.

    Every picture is seen once per epoch, or as often as `views` says on average (see `expected_views`), rounded anew in
    each epoch to one more or one less; see TrainingSet for how further views are numbered.

    With `shard_sizes` (how many of the items, in their order, are in each shard) shards are permuted, and the items
    within each; and every place of a batch walks along a stretch of its own of that order. So a rank, which always has
    the same places, reads about its share of the shards, and each of them from end to end. All views of a picture then
    lie within its shard's part of the order.
    """

    num_items: int
    batch_size: int
    seed: int
    accumulate: int = 1
    num_ranks: int = 1
    shard_sizes: tuple[int, ...] | None = None
    views: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        assert self.shard_sizes is None or sum(self.shard_sizes) == self.num_items
        assert self.views is None or len(self.views) == self.num_items
        if self.batch_size > max(self.num_items, 16):
            raise ConfigError(
                f"train.batch_size: found {self.batch_size}, but there are {self.num_items} training pictures, each of "
                f"which would be repeated; expected at most {max(self.num_items, 16)}"
            )
        if self.batch_size % (self.accumulate * self.num_ranks):
            raise ConfigError(
                f"train.batch_size: {self.batch_size} can't be divided by {self.num_ranks} process(es) x "
                f"train.accumulate {self.accumulate}; it is the whole batch of one step, choose a multiple"
            )

    @functools.cached_property
    def batches_per_epoch(self) -> int:
        draws = self.num_items if self.views is None else num_draws(self.views)
        return -(-draws // self.batch_size)

    def permutation(self, epoch: int) -> list[int]:
        """Return the views of one epoch in their order. Its key is another than that of `sample_rng`."""
        rng = np.random.Generator(np.random.Philox(key=[self.seed, 1], counter=[0, 0, epoch, 0]))
        counts = np.ones(self.num_items, np.int64)
        if self.views is not None:
            counts = count_views(self.views, seed=self.seed, epoch=epoch)
        views = _number_views(counts)
        if self.shard_sizes is None:
            return [int(view) for view in views[rng.permutation(len(views))]]
        shards = np.split(views, np.cumsum(counts)[np.cumsum(self.shard_sizes) - 1])
        return [
            int(view)
            for shard in rng.permutation(len(self.shard_sizes))
            for view in shards[shard][rng.permutation(len(shards[shard]))]
        ]

    def batch(self, order: Sequence[int], number: int) -> list[int]:
        """Return the views of the batch of that number in an epoch of that order."""
        if self.shard_sizes is None:
            places = range(number * self.batch_size, (number + 1) * self.batch_size)
        else:
            places = range(number, self.batch_size * self.batches_per_epoch, self.batches_per_epoch)
        return [order[place % len(order)] for place in places]

    def micro_batches(self, *, rank: int, first_step: int, num_steps: int) -> Iterator[list[tuple[int, int]]]:
        """Yield this rank's keys (epoch, view), micro-batch by micro-batch, from `first_step` to `num_steps`."""
        share = self.batch_size // (self.accumulate * self.num_ranks)
        order: list[int] = []
        for step in range(first_step, num_steps):
            epoch, place = divmod(step, self.batches_per_epoch)
            if place == 0 or not order:
                order = self.permutation(epoch)
            batch = self.batch(order, place)
            for part in range(self.accumulate):
                start = (part * self.num_ranks + rank) * share
                yield [(epoch, view) for view in batch[start : start + share]]


def _number_views(counts: np.ndarray) -> np.ndarray:
    """Return the numbers index + occurrence * len(counts) of all views, picture by picture: int64 [sum of counts]."""
    indices = np.repeat(np.arange(len(counts)), counts)
    firsts = np.repeat(np.cumsum(counts) - counts, counts)
    return indices + (np.arange(len(indices)) - firsts) * len(counts)
