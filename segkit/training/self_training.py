"""Self-training: the moving average of the weights labels images without labels, and the model learns from that.

Mean teacher (Tarvainen and Valpola 2017) with hard labels where it is sure (FixMatch, Sohn et al. 2020; pixels below
the threshold are ignored), and with ClassMix (Olsson et al. 2021) or CutMix (French et al. 2020): the teacher sees an
image as it was loaded, the model sees it in other tones, and mixed with another one. All draws follow from (seed, step,
rank).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from segkit.config.schema import SemiConfig
from segkit.imaging.letterbox import BAR_GREY
from segkit.loading.collate import Batch
from segkit.losses.table import Criterion, LossValue
from segkit.models.segmenter import Segmenter
from segkit.runtime.device import autocast
from segkit.training.ema import MovingAverage

TONES = 0.3  # by up to so much each channel is multiplied, and by up to so much of 255 it is shifted
CUT = (0.25, 0.5)  # of the area, what CutMix fills


@dataclass(frozen=True)
class SelfTraining:
    """The teacher of a run is the moving average of its own weights."""

    settings: SemiConfig
    average: MovingAverage[Segmenter]
    ignore_index: int
    precision: torch.dtype

    @torch.no_grad()
    def label(self, batch: Batch) -> Batch:
        """Return a micro-batch with `second`, uint8 [b, H, W]: what the teacher is sure of in images without a label,
        ignored elsewhere. These images are changed and mixed with one another, with what the teacher says of them.
        """
        bare = (batch.masks == self.ignore_index).flatten(1).all(dim=1)
        second = torch.full_like(batch.masks, self.ignore_index)
        if not bare.any():
            return batch._replace(second=second)
        seen = batch.images[bare]
        with autocast(seen.device, self.precision):
            logits = self.average.model(seen)
        sure, ids = logits.float().softmax(dim=1).max(dim=1)
        bars = (seen == BAR_GREY).all(dim=1)
        said = torch.where((sure >= self.settings.threshold) & ~bars, ids, self.ignore_index).to(batch.masks.dtype)
        images = in_other_tones(seen)
        if self.settings.mix != "none" and len(images) > 1:
            parts = parts_of_classes(said, self.ignore_index) if self.settings.mix == "classmix" else parts_cut(said)
            partner = torch.arange(len(images), device=images.device).roll(1)
            images = torch.where(parts[:, None], images[partner], images)
            said = torch.where(parts, said[partner], said)
        second[bare] = said
        changed = batch.images.clone(memory_format=torch.preserve_format)
        changed[bare] = images
        return batch._replace(images=changed, second=second)

    def normalizers(self, criterion: Criterion, micro: Sequence[Batch]) -> torch.Tensor:
        """Return what divides the losses of labelled micro-batches, of this rank: float [T]."""
        return torch.stack([criterion.normalizers(batch.second) for batch in micro if batch.second is not None]).sum(0)

    def add_to(
        self, share: LossValue, criterion: Criterion, logits: torch.Tensor, batch: Batch, normalizers: torch.Tensor
    ) -> LossValue:
        """Return a loss with that of the teacher's labels, which `normalizers`, of the whole batch, divide."""
        assert batch.second is not None, "label() comes first"
        value = criterion(logits, batch.second, normalizers)
        total = share.total + self.settings.weight * value.total
        return LossValue(total, torch.cat([share.terms, value.total.detach()[None]]))


def in_other_tones(images: torch.Tensor) -> torch.Tensor:
    """Return images uint8 [b, 3, H, W] with each channel of each multiplied and shifted at random."""
    factors, shifts = (1 + TONES * _uniform(len(images), 3, 1, 1)), 255 * TONES * _uniform(len(images), 3, 1, 1)
    moved = images.float() * factors.to(images.device) + shifts.to(images.device)
    return moved.clamp_(0, 255).to(torch.uint8)


def parts_of_classes(said: torch.Tensor, ignore_index: int) -> torch.Tensor:
    """Return where each image gets half of the classes, rounded up, of the image before it: bool [b, H, W].

    said: ids [b, H, W].
    """
    parts = []
    for ids in said.roll(1, dims=0):
        present = ids.unique()
        present = present[present != ignore_index]
        chosen = present[torch.randperm(len(present))[: math.ceil(len(present) / 2)].to(present.device)]
        parts.append(torch.isin(ids, chosen))
    return torch.stack(parts)


def parts_cut(said: torch.Tensor) -> torch.Tensor:
    """Return where each image gets a rectangle of the image before it, of CUT of the area: bool [b, H, W]."""
    parts = torch.zeros_like(said, dtype=torch.bool)
    for part in parts:
        share = CUT[0] + (CUT[1] - CUT[0]) * float(torch.rand(()))
        lengths = [max(1, round(side * math.sqrt(share))) for side in part.shape]
        top, left = (
            int(torch.randint(side - length + 1, ())) for side, length in zip(part.shape, lengths, strict=True)
        )
        part[top : top + lengths[0], left : left + lengths[1]] = True
    return parts


def _uniform(*shape: int) -> torch.Tensor:
    return 2 * torch.rand(shape) - 1
