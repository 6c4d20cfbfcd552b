import inspect
import itertools
from typing import Any, get_args

import pytest
import torch

from segkit.config.schema import ClassWeighting, LossConfig
from segkit.errors import ConfigError
from segkit.losses.class_weights import class_weights
from segkit.losses.cross_entropy import cross_entropy, focal, pixel_weight, weight_by_lookup
from segkit.losses.dice import dice
from segkit.losses.overlap import sums_by_comparison, sums_by_scatter
from segkit.losses.table import LOSSES, Given, WeightedLoss, build_criterion, build_loss

B, C, H, W = 3, 4, 8, 9
CPU = torch.device("cpu")
WEIGHTS = torch.tensor([0.2, 1.0, 3.0, 0.7])
OPTIONS: dict[str, dict[str, Any]] = {"rmi": {"radius": 2, "pool": 2}}  # which images of this size have room for


def value(name: str, *args: Any, **options: Any) -> torch.Tensor:
    """Return a loss of the table, with options that small images allow."""
    return LOSSES[name].function(*args, **{**OPTIONS.get(name, {}), **options})


def weighted(name: str) -> dict[str, Any]:
    """Return the class weights as an option of a loss, if it takes them."""
    takes = "class_weights" in inspect.signature(LOSSES[name].function).parameters
    return {"class_weights": WEIGHTS} if takes else {}


def batch(seed: int = 0, *, ignored: float = 0.2) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(seed)
    logits = torch.randn(B, C, H, W, requires_grad=True)
    target = torch.randint(0, C, (B, H, W), dtype=torch.uint8)
    target[torch.rand(B, H, W) < ignored] = 255
    return logits, target


def plain_focal(
    logits: torch.Tensor, target: torch.Tensor, gamma: float, alpha: torch.Tensor, weights: torch.Tensor
) -> float:
    """Equation 5, pixel by pixel, in Python."""
    total = weight_sum = 0.0
    for b, y, x in itertools.product(range(B), range(H), range(W)):
        truth = int(target[b, y, x])
        if truth == 255:
            continue
        p = torch.softmax(logits[b, :, y, x].double(), dim=0)[truth]
        total += float(weights[truth] * -alpha[truth] * (1 - p) ** gamma * torch.log(p))
        weight_sum += float(weights[truth])
    return total / weight_sum


# ---- each loss against its formula


def test_cross_entropy_is_the_weighted_mean_over_labelled_pixels() -> None:
    logits, target = batch()
    expected = torch.nn.functional.cross_entropy(logits, target.long(), WEIGHTS, ignore_index=255)
    torch.testing.assert_close(cross_entropy(logits, target, class_weights=WEIGHTS), expected)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0, 5.0])
def test_focal_loss_is_equation_5_with_weights_outside(gamma: float) -> None:
    logits, target = batch()
    alpha = torch.tensor([0.25, 0.75, 1.0, 0.5])
    result = focal(logits, target, gamma=gamma, alpha=alpha, class_weights=WEIGHTS)
    assert result.item() == pytest.approx(plain_focal(logits.detach(), target, gamma, alpha, WEIGHTS), rel=1e-4)


def test_focal_loss_with_gamma_0_is_cross_entropy() -> None:
    logits, target = batch()
    torch.testing.assert_close(
        focal(logits, target, gamma=0, class_weights=WEIGHTS), cross_entropy(logits, target, class_weights=WEIGHTS)
    )


def test_class_weights_do_not_enter_the_modulating_factor() -> None:
    # one class only: weights then cancel in the normalisation, unless they changed p
    logits, _ = batch()
    target = torch.full((B, H, W), 2, dtype=torch.uint8)
    torch.testing.assert_close(focal(logits, target, class_weights=WEIGHTS), focal(logits, target))


def test_dice_is_its_formula_by_image_over_the_classes_of_its_truth() -> None:
    logits, target = batch()
    scores = []
    for b in range(B):
        valid = target[b] != 255
        p = logits[b].softmax(dim=0)[:, valid]
        t = torch.stack([target[b][valid] == c for c in range(C)]).float()
        scores.append((2 * (p * t).sum(1) / (p.sum(1) + t.sum(1)))[t.sum(1) > 0].mean())
    torch.testing.assert_close(dice(logits, target), 1 - torch.stack(scores).mean())


@pytest.mark.parametrize("name", LOSSES)
def test_a_perfect_prediction_costs_nothing(name: str) -> None:
    _, target = batch(ignored=0)
    logits = 50 * torch.nn.functional.one_hot(target.long(), C).permute(0, 3, 1, 2).float()
    assert float(value(name, logits, target)) == pytest.approx(0, abs=1e-5)


# ---- what every loss must do


@pytest.mark.parametrize("name", LOSSES)
def test_ignored_pixels_add_nothing_to_loss_and_gradient(name: str) -> None:
    logits, target = batch()
    changed = logits.detach().clone()
    changed[(target == 255)[:, None].expand_as(changed)] += 100
    changed.requires_grad_()
    loss, other = value(name, logits, target), value(name, changed, target)
    torch.testing.assert_close(loss, other)
    other.backward()
    assert changed.grad is not None
    assert not changed.grad[(target == 255)[:, None].expand_as(changed)].any()
    assert changed.grad.any()


@pytest.mark.parametrize("name", LOSSES)
def test_a_batch_without_a_label_gives_0_and_zero_gradient(name: str) -> None:
    logits, target = batch()
    loss = value(name, logits, torch.full_like(target, 255))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("size", [1e2, 1e4])
def test_extreme_logits_give_finite_loss_and_gradient(name: str, size: float) -> None:
    logits, target = batch()
    extreme = (size * logits.detach()).requires_grad_()
    loss = value(name, extreme, target)
    loss.backward()
    assert torch.isfinite(loss)
    assert extreme.grad is not None
    assert torch.isfinite(extreme.grad).all()


@pytest.mark.parametrize("name", LOSSES)
def test_a_logit_that_is_no_number_reaches_the_loss(name: str) -> None:
    logits, target = batch()
    spoilt = logits.detach().clone()
    spoilt[0, 1][target[0] != 255] = torch.nan  # training stops at a non-finite loss, and shows where
    assert value(name, spoilt, target).isnan()


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_logits_in_half_precision_give_finite_loss_and_gradient(name: str, dtype: torch.dtype) -> None:
    logits, target = batch()
    half = (20 * logits.detach()).to(dtype).requires_grad_()
    loss = value(name, half, target)
    loss.backward()
    assert torch.isfinite(loss)
    assert half.grad is not None
    assert half.grad.dtype == dtype
    assert torch.isfinite(half.grad).all()


@pytest.mark.parametrize("name", LOSSES)
def test_an_image_of_one_class_gives_finite_loss_and_gradient(name: str) -> None:
    logits, target = batch()
    loss = value(name, logits, torch.full_like(target, 2))
    loss.backward()
    assert torch.isfinite(loss)
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("name", LOSSES)
def test_memory_order_and_half_precision_change_nothing_but_rounding(name: str) -> None:
    logits, target = batch()
    expected = value(name, logits, target)
    last = logits.detach().to(memory_format=torch.channels_last)
    torch.testing.assert_close(value(name, last, target), expected)
    torch.testing.assert_close(value(name, last.bfloat16(), target), expected, rtol=0.02, atol=0.01)
    assert value(name, last.bfloat16(), target).dtype == torch.float32


@pytest.mark.parametrize("name", LOSSES)
def test_parts_of_a_batch_divided_by_the_whole_add_up_to_the_whole(name: str) -> None:
    logits, target = batch()
    target[0, :4] = 255  # parts of unequal weight
    options = weighted(name)
    whole = LOSSES[name].divisor(target, **options)
    parts = [value(name, logits[k : k + 1], target[k : k + 1], **options, normalizer=whole) for k in range(B)]
    expected = value(name, logits, target, **options)
    found = torch.stack(parts).sum()
    torch.testing.assert_close(found, expected)
    gradients = [torch.autograd.grad(loss, logits)[0] for loss in (found, expected)]
    torch.testing.assert_close(gradients[0], gradients[1])


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_are_those_of_finite_differences(name: str) -> None:
    torch.manual_seed(0)
    logits = torch.randn(1, 3, 4, 4, requires_grad=True)
    target = torch.tensor([[[0, 1, 255, 1], [2, 1, 0, 0], [1, 1, 2, 0], [0, 0, 0, 255]]], dtype=torch.uint8)
    value(name, logits, target).backward()
    assert logits.grad is not None
    for index in [(0, 0, 0, 0), (0, 2, 1, 1), (0, 1, 0, 2)]:
        moved = [logits.detach().clone() for _ in range(2)]
        moved[0][index] += 1e-2
        moved[1][index] -= 1e-2
        slope = (value(name, moved[0], target) - value(name, moved[1], target)) / 2e-2
        assert float(logits.grad[index]) == pytest.approx(slope.item(), abs=1e-3)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_the_closed_form_gradient_is_that_of_autograd(gamma: float, memory_format: torch.memory_format) -> None:
    logits, target = batch()
    alpha = torch.tensor([0.25, 0.75, 1.0, 0.5])
    given = logits.detach().to(memory_format=memory_format).requires_grad_()
    focal(given, target, gamma=gamma, alpha=alpha, class_weights=WEIGHTS).backward()

    valid = target != 255
    ids = torch.where(valid, target, 0).long()
    log_py = logits.log_softmax(dim=1).gather(1, ids[:, None])[:, 0]
    by_pixel = -alpha[ids] * WEIGHTS[ids] * (1 - log_py.exp()) ** gamma * log_py
    (by_pixel[valid].sum() / WEIGHTS[ids][valid].sum()).backward()
    torch.testing.assert_close(given.grad, logits.grad, rtol=1e-4, atol=1e-7)


def test_ignored_pixels_may_hold_anything() -> None:
    logits, target = batch()
    spoilt = logits.detach().clone()
    spoilt[(target == 255)[:, None].expand_as(spoilt)] = -torch.inf
    spoilt[:, 0][target == 255] = 0
    assert torch.isfinite(focal(spoilt, target))


@pytest.mark.parametrize("with_weights", [False, True])
@pytest.mark.parametrize("ignore_index", [-100, -1, 256])
@pytest.mark.parametrize("name", LOSSES)
def test_an_ignore_index_that_no_mask_can_hold_is_refused_by_every_loss(
    name: str, ignore_index: int, with_weights: bool
) -> None:
    logits, target = batch()
    weights = {"class_weights": WEIGHTS if with_weights else None}
    options = weighted(name) if with_weights else {}
    with pytest.raises(ValueError, match=f"ignore_index: found {ignore_index}, expected 0..255"):
        value(name, logits, target.long(), ignore_index=ignore_index, **options)
    with pytest.raises(ValueError, match=f"ignore_index: found {ignore_index}, expected 0..255"):
        LOSSES[name].divisor(target.long(), ignore_index=ignore_index, **weights)


@pytest.mark.parametrize("with_weights", [False, True])
@pytest.mark.parametrize("name", LOSSES)
def test_any_value_of_a_mask_can_be_the_ignored_one(name: str, with_weights: bool) -> None:
    logits, target = batch()
    options = weighted(name) if with_weights else {}
    expected = value(name, logits, target.where(target != 2, 255), **options)
    moved = target.where(target != 255, 2)  # class 2 is ignored now, as well as what was
    torch.testing.assert_close(value(name, logits, moved, ignore_index=2, **options), expected)


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_has_its_key_and_takes_its_options(name: str) -> None:
    logits, target = batch()
    weights: dict[str, Any] = {**dict.fromkeys(LOSSES, 0), name: 0.5}
    config = LossConfig(**weights, rmi_pool=2)  # a key `loss.NAME`, or this fails
    loss = build_loss(config, num_classes=C, ignore_index=255, class_weights=WEIGHTS.tolist(), device=CPU)
    assert loss.names == (name,)
    expected = 0.5 * LOSSES[name].function(logits, target, **LOSSES[name].options(config, Given(WEIGHTS)))
    torch.testing.assert_close(loss(logits, target).total, expected)


# ---- sums of losses


def test_a_sum_of_losses_weighs_each() -> None:
    logits, target = batch()
    config = LossConfig(cross_entropy=0.5, focal=2, dice=0.25, gamma=1.5, alpha=(1, 2, 3, 4))
    loss = build_loss(config, num_classes=C, ignore_index=255, class_weights=WEIGHTS.tolist(), device=CPU)
    expected = (
        0.5 * cross_entropy(logits, target, class_weights=WEIGHTS)
        + 2 * focal(logits, target, gamma=1.5, alpha=torch.tensor([1.0, 2, 3, 4]), class_weights=WEIGHTS)
        + 0.25 * dice(logits, target)
    )
    torch.testing.assert_close(loss(logits, target).total, expected)


def mixed() -> WeightedLoss:
    config = LossConfig(cross_entropy=0.5, focal=2, dice=0.25)
    return build_loss(config, num_classes=C, ignore_index=255, class_weights=WEIGHTS.tolist(), device=CPU)


def test_a_sum_tells_each_term_unweighted_and_apart_from_the_gradient() -> None:
    logits, target = batch()
    value = mixed()(logits, target)
    expected = [
        cross_entropy(logits, target, class_weights=WEIGHTS),
        focal(logits, target, class_weights=WEIGHTS),
        dice(logits, target),
    ]
    assert mixed().names == ("cross_entropy", "focal", "dice")
    torch.testing.assert_close(value.terms, torch.stack(expected))
    assert value.total.requires_grad
    assert not value.terms.requires_grad


def test_terms_of_parts_add_up_to_those_of_the_whole() -> None:
    logits, target = batch()
    target[0, :4] = 255
    loss = mixed()
    whole = loss.normalizers(target)
    parts = [loss(logits[k : k + 1], target[k : k + 1], whole).terms for k in range(B)]
    torch.testing.assert_close(sum(parts), loss(logits, target).terms)


def test_sums_combined_are_the_loss() -> None:
    logits, target = batch()
    loss = mixed()
    torch.testing.assert_close(
        loss.combine(loss.sums(logits, target), loss.normalizers(target)), loss(logits, target).total
    )


# ---- weights that change over the run


def scheduled() -> WeightedLoss:
    config = LossConfig(cross_entropy=0.5, dice=2, schedule={"dice": (0, 1), "cross_entropy": (1, 0.2)})
    return build_loss(config, num_classes=C, ignore_index=255, class_weights=None, device=CPU)


@pytest.mark.parametrize(("progress", "weights"), [(0, (0.5, 0)), (0.25, (0.4, 0.5)), (1, (0.1, 2))])
def test_a_scheduled_weight_runs_linearly_from_its_first_factor_to_its_last(
    progress: float, weights: tuple[float, float]
) -> None:
    logits, target = batch()
    value = scheduled().at(progress)(logits, target)
    terms = torch.stack([cross_entropy(logits, target), dice(logits, target)])
    torch.testing.assert_close(value.total, (torch.tensor(weights) * terms).sum())
    torch.testing.assert_close(value.terms, terms.detach())  # what is logged stays unweighted


def test_a_schedule_leaves_the_terms_their_names_and_divisors() -> None:
    _, target = batch()
    loss, later = scheduled(), scheduled().at(0.5)
    assert later.names == loss.names
    assert torch.equal(later.normalizers(target), loss.normalizers(target))


def test_validation_takes_scheduled_weights_as_they_are_written() -> None:
    logits, target = batch()
    loss = scheduled()
    combined = loss.combine(loss.sums(logits, target), loss.normalizers(target))
    torch.testing.assert_close(combined, 0.5 * cross_entropy(logits, target) + 2 * dice(logits, target))


def test_a_loss_without_a_schedule_is_the_same_object_at_every_step() -> None:
    loss = mixed()
    assert loss.at(0.3) is loss


def test_a_model_without_a_criterion_is_trained_by_the_configured_loss() -> None:
    loss = mixed()
    assert build_criterion(loss, None) is loss


def test_alpha_needs_a_number_per_class() -> None:
    config = LossConfig(focal=1, alpha=(0.25, 0.75))
    with pytest.raises(ConfigError, match=r"loss\.alpha: found 2 numbers, expected 4"):
        build_loss(config, num_classes=4, ignore_index=255, class_weights=None, device=CPU)


# ---- class weights


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("none", None),
        ("balanced", [100 / (3 * 80), 100 / (3 * 15), 100 / (3 * 5)]),
        ("median_frequency", [0.3 / 0.8, 1.0, 0.3 / 0.1]),
        ("log", [1 / 0.641854, 1 / 0.223144, 1 / 0.139762]),
        ("sqrt", [0.742716, 1.715228, 2.970863]),  # 1 / sqrt(f), over their sum of sqrt(f)
        ("effective_number", [0.882402, 1.403452, 1.671206]),
    ],
)
def test_class_weights_follow_their_rule(rule: str, expected: list[float] | None) -> None:
    weights = class_weights(
        rule,  # type: ignore[arg-type]
        class_pixels=[80, 15, 5],
        surrounding_pixels=[100, 50, 50],
        class_images=[10, 5, 4],
        num_images=10,
    )
    assert weights == (None if expected is None else pytest.approx(expected, rel=1e-4))


RULES = [rule for rule in get_args(ClassWeighting) if rule != "none"]


@pytest.mark.parametrize("num_images", [1, 2, 500])
@pytest.mark.parametrize("rule", RULES)
def test_a_class_without_a_pixel_gets_no_weight_and_harms_no_other(rule: ClassWeighting, num_images: int) -> None:
    weights = class_weights(
        rule,
        class_pixels=[80, 0, 20],
        surrounding_pixels=[100, 0, 100],
        class_images=[num_images, 0, 1],
        num_images=num_images,
    )
    assert weights is not None
    assert weights[1] == 0
    assert all(0 < weights[k] < 100 for k in (0, 2))


@pytest.mark.parametrize("rule", ["balanced", "sqrt", "effective_number"])
def test_the_mean_weight_of_a_labelled_pixel_is_1(rule: ClassWeighting) -> None:
    pixels = [700, 200, 90, 10]
    weights = class_weights(
        rule, class_pixels=pixels, surrounding_pixels=[1000] * 4, class_images=[9, 9, 5, 1], num_images=9
    )
    assert weights is not None
    assert sum(w * p for w, p in zip(weights, pixels, strict=True)) / 1000 == pytest.approx(1, rel=1e-5)


def test_effective_numbers_distinguish_classes_also_in_large_images() -> None:
    million = 10**6
    weights = class_weights(
        "effective_number",
        class_pixels=[500 * million, 50 * million],
        surrounding_pixels=[550 * million, 55 * million],
        class_images=[2000, 200],
        num_images=2000,
    )
    assert weights is not None
    assert weights[1] / weights[0] == pytest.approx(6.64, abs=0.02)  # (1 - exp(-1)) / (1 - exp(-0.1))


def test_a_list_of_weights_is_taken_as_it_is_and_must_fit() -> None:
    counts = {"class_pixels": [1, 2], "surrounding_pixels": [3, 3], "class_images": [1, 1]}
    assert class_weights((1.0, 5.0), **counts, num_images=1) == [1.0, 5.0]
    with pytest.raises(ConfigError, match="found 3 numbers, expected 2"):
        class_weights((1.0, 5.0, 2.0), **counts, num_images=1)


def test_pixel_weight_counts_labelled_pixels_by_their_class() -> None:
    target = torch.tensor([[[0, 0, 2], [255, 1, 255]]], dtype=torch.uint8)
    assert float(pixel_weight(target)) == 4
    assert float(pixel_weight(target, class_weights=torch.tensor([1.0, 10, 100]))) == 112


@pytest.mark.parametrize("size", [8, 300])
def test_looked_up_weights_add_up_to_those_of_counts(size: int) -> None:
    generator = torch.Generator().manual_seed(0)
    target = torch.randint(0, C, (2, size, size), dtype=torch.uint8, generator=generator)
    target[torch.rand(target.shape, generator=generator) < 0.2] = 255
    found = weight_by_lookup(target, ignore_index=255, class_weights=WEIGHTS)
    torch.testing.assert_close(found, pixel_weight(target, class_weights=WEIGHTS), rtol=1e-6, atol=0)


@pytest.mark.parametrize("num_classes", [2, 8, 21])
def test_dice_sums_by_comparison_are_those_by_scatter(num_classes: int) -> None:
    generator = torch.Generator().manual_seed(0)
    labelled = torch.rand(3, 20, 30, generator=generator) > 0.2
    ids = torch.randint(0, num_classes, (3, 20, 30), dtype=torch.uint8, generator=generator).where(labelled, 0)
    logits = torch.randn(3, num_classes, 20, 30, generator=generator, requires_grad=True)
    results = []
    for sums in (sums_by_scatter, sums_by_comparison):
        intersection, truth = sums(logits.softmax(dim=1) * labelled[:, None], ids, labelled)
        (gradient,) = torch.autograd.grad(intersection.square().sum(), logits)
        results.append((intersection, truth, gradient))
    for found, expected in zip(results[1], results[0], strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-5)  # sums of up to 600
    assert torch.equal(results[0][1], results[1][1])
