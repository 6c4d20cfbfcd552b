"""The order of an epoch over shards: as random as it can be, and each rank reads its own."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from segkit.loading.batch_plan import BatchPlan

SIZES = [(5, 5, 2), (7,), (1,) * 40, (20, 1, 13, 8, 8, 30), (10,) * 12]
CASES = [(sizes, batch) for sizes in SIZES for batch in (4, 8)]


def plan_for(sizes: tuple[int, ...], batch: int, *, ranks: int = 1, accumulate: int = 1, seed: int = 0) -> BatchPlan:
    return BatchPlan(sum(sizes), batch, seed, accumulate, ranks, sizes)


def steps(plan: BatchPlan, *, rank: int = 0, first: int = 0, epochs: int = 1) -> list[list[tuple[int, int]]]:
    """Return one rank's keys by step."""
    parts = list(plan.micro_batches(rank=rank, first_step=first, num_steps=epochs * plan.batches_per_epoch))
    count = plan.accumulate
    return [[key for part in parts[k : k + count] for key in part] for k in range(0, len(parts), count)]


@pytest.mark.parametrize(("sizes", "batch"), CASES)
def test_every_sample_comes_in_every_epoch_and_batches_are_full(sizes: tuple[int, ...], batch: int) -> None:
    plan = plan_for(sizes, batch)
    found = steps(plan, epochs=3)
    assert {len(keys) for keys in found} == {batch}
    for epoch in range(3):
        seen = [index for keys in found for number, index in keys if number == epoch]
        assert set(seen) == set(range(sum(sizes)))
        assert len(seen) - sum(sizes) < batch  # what comes twice only fills the last batch up


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("ranks", [2, 4])
@pytest.mark.parametrize("sizes", SIZES)
def test_ranks_and_micro_batches_share_the_same_batches(sizes: tuple[int, ...], ranks: int, accumulate: int) -> None:
    whole = steps(plan_for(sizes, 8))
    plan = plan_for(sizes, 8, ranks=ranks, accumulate=accumulate)
    parts = [list(plan.micro_batches(rank=r, first_step=0, num_steps=plan.batches_per_epoch)) for r in range(ranks)]
    joined = [key for together in zip(*parts, strict=True) for part in together for key in part]
    assert joined == [key for keys in whole for key in keys]


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_a_stream_that_starts_late_continues_as_the_whole_one(ranks: int) -> None:
    plan = plan_for((20, 1, 13, 8, 8, 30), 8, ranks=ranks)
    whole = steps(plan, rank=ranks - 1, epochs=2)
    for first in range(len(whole)):
        assert steps(plan, rank=ranks - 1, first=first, epochs=2) == whole[first:]


@pytest.mark.parametrize("epoch", range(4))
@pytest.mark.parametrize("ranks", [1, 2, 4, 8])
@pytest.mark.parametrize("size", [1, 10, 37])
def test_each_rank_reads_its_share_of_the_shards(size: int, ranks: int, epoch: int) -> None:
    num_shards, batch = 64, 16
    plan = plan_for((size,) * num_shards, batch, ranks=ranks)
    stretch = plan.batches_per_epoch * batch // ranks  # that many positions of the order in a row
    touched = [
        {index // size for keys in steps(plan, rank=rank, epochs=epoch + 1) for e, index in keys if e == epoch}
        for rank in range(ranks)
    ]
    most = min(num_shards, (stretch - 2) // size + 2 if stretch > 1 else 1)  # at worst it begins and ends within one
    assert max(len(shards) for shards in touched) <= most
    assert set(itertools.chain(*touched)) == set(range(num_shards))


def test_a_rank_reads_each_shard_in_one_go() -> None:
    plan = plan_for((10,) * 12, 4, ranks=4)
    for rank in range(4):
        visits = [shard for shard, _ in itertools.groupby(keys[0][1] // 10 for keys in steps(plan, rank=rank))]
        assert len(visits) == len(set(visits))


def test_epochs_and_seeds_differ_and_the_same_seed_does_not() -> None:
    plans = [plan_for((10,) * 12, 4, seed=seed) for seed in (0, 1)]
    orders = [plan.permutation(epoch) for plan in plans for epoch in range(3)]
    assert len({tuple(order) for order in orders}) == 6
    assert len({tuple(index // 10 for index in order) for order in orders}) == 6  # shards too, not only within them
    assert orders[:3] == [plan_for((10,) * 12, 4, seed=0).permutation(epoch) for epoch in range(3)]


def test_without_shards_nothing_changes(shapes: Path) -> None:
    plan = BatchPlan(10, 4, seed=3)
    rng = np.random.Generator(np.random.Philox(key=[3, 1], counter=[0, 0, 1, 0]))
    order = rng.permutation(10).tolist()
    assert plan.permutation(1) == order
    assert steps(plan, first=3, epochs=2) == [[(1, index) for index in (order + order)[k : k + 4]] for k in (0, 4, 8)]


@pytest.mark.parametrize(("accumulate", "ranks"), [(1, 1), (2, 1), (1, 2), (2, 2)])
def test_an_epoch_is_its_part_of_the_run(accumulate: int, ranks: int) -> None:
    plan = BatchPlan(10, 4, 3, accumulate, ranks)
    for rank in range(ranks):
        epochs = [plan.epoch(number, rank=rank) for number in range(3)]
        assert [key for epoch in epochs for keys in epoch for key in keys] == [
            key for keys in plan.micro_batches(rank=rank, first_step=0, num_steps=9) for key in keys
        ]
        for epoch in epochs:
            assert list(epoch) == list(epoch)  # iterating leaves nothing behind
            assert len(epoch) == len(list(epoch)) == 3 * accumulate
