"""From pixels to masks at the original size, and from masks to scores.

Validation in training, `eval_miou` and `predict` all call `segment` below, so they can't disagree. Scores are counted
at the original image resolution: logits go back through the letterbox, then argmax; label maps are never resized.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from segkit.classes import Classes
from segkit.data.dataset import SceneBatch
from segkit.geometry import LetterBox
from segkit.losses import WeightedLoss
from segkit.metrics import ConfusionMatrix, Scores
from segkit.models.segmenter import Segmenter
from segkit.ranks import Ranks
from segkit.runtime import autocast, sum_dtype


@dataclass(frozen=True)
class Evaluation:
    """The scores of a set and, where a loss was given, its mean."""

    scores: Scores
    loss: float | None = None


@torch.inference_mode()
def segment(
    segmenter: Segmenter, images: torch.Tensor, boxes: Sequence[LetterBox], *, precision: torch.dtype
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield for each picture its logits on the canvas, float [C, H, W], and at the original size, float [C, h, w].

    images: letterboxed uint8 RGB [B, 3, H, W], on any device. `segmenter` must be in eval mode.
    """
    device = segmenter.mean.device
    with autocast(device, precision):
        logits = segmenter(images.to(device, non_blocking=True)).float()  # [B, C, H, W]
    for scores, box in zip(logits, boxes, strict=True):
        yield scores, box.invert(scores)


def to_mask(logits: torch.Tensor) -> np.ndarray:
    """Return the class of the largest of logits [C, h, w] for each pixel: uint8 [h, w]."""
    mask: np.ndarray = logits.argmax(dim=0).to(torch.uint8).cpu().numpy()
    return mask


def evaluate(
    segmenter: Segmenter,
    batches: Iterable[SceneBatch],
    *,
    classes: Classes,
    precision: torch.dtype,
    ranks: Ranks | None = None,
    loss: WeightedLoss | None = None,
) -> Evaluation:
    """Score the pictures of `batches`, and those of the other ranks, which must call this too.

    `segmenter` must be in eval mode. The validation loss, where asked for, is that of all pictures together, on the
    canvas.
    """
    ranks = ranks or Ranks()
    device = segmenter.mean.device
    matrix = ConfusionMatrix(len(classes), ignore_index=classes.ignore_index)
    totals = torch.zeros(2, len(loss.terms) if loss else 0, dtype=sum_dtype(device), device=device)
    for batch in batches:
        segmented = segment(segmenter, batch.images, batch.boxes, precision=precision)
        for k, (canvas_logits, logits) in enumerate(segmented):
            matrix.update(to_mask(logits), batch.masks[k])
            if loss:
                target = batch.canvas_masks[k : k + 1].to(device)
                totals += torch.stack([loss.sums(canvas_logits[None], target), loss.normalizers(target)])
    scores = matrix.reduce(ranks, device).scores()
    if loss is None:
        return Evaluation(scores)
    totals = ranks.sum(totals)
    return Evaluation(scores, float(loss.combine(totals[0], totals[1])))
