"""From pixels to masks at the original size, and from masks to scores.

Validation in training, `eval_miou` and `predict` all call `segment` below, so they can't disagree. Scores are counted
at the original image resolution: logits go back through the letterbox, then argmax; label maps are never resized.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from segkit.classes import Classes
from segkit.evaluation.confusion import ConfusionMatrix, Scores
from segkit.imaging.letterbox import LetterBox
from segkit.inference.backend import segment
from segkit.inference.ensemble import Ensemble
from segkit.loading.collate import EvaluationBatch
from segkit.losses.table import WeightedLoss
from segkit.models.segmenter import Segmenter
from segkit.runtime.device import sum_dtype
from segkit.runtime.machine import count_threads
from segkit.runtime.ranks import Ranks
from segkit.runtime.threads import prefetch


@dataclass(frozen=True)
class Evaluation:
    """The scores of a set and, where a loss was given, its mean."""

    scores: Scores
    loss: float | None = None


def evaluate(
    model: Segmenter | Ensemble,
    batches: Iterable[EvaluationBatch],
    *,
    classes: Classes,
    precision: torch.dtype,
    ranks: Ranks | None = None,
    loss: WeightedLoss | None = None,
    pictures: dict[str, np.ndarray] | None = None,
) -> Evaluation:
    """Score the pictures of `batches`, and those of the other ranks, which must call this too.

    `model` is one that `for_inference` made, or an ensemble of such. The validation loss, where asked for, is that of
    all pictures together, on the canvas. `pictures`, where given, is filled with this rank's: by the name of each its
    hits, true and predicted pixels by class, int64 [3, C].
    """
    ranks = ranks or Ranks()
    device = model.mean.device
    matrix = ConfusionMatrix(len(classes), ignore_index=classes.ignore_index)
    totals = torch.zeros(2, len(loss.terms) if loss else 0, dtype=sum_dtype(device), device=device)

    def segmented() -> Iterator[tuple[torch.Tensor, LetterBox, np.ndarray, str]]:
        for batch in batches:
            logits = segment(model, batch.images, precision=precision)
            if loss:
                for k, target in enumerate(batch.canvas_masks.to(device).split(1)):
                    totals.add_(torch.stack([loss.sums(logits[k : k + 1], target), loss.normalizers(target)]))
            yield from zip(logits, batch.boxes, batch.masks, batch.names, strict=True)

    threads = count_threads() if device.type == "cpu" else 0  # a GPU takes one picture at a time: they are large there
    for prediction, truth, name in prefetch(_predict_one, segmented(), threads=threads, ahead=threads):
        picture = ConfusionMatrix(len(classes), ignore_index=classes.ignore_index)
        picture.update(prediction, truth)
        matrix += picture
        if pictures is not None:
            pictures[name] = picture.marginals
    scores = matrix.reduce(ranks, device).scores()
    if loss is None:
        return Evaluation(scores)
    totals = ranks.sum(totals)
    return Evaluation(scores, float(loss.combine(totals[0], totals[1])))


def _predict_one(scene: tuple[torch.Tensor, LetterBox, np.ndarray, str]) -> tuple[np.ndarray, np.ndarray, str]:
    logits, box, truth, name = scene
    return box.mask(logits), truth, name
