"""What PIDNet is trained by: its logits, those of its detail branch, its edges, and its logits where it sees edges.

Xu et al. 2023, section 4.4: L = 0.4 l_detail + 20 l_edge + l_main + l_aware. l_main and l_detail are the configured
losses (the paper takes OHEM cross-entropy: loss.ohem). l_edge is binary cross-entropy of edges, both sides weighing the
same; l_aware is cross-entropy of the pixels that are taken for an edge, p > 0.8.

Depart from the authors' code for exactness on any split: what they divide by over a batch, l_edge and l_aware divide by
over each image, and then by the number of images with labels.
"""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F

from segkit.losses.cross_entropy import cross_entropy
from segkit.losses.overlap import labelled_images
from segkit.losses.pixel import EPS
from segkit.losses.table import LossValue, WeightedLoss
from segkit.models.auxiliary_loss import aligned
from segkit.models.pidnet import PidOutputs

DETAIL, EDGE, AWARE = 0.4, 20.0, 1.0
SURE = 0.8  # probability from which a pixel is taken for an edge
REACH = 2  # pixels on each side of a change of class that belong to the edge


@dataclass(frozen=True)
class PidLoss:
    """The criterion of PIDNet, around the configured losses."""

    loss: WeightedLoss

    @property
    def names(self) -> tuple[str, ...]:
        """The configured losses of the logits, those of the detail branch, edge and edge_aware."""
        return (*self.loss.names, *(f"detail_{name}" for name in self.loss.names), "edge", "edge_aware")

    def at(self, progress: float) -> "PidLoss":
        """Return it as it is after a part of the run, 0..1."""
        return replace(self, loss=self.loss.at(progress))

    def normalizers(self, target: torch.Tensor) -> torch.Tensor:
        """Return each term's divisor for ids [B, H, W]: float [T]."""
        own = self.loss.normalizers(target)
        images = labelled_images(target, ignore_index=self.loss.ignore_index).reshape(1)
        return torch.cat([own, own, images, images])

    def __call__(self, outputs: PidOutputs, target: torch.Tensor, normalizers: torch.Tensor | None = None) -> LossValue:
        """Return the loss of what the network gave, at stride 8 of the padded images, for ids [B, H, W]."""
        if normalizers is None:
            normalizers = self.normalizers(target)
        logits, detail, edges = (aligned(each, target) for each in outputs)
        number, images = len(self.loss.names), normalizers[-1].clamp_min(EPS)
        main = self.loss(logits, target, normalizers[:number])
        second = self.loss(detail, target, normalizers[:number])
        edge = edge_loss(edges[:, 0], target, ignore_index=self.loss.ignore_index) / images
        aware = aware_loss(logits, edges[:, 0], target, ignore_index=self.loss.ignore_index) / images
        total = main.total + DETAIL * second.total + EDGE * edge + AWARE * aware
        return LossValue(total, torch.cat([main.terms, second.terms, torch.stack([edge, aware]).detach()]))


def edges_of(target: torch.Tensor, *, ignore_index: int) -> torch.Tensor:
    """Return which pixels have another class within REACH of them, in a square: bool [B, H, W], for ids [B, H, W].

    Ignored pixels are no other class; they may be edges, and don't count.
    """
    ids = target[:, None].float()
    ignored = target[:, None] == ignore_index
    side = 2 * REACH + 1
    highest = F.max_pool2d(ids.masked_fill(ignored, -1), side, stride=1, padding=REACH)
    lowest = -F.max_pool2d(-ids.masked_fill(ignored, 256), side, stride=1, padding=REACH)
    return (highest > lowest)[:, 0]


def edge_loss(scores: torch.Tensor, target: torch.Tensor, *, ignore_index: int) -> torch.Tensor:
    """Return binary cross-entropy of edges, the sum over images of the mean over an image's labelled pixels.

    An edge weighs as much as the other side has pixels, and the other way round (Xie and Tu 2015, HED, equation 2).
    scores float [B, H, W], target ids [B, H, W] -> float32 scalar.
    """
    labelled = target != ignore_index
    truth = edges_of(target, ignore_index=ignore_index) & labelled
    rest = labelled & ~truth
    count = labelled.sum(dim=(1, 2)).clamp_min(1)
    positive, negative = truth.sum(dim=(1, 2)) / count, rest.sum(dim=(1, 2)) / count
    weights = truth * negative[:, None, None] + rest * positive[:, None, None]
    each = F.binary_cross_entropy_with_logits(scores.float(), truth.float(), weights.float(), reduction="none")
    return (each.sum(dim=(1, 2)) / count).sum()


def aware_loss(logits: torch.Tensor, scores: torch.Tensor, target: torch.Tensor, *, ignore_index: int) -> torch.Tensor:
    """Return cross-entropy of pixels that are taken for an edge, the sum over images of each image's mean.

    logits float [B, C, H, W], scores of edges float [B, H, W], target ids [B, H, W] -> float32 scalar.
    """
    sure = scores.detach().float().sigmoid() > SURE
    there = torch.where(sure, target, torch.full_like(target, ignore_index))
    parts = zip(logits.split(1), there.split(1), strict=True)
    return torch.stack([cross_entropy(each, ids, ignore_index=ignore_index) for each, ids in parts]).sum()
