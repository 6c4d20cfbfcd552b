"""Which samples make up which batch, on any number of ranks: a function of (seed, epoch)."""

import functools
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from segkit.datasets.layouts import Item
from segkit.datasets.shards import Member
from segkit.errors import ConfigError
from segkit.loading.sampler import count_views, num_draws

Key = tuple[int, int]  # (epoch, view), see TrainingSet


def shard_sizes(items: Sequence[Item]) -> tuple[int, ...] | None:
    """Return how many items are in each shard, in their order; None where they aren't in shards."""
    if not all(isinstance(item.image, Member) for item in items):
        return None
    shards = (item.image.shard for item in items if isinstance(item.image, Member))
    return tuple(len(list(group)) for _, group in itertools.groupby(shards))


@dataclass(frozen=True)
class BatchPlan:
    """Which samples make up which batch: a function of (seed, epoch) alone, the same on any number of ranks.

    An epoch is one permutation, cut into batches of `batch_size`. The last one is filled up from the permutation's
    start, so that nothing is left out and no batch is smaller than the others. A batch is divided into `accumulate`
    micro-batches, each of which is divided over the ranks.

    Every image is seen once per epoch, or as often as `views` says on average (see `expected_views`), rounded anew in
    each epoch to one more or one less; see TrainingSet for how further views are numbered.

    With `shard_sizes` (how many of the items, in their order, are in each shard) shards are permuted, and the items
    within each; and every slot of a batch walks along a stretch of its own of that order. So a rank, which always has
    the same slots, reads about its share of the shards, and each of them from end to end. All views of an image then
    lie within its shard's part of the order.

    For a DataLoader of your own, one epoch's batches are a `batch_sampler`: `plan.epoch(epoch)`.
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
                f"train.batch_size: found {self.batch_size}, but there are {self.num_items} training images, each of "
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
        """Return the epoch's views in order. Uses Philox key [seed, 1]; samples use [seed, 0]."""
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
            positions = range(number * self.batch_size, (number + 1) * self.batch_size)
        else:
            positions = range(number, self.batch_size * self.batches_per_epoch, self.batches_per_epoch)
        return [order[position % len(order)] for position in positions]

    def micro_batches(self, *, rank: int, first_step: int, num_steps: int) -> "MicroBatches":
        """Return this rank's micro-batches of the steps [first_step, num_steps), across borders of epochs."""
        return MicroBatches(self, rank=rank, first_step=first_step, num_steps=num_steps)

    def epoch(self, epoch: int, *, rank: int = 0) -> "MicroBatches":
        """Return this rank's micro-batches of one epoch."""
        first = epoch * self.batches_per_epoch
        return self.micro_batches(rank=rank, first_step=first, num_steps=first + self.batches_per_epoch)


@dataclass(frozen=True, kw_only=True)
class MicroBatches:
    """One rank's micro-batches of some steps, each a list of keys (epoch, view): a DataLoader's `batch_sampler`.

    It holds no state: each iteration begins at the first.
    """

    plan: BatchPlan = field(kw_only=False)
    rank: int
    first_step: int
    num_steps: int

    def __len__(self) -> int:
        return max(0, self.num_steps - self.first_step) * self.plan.accumulate

    def __iter__(self) -> Iterator[list[Key]]:
        plan = self.plan
        share = plan.batch_size // (plan.accumulate * plan.num_ranks)
        order: list[int] = []
        for step in range(self.first_step, self.num_steps):
            epoch, number = divmod(step, plan.batches_per_epoch)
            if number == 0 or not order:
                order = plan.permutation(epoch)
            batch = plan.batch(order, number)
            for part in range(plan.accumulate):
                start = (part * plan.num_ranks + self.rank) * share
                yield [(epoch, view) for view in batch[start : start + share]]


def _number_views(counts: np.ndarray) -> np.ndarray:
    """Return the numbers index + occurrence * len(counts) of all views, image by image: int64 [sum of counts]."""
    indices = np.repeat(np.arange(len(counts)), counts)
    firsts = np.repeat(np.cumsum(counts) - counts, counts)
    return indices + (np.arange(len(indices)) - firsts) * len(counts)
