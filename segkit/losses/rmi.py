"""Region mutual information by image: what a pixel's neighbourhood in the prediction says of that in the truth."""

import torch
import torch.nn.functional as F

from segkit.losses.overlap import labelled_images, mean_over_images
from segkit.losses.pixel import EPS, check_ignore_index

RIDGE = 5e-4  # added to the diagonal of a covariance, as in the authors' code


def rmi(
    logits: torch.Tensor,
    target: torch.Tensor,
    *,
    ignore_index: int = 255,
    radius: int = 3,
    pool: int = 3,
    normalizer: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return the entropy that truth has left where the prediction is known, averaged over the classes that an image's
    truth holds, then over images with labels.

    Source: Zhao et al. 2019, Region Mutual Information Loss for Semantic Segmentation. Truth t_c and probability p_c
    are averaged over cells of `pool` x `pool` pixels; each window of `radius` x `radius` cells is a point y of the
    truth and one x of the prediction, of d = radius^2 numbers. Were they normal, the entropy of y given x would be, but
    for a constant, 1/2 log det(M) with M = S_yy + r - S_yx (S_xx + r)^-1 S_xy, of sums of squares S over windows and a
    ridge r. The loss of a class is (log det M - log det M_t) / 2d: M_t is M where the prediction is the truth, a
    constant, so the truth costs 0. It doesn't see whether a class is predicted or its opposite: add it to
    cross-entropy.

    Departures from the paper: softmax, where it has sigmoids; a mean over classes, where it has a sum; cells are means
    over their labelled pixels, and windows with a cell without any are left out, where its code fills in zeros.
    Computed in float64, which Apple's GPUs lack.
    logits float [B, C, H, W], target ids [B, H, W] -> float32 scalar.

    Raises:
        ValueError: an ignore_index outside 0..255.
    """
    check_ignore_index(ignore_index)
    if normalizer is None:
        normalizer = labelled_images(target, ignore_index=ignore_index)
    costs, present = [logits[:0].sum(dim=(2, 3)).float()], [torch.zeros_like(logits[:0, :, 0, 0], dtype=torch.bool)]
    if min(target.shape[1:]) >= radius * pool:
        for scores, truth in zip(logits.split(1), target.split(1), strict=True):
            cost, held = _of_one(scores, truth, ignore_index=ignore_index, radius=radius, pool=pool)
            costs.append(cost)
            present.append(held)
    return mean_over_images(torch.cat(costs), torch.cat(present), normalizer)


def _of_one(
    scores: torch.Tensor, truth: torch.Tensor, *, ignore_index: int, radius: int, pool: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return an image's loss by class, float32 [1, C], and which classes it holds, bool [1, C].

    scores [1, C, H, W], truth [1, H, W].
    """
    labelled = (truth != ignore_index)[:, None].float()  # [1, 1, H, W]
    ids = truth.long().masked_fill(truth == ignore_index, 0)[:, None]
    onehot = torch.zeros(scores.shape, device=scores.device).scatter_(1, ids, labelled)
    share = F.avg_pool2d(labelled, pool)  # of each cell that is labelled
    probabilities = scores.float().softmax(dim=1) * labelled
    cells = [F.avg_pool2d(part, pool) / share.clamp_min(EPS) for part in (onehot, probabilities)]
    windows = [_windows(part.double(), radius) for part in cells]  # [C, d, N] each
    whole = (_windows(share, radius) > 0).all(dim=1, keepdim=True)  # [1, 1, N]
    count = whole.sum().clamp_min(1)
    y, x = ((part - (part * whole).sum(dim=2, keepdim=True) / count) * whole for part in windows)
    ridge = RIDGE * torch.eye(y.shape[1], dtype=y.dtype, device=y.device)
    s_yy, s_xx, s_yx = y @ y.mT, x @ x.mT, y @ x.mT
    joint = torch.cat([torch.cat([s_yy + ridge, s_yx], dim=2), torch.cat([s_yx.mT, s_xx + ridge], dim=2)], dim=1)
    left = _log_det(joint) - _log_det(s_xx + ridge)  # log det M
    # with x = y: the joint one has the eigenvalues 2 s + r and r, for each s of S_yy and the ridge r
    left_at_truth = _log_det(2 * s_yy + ridge) + _log_det(ridge) - _log_det(s_yy + ridge)
    cost = (left - left_at_truth) / (2 * y.shape[1])  # [C]
    return cost.float()[None], onehot.flatten(2).any(dim=2)


def _windows(cells: torch.Tensor, radius: int) -> torch.Tensor:
    """Return each window's cells, for cells [1, K, h, w]: [K, radius^2, number of windows]."""
    return F.unfold(cells[0][:, None], radius)


def _log_det(matrices: torch.Tensor) -> torch.Tensor:
    """Return the logarithm of the determinant of symmetric positive definite matrices [..., d, d]."""
    factors = torch.linalg.cholesky_ex(matrices).L  # NaN stays NaN, which training reports; cholesky would raise
    return 2 * factors.diagonal(dim1=-2, dim2=-1).log().sum(dim=-1)
