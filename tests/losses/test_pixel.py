import pytest
import torch
import torch.nn.functional as F

from segkit.losses.cross_entropy import cross_entropy, focal
from segkit.losses.pixel import pixel_loss


def batch(num_classes: int = 4, *, spread: float = 3.0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = (spread * torch.randn(3, num_classes, 7, 5, generator=generator)).requires_grad_()
    target = torch.randint(0, num_classes, (3, 7, 5), dtype=torch.uint8, generator=generator)
    target[torch.rand(target.shape, generator=generator) < 0.2] = 255
    return logits, target, torch.rand(num_classes, generator=generator) + 0.5


def plain(logits: torch.Tensor, target: torch.Tensor, gamma: float, weights: torch.Tensor) -> torch.Tensor:
    """The formula as it stands in the paper, in float64, by autograd."""
    labelled = target != 255
    ids = target.where(labelled, 0).long()
    log_py = F.log_softmax(logits.double(), dim=1).gather(1, ids[:, None])[:, 0]
    factor = weights.double()[ids] * labelled
    return -(factor * (1 - log_py.exp()) ** gamma * log_py).sum() / factor.sum()


@pytest.mark.parametrize("spread", [1.0, 200.0])  # at 200, most probabilities underflow
@pytest.mark.parametrize("gamma", [0.0, 2.0])
def test_loss_and_gradient_are_those_of_the_formula_also_where_probabilities_underflow(
    gamma: float, spread: float
) -> None:
    logits, target, weights = batch(spread=spread)
    found = focal(logits, target, gamma=gamma, class_weights=weights)
    (gradient,) = torch.autograd.grad(found, logits)
    expected = plain(logits, target, gamma, weights)
    (expected_gradient,) = torch.autograd.grad(expected, logits)
    torch.testing.assert_close(found, expected.float(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-4, atol=1e-6)


def smoothed(logits: torch.Tensor, target: torch.Tensor, smoothing: float, weights: torch.Tensor) -> torch.Tensor:
    """Cross-entropy with the distribution q, in float64, by autograd."""
    num_classes, labelled = logits.shape[1], target != 255
    ids = target.where(labelled, 0).long()
    q = (1 - smoothing) * F.one_hot(ids, num_classes).movedim(3, 1) + smoothing / num_classes
    factor = weights.double()[ids] * labelled
    return -(factor * (q * F.log_softmax(logits.double(), dim=1)).sum(dim=1)).sum() / factor.sum()


@pytest.mark.parametrize("spread", [1.0, 200.0])
@pytest.mark.parametrize("smoothing", [0.1, 0.9])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_label_smoothing_is_cross_entropy_with_a_mixed_truth(
    memory_format: torch.memory_format, smoothing: float, spread: float
) -> None:
    logits, target, weights = batch(spread=spread)
    leaf = logits.detach().to(memory_format=memory_format).requires_grad_()
    found = cross_entropy(leaf, target, class_weights=weights, label_smoothing=smoothing)
    (gradient,) = torch.autograd.grad(found, leaf)
    expected = smoothed(leaf, target, smoothing, weights)
    (expected_gradient,) = torch.autograd.grad(expected, leaf)
    torch.testing.assert_close(found, expected.float(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-4, atol=1e-6)
    assert not gradient.movedim(1, 3)[target == 255].any()


def test_label_smoothing_without_class_weights_is_that_of_pytorch() -> None:
    logits, target, _ = batch()
    expected = F.cross_entropy(logits, target.long(), ignore_index=255, label_smoothing=0.2)
    torch.testing.assert_close(cross_entropy(logits, target, label_smoothing=0.2), expected)


def test_label_smoothing_of_0_keeps_every_bit() -> None:
    logits, target, weights = batch()
    results = [
        (loss, *torch.autograd.grad(loss, logits))
        for loss in (
            cross_entropy(logits, target, class_weights=weights),
            cross_entropy(logits, target, class_weights=weights, label_smoothing=0.0),
        )
    ]
    assert all(torch.equal(found, expected) for found, expected in zip(*results, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_the_gradient_has_the_dtype_and_memory_order_of_the_logits(
    memory_format: torch.memory_format, dtype: torch.dtype
) -> None:
    logits, target, weights = batch()
    leaf = logits.detach().to(dtype, memory_format=memory_format).requires_grad_()
    (gradient,) = torch.autograd.grad(cross_entropy(leaf, target, class_weights=weights), leaf)
    assert gradient.dtype == dtype
    assert gradient.is_contiguous(memory_format=memory_format)
    expected = torch.autograd.grad(plain(leaf, target, 0.0, weights), leaf)[0]
    torch.testing.assert_close(gradient, expected, rtol=2e-2, atol=1e-4)


def test_a_factor_outside_reaches_the_gradient() -> None:
    logits, target, _ = batch()
    (once,) = torch.autograd.grad(cross_entropy(logits, target), logits)
    (thrice,) = torch.autograd.grad(3 * cross_entropy(logits, target), logits)
    torch.testing.assert_close(thrice, 3 * once)


def test_a_scaled_fp16_loss_keeps_its_small_gradients() -> None:
    # GradScaler's factor comes with backward; a gradient divided by 2^20 pixels before it would underflow in fp16
    logits = torch.randn(1, 8, 1024, 1024, generator=torch.Generator().manual_seed(0))
    target = torch.randint(0, 8, (1, 1024, 1024), dtype=torch.uint8)
    (expected,) = torch.autograd.grad(cross_entropy(leaf := logits.requires_grad_(), target), leaf)
    half = logits.detach().half().requires_grad_()
    (gradient,) = torch.autograd.grad(32768 * cross_entropy(half, target), half)
    torch.testing.assert_close(gradient.float() / 32768, expected, rtol=1e-2, atol=1e-10)


def test_the_target_is_left_alone() -> None:
    logits, target, _ = batch()
    ids = target.long()
    cross_entropy(logits, ids).backward()
    assert torch.equal(ids, target.long())


def test_cropped_channels_last_logits_are_taken_as_they_are() -> None:
    logits, target, weights = batch()
    wide = torch.cat([logits.detach(), logits.detach()], dim=3).to(memory_format=torch.channels_last)
    cropped = wide[..., : logits.shape[3]].requires_grad_()
    (gradient,) = torch.autograd.grad(cross_entropy(cropped, target, class_weights=weights), cropped)
    (expected,) = torch.autograd.grad(cross_entropy(logits, target, class_weights=weights), logits)
    torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize("weighted", [False, True])
def test_an_id_that_is_no_class_is_not_trained_as_another(weighted: bool) -> None:
    logits, target, weights = batch()
    target[0, 0, 0] = 9
    with pytest.raises((IndexError, RuntimeError)):
        cross_entropy(logits, target, class_weights=weights if weighted else None)


def test_a_second_backward_through_the_same_loss_is_refused() -> None:
    logits, target, _ = batch()
    loss = cross_entropy(logits, target)
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="handed out already; compute the loss again"):
        loss.backward()


def test_nothing_but_the_gradient_is_made_of_the_logits_size() -> None:
    logits = torch.randn(4, 21, 128, 128, requires_grad=True)
    target = torch.randint(0, 21, (4, 128, 128), dtype=torch.uint8)
    with torch.profiler.profile(profile_memory=True, activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        cross_entropy(logits, target).backward()
    assert profiler.profiler is not None
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    alive = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        alive += event.nbytes()
        peak = max(peak, alive)
    assert logits.nbytes <= peak < 1.5 * logits.nbytes  # autograd through F.cross_entropy takes 3.5 times


@pytest.mark.slow
@pytest.mark.parametrize(("gamma", "smoothing"), [(2.0, 0.0), (0.0, 0.1)])  # what neither has, both have
def test_compiled_is_the_same_up_to_rounding(gamma: float, smoothing: float) -> None:
    logits, target, weights = batch()
    normalizer = torch.tensor(7.0)
    results = []
    for compiled in (False, True):
        loss = pixel_loss(
            logits, target, normalizer, gamma=gamma, factors=weights, ignore_index=255, smoothing=smoothing,
            compiled=compiled,
        )  # fmt: skip
        results.append((loss, *torch.autograd.grad(loss, logits)))
    torch.testing.assert_close(results[1], results[0], rtol=1e-4, atol=1e-6)
