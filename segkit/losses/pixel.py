"""Focal loss and cross-entropy over pixels, with their gradient in closed form.

Autograd would keep the log-softmax, write it out, and read everything again on the way back. Here the gradient is made
at once, where the softmax lies, and nothing else of the logits' size is made. Not here: what the losses mean and what
they are divided by (segkit/losses/cross_entropy.py).

With q = 1 - p_y, the loss of a labelled pixel is -f q^gamma log p_y. Its derivative by log p_y is -s, where
s = f (q^gamma - gamma q^(gamma-1) p_y log p_y), and d log p_y / d logit_c is [c = y] - p_c. So the gradient is
s (p_c - [c = y]); below, s is called the slope. gamma = 0 is cross-entropy.

Label smoothing e turns the truth [c = y] of cross-entropy into q_c = (1 - e) [c = y] + e / C. With z the logits, its
loss is -f (log p_y + e (mean z - z_y)), since log p_c = z_c - log sum exp z, and its gradient f (p_c - q_c): neither
needs more memory of the logits' size.
"""

import functools
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

EPS = 1e-6


def check_ignore_index(ignore_index: int) -> None:
    """Raise ValueError for an ignore_index that no uint8 mask can hold, as PyTorch's own -100."""
    if not 0 <= ignore_index <= 255:
        raise ValueError(
            f"ignore_index: found {ignore_index}, expected 0..255, a value of uint8 masks; give ignored pixels 255"
        )


@dataclass(frozen=True)
class Weighting:
    """How pixels are weighed: by scale (a scalar), gamma, factors float [C] or None for 1; 0 where ignored.

    smoothing: how much of the truth goes to all classes alike; with gamma 0 only.
    """

    scale: torch.Tensor
    gamma: float
    factors: torch.Tensor | None
    ignore_index: int
    smoothing: float = 0.0


@torch.compiler.disable  # type: ignore[untyped-decorator]
def pixel_loss(
    logits: torch.Tensor,
    target: torch.Tensor,
    normalizer: torch.Tensor,
    *,
    gamma: float,
    factors: torch.Tensor | None,
    ignore_index: int,
    smoothing: float = 0.0,
    compiled: bool = False,
) -> torch.Tensor:
    """Return the sum over labelled pixels of -f_y (1 - p_y)^gamma log p_y, over `normalizer`: a float32 scalar.

    logits float [B, C, H, W], target ids [B, H, W], factors f float [C] or None for 1. With `smoothing` in [0, 1), and
    gamma 0, log p_y becomes the sum of q_c log p_c, as above. `compiled` lets torch.compile fuse it, which takes some
    seconds once. The gradient can be asked for once.
    """
    assert gamma == 0 or smoothing == 0
    weighting = Weighting(1 / normalizer.clamp_min(EPS), gamma, factors, ignore_index, smoothing)
    total: torch.Tensor = _PixelLoss.apply(logits, target, weighting, compiled)
    return total


class _PixelLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        logits: torch.Tensor,
        target: torch.Tensor,
        weighting: Weighting,
        compiled: bool,
    ) -> torch.Tensor:
        # In fp16, a gradient divided by the number of pixels would underflow before GradScaler's factor reaches it.
        ctx.late_scale = weighting.scale if logits.dtype == torch.float16 else None
        if ctx.late_scale is not None:
            weighting = replace(weighting, scale=torch.ones_like(weighting.scale))
        run = _fused if compiled else _piecewise
        total, ctx.gradient = run(logits, target, weighting, ctx.needs_input_grad[0])
        return total if ctx.late_scale is None else total * ctx.late_scale

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grad_outputs: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        gradient, ctx.gradient = ctx.gradient, None
        if gradient is None:
            raise RuntimeError("the gradient of this loss was handed out already; compute the loss again")
        (outer,) = grad_outputs
        if ctx.late_scale is not None:
            outer = outer * ctx.late_scale
        if outer.device.type != "cpu" or outer != 1:  # a GPU would have to be waited for; multiplying by 1 is cheaper
            gradient.mul_(outer)
        return gradient, *[None] * 3


def _weigh(log_py: torch.Tensor, truth: torch.Tensor, weighting: Weighting) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the loss of all pixels (a scalar) and the slope of each, for log p_y and the true ids, of one shape."""
    scale, gamma, factors = weighting.scale, weighting.gamma, weighting.factors
    ignored = truth == weighting.ignore_index
    log_py = log_py.masked_fill(ignored, 0)  # it may be anything there, even infinite
    if factors is None:
        weight = torch.where(ignored, 0.0, scale)
    else:
        weight = (factors * scale)[truth.masked_fill(ignored, 0).long()].masked_fill(ignored, 0)
    if gamma == 0:
        return -(weight * log_py).sum(), weight
    q = (-torch.expm1(log_py)).clamp_min(EPS)  # 1 - p without cancellation, and with a finite power
    modulation = q**gamma
    slope = weight * (modulation - gamma * q ** (gamma - 1) * (1 - q) * log_py)
    return -(weight * modulation * log_py).sum(), slope


# ---- eager: image by image on a CPU, so that an image's scores stay in its cache


def _piecewise(
    logits: torch.Tensor, target: torch.Tensor, weighting: Weighting, with_gradient: bool
) -> tuple[torch.Tensor, torch.Tensor | None]:
    rows = logits.stride(1) == 1 and logits.shape[1] > 1  # channels_last, also where it was cropped
    logits = logits.contiguous(memory_format=torch.channels_last if rows else torch.contiguous_format)
    gradient = torch.empty_like(logits) if with_gradient else None
    axis = 3 if rows else 1  # of the classes in a piece
    smoothing, num_classes = weighting.smoothing, logits.shape[1]
    slots = itertools.repeat(None) if gradient is None else _pieces(gradient, rows=rows)
    truths = _pieces(target.unsqueeze(1), rows=rows)
    totals = []
    for scores, truth, slot in zip(_pieces(logits, rows=rows), truths, slots, strict=False):
        in_place = slot is not None and slot.dtype == torch.float32
        p = torch.softmax(scores, axis, out=slot) if in_place else scores.softmax(axis, dtype=torch.float32)
        ids = _class_ids(truth, weighting.ignore_index)
        log_py = _log_probability(scores, p, ids, axis)
        if smoothing:
            log_py = log_py + smoothing * _mean_above_truth(scores, ids, axis)
        total, slope = _weigh(log_py, truth, weighting)
        totals.append(total)
        if slot is not None:
            p.mul_(slope)
            if smoothing:
                p.sub_(slope * (smoothing / num_classes))
                slope = slope * (1 - smoothing)
            p.scatter_add_(axis, ids, -slope)
            if not in_place:
                slot.copy_(p)
    return torch.stack(totals).sum(), gradient


def _class_ids(truth: torch.Tensor, ignore_index: int) -> torch.Tensor:
    """Return int64 ids to gather by. Ignored pixels point to class 0, and weigh nothing; other wrong ids fail."""
    return truth.long().masked_fill(truth == ignore_index, 0)


def _pieces(tensor: torch.Tensor, *, rows: bool) -> Sequence[torch.Tensor]:
    """View [B, K, H, W] as pieces: on a CPU single images, [1, K, H, W] or (channels_last, `rows`) [1, H, W, K]."""
    view = tensor.permute(0, 2, 3, 1) if rows else tensor
    return view.split(1) if tensor.device.type == "cpu" else (view,)


def _log_probability(scores: torch.Tensor, p: torch.Tensor, ids: torch.Tensor, axis: int) -> torch.Tensor:
    """Return log p_y, exact also where p_y = exp(score_y - largest) / sum underflows: the largest p is 1 / sum."""
    if p.device.type == "cpu":
        log_py = p.gather(axis, ids).log_()
        if log_py.min() > -60:
            return log_py
    largest = scores.amax(axis, keepdim=True).float()
    return scores.gather(axis, ids).float() - largest + p.amax(axis, keepdim=True).log()


def _mean_above_truth(scores: torch.Tensor, ids: torch.Tensor, axis: int) -> torch.Tensor:
    """Return by how much the classes' mean score exceeds that of the truth, which is mean log p - log p_y: float32."""
    return scores.mean(axis, keepdim=True, dtype=torch.float32) - scores.gather(axis, ids).float()


# ---- compiled: two kernels, over the whole batch. In one kernel, the slope would be computed anew for every class.


def _fused(
    logits: torch.Tensor, target: torch.Tensor, weighting: Weighting, with_gradient: bool
) -> tuple[torch.Tensor, torch.Tensor | None]:
    ids = _class_ids(target, weighting.ignore_index).unsqueeze(1)
    log_py, log_sum = _compiled(_normalize)(logits, ids, weighting.smoothing)
    total, slope = _compiled(_weigh)(log_py, target.unsqueeze(1), weighting)
    if not with_gradient:
        return total, None
    return total, _compiled(_gradient)(logits, target, slope, log_sum, weighting.smoothing)


@functools.cache
def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    return torch.compile(function)


def _normalize(logits: torch.Tensor, ids: torch.Tensor, smoothing: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return, for ids [B, 1, H, W], log p_y and the log of the softmax's denominator: float32 [B, 1, H, W] each.

    With `smoothing`, the former is the sum of q_c log p_c.
    """
    scores = logits.float()
    largest = scores.amax(1, keepdim=True)
    log_sum = largest + (scores - largest).exp().sum(1, keepdim=True).log()
    log_py = scores.gather(1, ids) - log_sum
    if smoothing:
        log_py = log_py + smoothing * _mean_above_truth(scores, ids, 1)
    return log_py, log_sum


def _gradient(
    logits: torch.Tensor, target: torch.Tensor, slope: torch.Tensor, log_sum: torch.Tensor, smoothing: float
) -> torch.Tensor:
    """Return slope * (p_c - q_c), of the logits' dtype; q_c is [c = y] without `smoothing`."""
    classes = torch.arange(logits.shape[1], dtype=target.dtype, device=target.device).view(1, -1, 1, 1)
    truth = (classes == target.unsqueeze(1)).float()
    if smoothing:
        truth = (1 - smoothing) * truth + smoothing / logits.shape[1]
    return (slope * ((logits.float() - log_sum).exp() - truth)).to(logits.dtype)
