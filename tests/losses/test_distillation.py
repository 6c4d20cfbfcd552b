import pytest
import torch

from segkit.losses.distillation import distillation

torch.manual_seed(0)
LOGITS, TEACHER = torch.randn(2, 5, 4, 6, dtype=torch.float64), torch.randn(2, 5, 4, 6, dtype=torch.float64)


def plain(logits: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
    p, q = (teacher / temperature).softmax(dim=1), (logits / temperature).softmax(dim=1)
    return temperature**2 * (p * (p.log() - q.log())).sum()


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_value_and_gradient_are_those_of_the_formula(temperature: float) -> None:
    ours, theirs = LOGITS.float().requires_grad_(), LOGITS.clone().requires_grad_()
    value, expected = distillation(ours, TEACHER, temperature=temperature), plain(theirs, TEACHER, temperature)
    assert value.item() == pytest.approx(expected.item(), rel=1e-5)
    value.backward()
    expected.backward()
    assert ours.grad is not None
    assert theirs.grad is not None
    assert ours.grad.double() == pytest.approx(theirs.grad, abs=1e-5)


def test_a_model_that_says_what_its_teacher_says_has_nothing_to_learn() -> None:
    logits = LOGITS.float().requires_grad_()
    value = distillation(logits, LOGITS.float() + 3, temperature=2.0)  # a shift of all classes says the same
    value.backward()
    assert value.item() == pytest.approx(0, abs=1e-5)
    assert logits.grad is not None
    assert logits.grad.abs().max() < 1e-5


def test_parts_of_a_batch_add_up_to_it() -> None:
    whole = distillation(LOGITS, TEACHER)
    parts = sum(distillation(*pair) for pair in zip(LOGITS.split(1), TEACHER.split(1), strict=True))
    assert float(whole) == pytest.approx(float(parts), rel=1e-6)


def test_half_precision_gives_a_finite_loss() -> None:
    logits = (LOGITS * 1000).half().requires_grad_()
    distillation(logits, (TEACHER * 1000).half()).backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
