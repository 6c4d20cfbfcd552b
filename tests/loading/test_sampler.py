"""How often images are seen: expected views by rule, and the counts of single epochs."""

import itertools

import numpy as np
import pytest

from segkit.config.schema import DataConfig, SamplerName
from segkit.errors import ConfigError
from segkit.loading.batch_plan import BatchPlan
from segkit.loading.sampler import SAMPLERS, count_views, expected_views, num_draws

SHARES = np.array([1.0, 0.9, 0.4, 0.1, 0.02])
RULES = [name for name in SAMPLERS if name != "uniform"]


def presence(num_images: int = 200, seed: int = 0) -> np.ndarray:
    """Pictures that show classes at random; the last class is shown nowhere."""
    drawn = np.random.default_rng(seed).uniform(size=(num_images, len(SHARES))) < SHARES
    return np.concatenate([drawn, np.zeros((num_images, 1), bool)], axis=1)


def views_by(rule: SamplerName, shown: np.ndarray, threshold: float = 0.3) -> tuple[float, ...]:
    return expected_views(DataConfig(sampler=rule, repeat_threshold=threshold), shown)


# ---- expected views


def test_uniform_shows_each_image_once() -> None:
    assert set(views_by("uniform", presence())) == {1.0}


def test_repeat_factors_are_those_of_the_rarest_class_of_an_image() -> None:
    shown = np.zeros((100, 3), bool)
    shown[:, 0] = True
    shown[:16, 1] = True  # sqrt(0.64 / 0.16) = 2
    shown[15:19, 2] = True  # sqrt(0.64 / 0.04) = 4
    factors = SAMPLERS["repeat_factor"](shown, threshold=0.64)
    assert factors.tolist() == pytest.approx([2.0] * 15 + [4.0] * 4 + [1.0] * 81)
    assert views_by("repeat_factor", shown, 0.64) == pytest.approx(factors)  # their sum is whole already


def test_repeat_factor_leaves_every_image_in_every_epoch_and_makes_epochs_longer() -> None:
    views = views_by("repeat_factor", presence())
    assert min(views) >= 1
    assert num_draws(views) > 200
    for epoch in range(20):
        assert count_views(views, seed=1, epoch=epoch).min() >= 1


def test_class_balanced_draws_each_class_that_occurs_equally_often() -> None:
    shown = np.zeros((60, 4), bool)  # of one class each: 40, 15 and 5 images; the fourth class has none
    shown[:40, 0] = shown[40:55, 1] = shown[55:, 2] = True
    views = views_by("class_balanced", shown)
    assert num_draws(views) == 60
    assert (np.array(views) @ shown).tolist() == pytest.approx([20, 20, 20, 0])


def test_an_image_of_several_classes_gets_the_views_of_each() -> None:
    shown = np.array([[1, 1], [1, 0], [1, 0], [1, 0]], bool)
    assert views_by("class_balanced", shown) == pytest.approx([0.5 + 2, 0.5, 0.5, 0.5])


@pytest.mark.parametrize("rule", RULES)
def test_rarer_classes_gain_more(rule: SamplerName) -> None:
    shown = presence()[:, :5]
    gain = np.array(views_by(rule, shown)) @ shown / shown.sum(axis=0)
    assert gain[4] > gain[3] > gain[1] > 0
    assert gain[4] > 2


def test_an_image_without_a_label_is_seen_once_by_repeat_factor_and_never_by_class_balanced() -> None:
    shown = np.array([[1, 0]] * 8 + [[0, 1], [0, 0]], bool)
    assert views_by("repeat_factor", shown)[-1] == pytest.approx(1, abs=0.1)
    assert views_by("class_balanced", shown)[-1] == 0


def test_a_rule_that_changes_nothing_is_refused_with_what_would() -> None:
    shown = presence()[:, :3]
    with pytest.raises(ConfigError, match=r"shown in at least 0\.\d+ of the images.*a higher data\.repeat_threshold"):
        views_by("repeat_factor", shown, 0.2)
    with pytest.raises(ConfigError, match=r"class_balanced, which changes nothing.*same classes; expected uniform$"):
        views_by("class_balanced", np.ones((5, 2), bool))


# ---- the counts of an epoch


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("num_images", [7, 200])
def test_epochs_are_equally_long_and_counts_are_the_views_rounded_down_or_up(
    rule: SamplerName, num_images: int
) -> None:
    views = np.array(views_by(rule, presence(num_images)))
    for epoch in range(50):
        counts = count_views(views, seed=0, epoch=epoch)
        assert counts.sum() == num_draws(views)
        assert (np.abs(counts - views) < 1 + 1e-9).all()


@pytest.mark.parametrize("rule", RULES)
def test_the_mean_over_epochs_is_what_the_rule_says(rule: SamplerName) -> None:
    views = np.array(views_by(rule, presence(50)))
    mean = np.mean([count_views(views, seed=0, epoch=epoch) for epoch in range(4000)], axis=0)
    assert np.abs(mean - views).max() < 5 * 0.5 / np.sqrt(4000)  # five standard errors of a coin


def test_counts_differ_from_epoch_to_epoch_and_seed_to_seed_and_are_the_same_again() -> None:
    views = views_by("class_balanced", presence())
    found = {
        (seed, epoch): tuple(count_views(views, seed=seed, epoch=epoch).tolist()) for seed in (0, 1) for epoch in (0, 1)
    }
    assert len(set(found.values())) == 4
    assert found[1, 1] == tuple(count_views(views, seed=1, epoch=1).tolist())


# ---- in batches


def keys(plan: BatchPlan, *, epochs: int, first: int = 0, rank: int = 0) -> list[list[tuple[int, int]]]:
    return list(plan.micro_batches(rank=rank, first_step=first, num_steps=epochs * plan.batches_per_epoch))


@pytest.mark.parametrize("sizes", [None, (5, 5, 2), (1,) * 12])
def test_views_of_1_change_nothing(sizes: tuple[int, ...] | None) -> None:
    plain, ones = (BatchPlan(12, 4, 7, shard_sizes=sizes, views=views) for views in (None, (1.0,) * 12))
    assert keys(plain, epochs=3) == keys(ones, epochs=3)


@pytest.mark.parametrize("sizes", [None, (50, 30, 1, 39, 80)])
@pytest.mark.parametrize("rule", RULES)
def test_an_epoch_holds_each_image_as_often_as_counted_and_no_view_twice(
    rule: SamplerName, sizes: tuple[int, ...] | None
) -> None:
    views = views_by(rule, presence())
    plan = BatchPlan(200, 8, 3, shard_sizes=sizes, views=views)
    for epoch in range(3):
        order = plan.permutation(epoch)
        assert len(order) == len(set(order)) == num_draws(views)
        counts = count_views(views, seed=3, epoch=epoch)
        assert np.array_equal(np.bincount(np.array(order) % 200, minlength=200), counts)
        assert all(view // 200 < counts[view % 200] for view in order)
        batched = {view for batch in keys(plan, epochs=epoch + 1) for number, view in batch if number == epoch}
        assert batched == set(order)


@pytest.mark.parametrize("sizes", [None, (50, 30, 1, 39, 80)])
@pytest.mark.parametrize(("ranks", "accumulate"), [(2, 1), (4, 1), (2, 2)])
def test_ranks_and_micro_batches_share_the_same_repeats(
    ranks: int, accumulate: int, sizes: tuple[int, ...] | None
) -> None:
    views = views_by("repeat_factor", presence())
    whole = [key for batch in keys(BatchPlan(200, 8, 0, shard_sizes=sizes, views=views), epochs=2) for key in batch]
    plan = BatchPlan(200, 8, 0, accumulate, ranks, sizes, views)
    streams = [keys(plan, epochs=2, rank=rank) for rank in range(ranks)]
    assert [key for parts in zip(*streams, strict=True) for part in parts for key in part] == whole


@pytest.mark.parametrize("sizes", [None, (50, 30, 1, 39, 80)])
def test_a_stream_that_starts_late_continues_as_the_whole_one(sizes: tuple[int, ...] | None) -> None:
    plan = BatchPlan(200, 16, 0, shard_sizes=sizes, views=views_by("class_balanced", presence()))
    whole = keys(plan, epochs=2)
    for first in range(len(whole)):
        assert keys(plan, epochs=2, first=first) == whole[first:]


def test_all_views_of_a_shard_come_in_one_go() -> None:
    sizes = (50, 30, 1, 39, 80)
    plan = BatchPlan(200, 8, 0, shard_sizes=sizes, views=views_by("class_balanced", presence()))
    shard_of = np.repeat(np.arange(len(sizes)), sizes)
    visits = [shard for shard, _ in itertools.groupby(shard_of[view % 200] for view in plan.permutation(0))]
    assert len(visits) == len(set(visits))
