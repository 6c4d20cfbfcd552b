"""From batches to scores.

Validation in training, `eval_miou` and `predict` all call a `Backend`, so they can't disagree. Scores are counted
at the original image resolution: logits go back through the letterbox, then argmax; label maps are never resized.
"""

import contextlib
import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from segkit.classes import Classes
from segkit.errors import DeviceError, first_line
from segkit.evaluation.confusion import ConfusionMatrix, Scores
from segkit.imaging.letterbox import LetterBox
from segkit.inference.backend import Backend
from segkit.loading.collate import EvaluationBatch
from segkit.losses.table import WeightedLoss
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
    model: Backend,
    batches: Iterable[EvaluationBatch],
    *,
    classes: Classes,
    ranks: Ranks | None = None,
    loss: WeightedLoss | None = None,
    images: dict[str, np.ndarray] | None = None,
) -> Evaluation:
    """Score the images of `batches`, and those of the other ranks, which must call this too.

    The validation loss, where asked for, is that of all images together, on the canvas. `images`, where given, is
    filled with this rank's: by the name of each its hits, true and predicted pixels by class, int64 [3, C].

    Raises:
        DeviceError: an image, or a batch of them, doesn't fit into the device's memory.
    """
    ranks = ranks or Ranks()
    device = model.device or torch.device("cpu")
    matrix = ConfusionMatrix(len(classes), ignore_index=classes.ignore_index)
    totals = torch.zeros(2, len(loss.terms) if loss else 0, dtype=sum_dtype(device), device=device)

    def segmented() -> Iterator[tuple[torch.Tensor, LetterBox, np.ndarray, str]]:
        for batch in batches:
            with _out_of_memory_names(f"{len(batch.names)} images ({batch.names[0]}, ...)", "lower eval.batch_size"):
                logits = torch.as_tensor(model(batch.images))
            if loss:
                for k, target in enumerate(batch.canvas_masks.to(device).split(1)):
                    totals.add_(torch.stack([loss.sums(logits[k : k + 1], target), loss.normalizers(target)]))
            yield from zip(logits, batch.boxes, batch.masks, batch.names, strict=True)

    # a GPU takes one image back to its own size at a time, while it computes the next one's logits: images are large
    threads = count_threads() if device.type == "cpu" else 1
    for counted, name in prefetch(
        functools.partial(_count, classes=classes), segmented(), threads=threads, ahead=threads
    ):
        matrix += counted
        if images is not None:
            images[name] = counted.marginals
    scores = matrix.reduce(ranks, device).scores()
    if loss is None:
        return Evaluation(scores)
    totals = ranks.sum(totals)
    return Evaluation(scores, float(loss.combine(totals[0], totals[1])))


def _count(
    segmented: tuple[torch.Tensor, LetterBox, np.ndarray, str], *, classes: Classes
) -> tuple[ConfusionMatrix, str]:
    """Return what one image counts, and its name."""
    logits, box, truth, name = segmented
    height, width = box.source_hw
    with _out_of_memory_names(f"{name} ({width}x{height} pixels)", "shrink or tile it, or validate on a CPU"):
        prediction = box.mask(logits)
    counted = ConfusionMatrix(len(classes), ignore_index=classes.ignore_index)
    counted.update(prediction, truth)
    return counted, name


@contextlib.contextmanager
def _out_of_memory_names(what: str, remedy: str) -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise DeviceError(
            f"evaluation: {what} don't fit into the device's memory ({first_line(error)}); {remedy}"
        ) from error
