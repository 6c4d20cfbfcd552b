"""Every loss of the table beside its formula as the paper has it: in float64, pixel by pixel where that is plainest."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from segkit.losses.table import LOSSES

H, W, C = 9, 11, 4
WEIGHTS = torch.tensor([0.2, 1.0, 3.0, 0.7])

Plain = Callable[..., torch.Tensor]


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    """Return logits and ids of three images: with ignored pixels, without a label, and without one of the classes."""
    generator = torch.Generator().manual_seed(1)
    logits = (2 * torch.randn(3, C, H, W, generator=generator)).requires_grad_()
    target = torch.randint(0, C, (3, H, W), dtype=torch.uint8, generator=generator)
    target[torch.rand(target.shape, generator=generator) < 0.2] = 255
    target[0, 2:5, 4:7] = 255  # holds a whole cell of rmi
    target[1] = 255
    target[2][target[2] == 3] = 1
    return logits, target


def by_pixel(cost: Plain) -> Plain:
    """Return the mean of cost(p, log p, truth) over labelled pixels, weighted by class."""

    def mean(logits: torch.Tensor, target: torch.Tensor, **options: Any) -> torch.Tensor:
        log_p = F.log_softmax(logits, dim=1).movedim(1, 3)[target != 255]
        truth = target[target != 255].tolist()
        weights = [float(WEIGHTS[y]) for y in truth]
        costs = [w * cost(row.exp(), row, y, **options) for w, row, y in zip(weights, log_p, truth, strict=True)]
        return torch.stack(costs).sum() / sum(weights)

    return mean


def by_image(cost: Plain) -> Plain:
    """Return the mean over labelled images of cost(logits [C, H, W], target [H, W])."""

    def mean(logits: torch.Tensor, target: torch.Tensor, **options: Any) -> torch.Tensor:
        labelled = [k for k in range(len(target)) if (target[k] != 255).any()]
        return torch.stack([cost(logits[k], target[k], **options) for k in labelled]).mean()

    return mean


def by_class(cost: Plain) -> Plain:
    """Return the mean over labelled images, and the classes of each, of cost(p_c, t_c) of its labelled pixels."""

    def of_image(logits: torch.Tensor, target: torch.Tensor, **options: Any) -> torch.Tensor:
        labelled = target != 255
        p = logits.softmax(dim=0)[:, labelled]
        truth = target[labelled]
        return torch.stack([cost(p[c], (truth == c).double(), **options) for c in truth.unique().tolist()]).mean()

    return by_image(of_image)


def smoothed(p: torch.Tensor, log_p: torch.Tensor, y: int, label_smoothing: float) -> torch.Tensor:
    return -(1 - label_smoothing) * log_p[y] - label_smoothing / len(p) * log_p.sum()


def focal(p: torch.Tensor, log_p: torch.Tensor, y: int, gamma: float, alpha: torch.Tensor) -> torch.Tensor:
    return -alpha[y].double() * (1 - p[y]) ** gamma * log_p[y]


def dice(p: torch.Tensor, t: torch.Tensor, form: str) -> torch.Tensor:
    power = 2 if form == "squared" else 1
    plain = 1 - 2 * (p * t).sum() / ((p**power).sum() + (t**power).sum())
    return plain.cosh().log() if form == "log_cosh" else plain


def index(p: torch.Tensor, t: torch.Tensor, alpha: float, beta: float) -> torch.Tensor:
    found = (p * t).sum()
    return found / (found + alpha * (p * (1 - t)).sum() + beta * ((1 - p) * t).sum())


def correlation(p: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    tp, tn, fp, fn = (p * t).sum(), ((1 - p) * (1 - t)).sum(), (p * (1 - t)).sum(), ((1 - p) * t).sum()
    return (tp * tn - fp * fn) / ((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)).sqrt()


def lovasz(p: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """The Lovasz extension of 1 - IoU, a function of which pixels are wrong, by its definition."""

    truth = set(t.nonzero().flatten().tolist())

    def lost(wrong: set[int]) -> float:
        return len(wrong) / len(truth | wrong)

    errors = (t - p).abs()
    total, wrong = errors.new_zeros(()), set[int]()
    for k in errors.argsort(descending=True).tolist():
        total = total + errors[k] * (lost(wrong | {k}) - lost(wrong))
        wrong.add(k)
    return total


def ohem(logits: torch.Tensor, target: torch.Tensor, threshold: float, min_kept: float) -> torch.Tensor:
    log_p = F.log_softmax(logits, dim=0)
    pixels = [(y, x) for y, x in itertools.product(range(H), range(W)) if target[y, x] != 255]
    of_truth = {pixel: log_p[int(target[pixel])][pixel] for pixel in pixels}
    pixels.sort(key=lambda pixel: float(of_truth[pixel].detach()))
    first = math.ceil(min_kept * len(pixels))
    hard = [pixel for rank, pixel in enumerate(pixels) if rank < first or of_truth[pixel] < math.log(threshold)]
    weights = [float(WEIGHTS[int(target[pixel])]) for pixel in hard]
    return -torch.stack([w * of_truth[pixel] for w, pixel in zip(weights, hard, strict=True)]).sum() / sum(weights)


def boundary(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    p = logits.softmax(dim=0)
    pixels = [(y, x) for y, x in itertools.product(range(H), range(W)) if target[y, x] != 255]
    classes = target[target != 255].unique().tolist()
    total = p.new_zeros(())
    for c, pixel in itertools.product(classes, pixels):
        is_in = bool(target[pixel] == c)
        away = min(math.dist(pixel, other) for other in pixels if bool(target[other] == c) != is_in)
        total = total + ((1 - away) * (p[c][pixel] - 1) if is_in else away * p[c][pixel])
    return total / len(pixels) / len(classes)


def rmi(logits: torch.Tensor, target: torch.Tensor, radius: int, pool: int) -> torch.Tensor:
    p, labelled = logits.softmax(dim=0), target != 255
    classes = target[labelled].unique().tolist()

    def cell(values: torch.Tensor, row: int, column: int) -> torch.Tensor | None:
        of = slice(row * pool, (row + 1) * pool), slice(column * pool, (column + 1) * pool)
        return values[of][labelled[of]].mean() if labelled[of].any() else None

    def points(values: torch.Tensor) -> torch.Tensor:
        found = []
        for top, left in itertools.product(range(H // pool - radius + 1), range(W // pool - radius + 1)):
            window = [cell(values, top + y, left + x) for y, x in itertools.product(range(radius), repeat=2)]
            if None not in window:
                found.append(torch.stack(window))  # type: ignore[arg-type]
        matrix = torch.stack(found)
        return matrix - matrix.mean(dim=0)

    def entropy(y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        ridge = 5e-4 * torch.eye(radius**2, dtype=torch.float64)
        return torch.logdet(y.T @ y - y.T @ x @ torch.inverse(x.T @ x + ridge) @ x.T @ y + ridge) / 2

    of_class = []
    for c in classes:
        y, x = points((target == c).double()), points(p[c])
        of_class.append((entropy(y, x) - entropy(y, y)) / radius**2)
    return torch.stack(of_class).mean()


ALPHA = torch.tensor([0.25, 0.75, 1.0, 0.5])
CASES: list[tuple[str, Plain, dict[str, Any]]] = [
    ("cross_entropy", by_pixel(smoothed), {"label_smoothing": 0.0}),
    ("cross_entropy", by_pixel(smoothed), {"label_smoothing": 0.3}),
    ("focal", by_pixel(focal), {"gamma": 1.5, "alpha": ALPHA}),
    ("dice", by_class(dice), {"form": "plain"}),
    ("dice", by_class(dice), {"form": "squared"}),
    ("dice", by_class(dice), {"form": "log_cosh"}),
    ("jaccard", by_class(lambda p, t: 1 - (p * t).sum() / (p + t - p * t).sum()), {}),
    ("tversky", by_class(lambda p, t, alpha, beta: 1 - index(p, t, alpha, beta)), {"alpha": 0.2, "beta": 0.9}),
    (
        "focal_tversky",
        by_class(lambda p, t, alpha, beta, gamma: (1 - index(p, t, alpha, beta)) ** (1 / gamma)),
        {"alpha": 0.2, "beta": 0.9, "gamma": 4 / 3},
    ),
    ("mcc", by_class(lambda p, t: 1 - correlation(p, t)), {}),
    ("lovasz", by_class(lovasz), {}),
    ("ohem", by_image(ohem), {"threshold": 0.3, "min_kept": 0.0}),
    ("ohem", by_image(ohem), {"threshold": 1e-9, "min_kept": 0.25}),
    ("ohem", by_image(ohem), {"threshold": 1.0, "min_kept": 0.1}),
    ("boundary", by_image(boundary), {}),
    ("rmi", by_image(rmi), {"radius": 2, "pool": 2}),
    ("rmi", by_image(rmi), {"radius": 3, "pool": 1}),
]


def test_every_loss_of_the_table_is_beside_its_formula() -> None:
    assert {name for name, _, _ in CASES} == set(LOSSES)


@pytest.mark.parametrize(("name", "plain", "options"), CASES, ids=lambda value: value if isinstance(value, str) else "")
def test_value_and_gradient_are_those_of_the_formula(name: str, plain: Plain, options: dict[str, Any]) -> None:
    logits, target = batch()
    weights = {"class_weights": WEIGHTS} if name in ("cross_entropy", "focal", "ohem") else {}
    found = LOSSES[name].function(logits, target, **weights, **options)
    (gradient,) = torch.autograd.grad(found, logits)
    exact = logits.detach().double().requires_grad_()
    expected = plain(exact, target, **options)
    (expected_gradient,) = torch.autograd.grad(expected, exact)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradient.double(), expected_gradient, rtol=1e-4, atol=1e-6)
    assert gradient.movedim(1, 3)[target != 255].any()
    assert not gradient.movedim(1, 3)[target == 255].any()
