"""From batches to scores.

Validation in training, `eval_miou` and `predict` all call a `Backend`, so they can't disagree. Scores are counted
at the original image resolution: logits go back through the letterbox, then argmax; label maps are never resized.
"""

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from segkit.classes import Classes
from segkit.errors import DeviceError, first_line
from segkit.evaluation.confusion import Absent, ConfusionMatrix, Scores
from segkit.evaluation.judged import Judged
from segkit.evaluation.measurement import Counted, Measured, Measurement
from segkit.imaging.argmax import argmax
from segkit.inference.backend import Array, Backend
from segkit.inference.postprocess import Postprocess
from segkit.inference.segmentation import Segmentation
from segkit.loading.evaluation_set import EvaluationBatch
from segkit.runtime.machine import count_threads
from segkit.runtime.threads import prefetch

if TYPE_CHECKING:
    from segkit.losses.table import WeightedLoss
    from segkit.runtime.ranks import Ranks


@dataclass(frozen=True)
class Evaluation:
    """The scores of a set, its mean loss where a loss was given, and every figure where they were asked for."""

    scores: Scores
    loss: float | None = None
    measured: Measured | None = None


class Labelled(NamedTuple):
    """What a model says of an image, and the truth."""

    segmentation: Segmentation
    truth: np.ndarray  # uint8 [h, w]
    name: str


def evaluate(
    model: Backend,
    batches: Iterable[EvaluationBatch],
    *,
    classes: Classes,
    ranks: "Ranks | None" = None,
    loss: "WeightedLoss | None" = None,
    measurement: Measurement | None = None,
    postprocess: Postprocess | None = None,
    absent: Absent = "ignore",
) -> Evaluation:
    """Score the images of `batches`, and those of the other ranks, which must call this too.

    Masks are scored after `postprocess`, where given. The validation loss, where asked for, is that of all images
    together, on the canvas, of the logits themselves. `measurement`, where given, collects what every image adds, and
    its figures are returned too. `absent`: see `Scores`.

    Raises:
        DeviceError: an image, or a batch of them, doesn't fit into the device's memory.
    """
    matrix = ConfusionMatrix(len(classes), ignore_index=classes.ignore_index)
    total_loss = _TotalLoss(loss, model) if loss else None
    # a GPU takes one image back to its own size at a time, while it computes the next one's logits: images are large
    threads = count_threads() if model.device is None or model.device.type == "cpu" else 1
    labelled = segmentations(model, batches, postprocess=postprocess, see=total_loss.add if total_loss else None)
    count = functools.partial(_count, measurement=measurement or Measurement(classes))
    for counted in prefetch(count, labelled, threads=threads, ahead=threads):
        matrix += counted.matrix
        if measurement:
            measurement.add(counted)
    scores = (matrix.reduce(ranks, model.device) if ranks else matrix).scores(absent=absent)
    if measurement and ranks:
        measurement.gather(ranks)
    measured = measurement.measured(scores) if measurement else None
    return Evaluation(scores, total_loss.mean(ranks) if total_loss else None, measured)


class _TotalLoss:
    """The loss of all images together: sums and divisors of its terms, added up batch after batch."""

    def __init__(self, loss: "WeightedLoss", model: Backend) -> None:
        import torch  # here: only training asks for a loss

        from segkit.runtime.device import sum_dtype

        self.loss, self.device = loss, model.device or torch.device("cpu")
        self.totals = torch.zeros(2, len(loss.terms), dtype=sum_dtype(self.device), device=self.device)

    def add(self, logits: Array, batch: EvaluationBatch) -> None:
        """Add the loss of each image of a batch, by its logits [B, C, H, W]."""
        import torch

        masks = torch.as_tensor(batch.canvas_masks).to(self.device)
        for each, target in zip(torch.as_tensor(logits).split(1), masks.split(1), strict=True):
            self.totals.add_(torch.stack([self.loss.sums(each, target), self.loss.normalizers(target)]))

    def mean(self, ranks: "Ranks | None") -> float:
        """Return the loss of what was added on all ranks."""
        totals = ranks.sum(self.totals) if ranks else self.totals
        return float(self.loss.combine(totals[0], totals[1]))


def segmentations(
    model: Backend,
    batches: Iterable[EvaluationBatch],
    *,
    postprocess: Postprocess | None = None,
    see: Callable[[Array, EvaluationBatch], None] | None = None,
) -> Iterator[Labelled]:
    """Yield what a model says of each image of `batches`; `see`, where given, is called with the logits of each batch.

    Raises:
        DeviceError: a batch doesn't fit into the device's memory.
    """
    for batch in batches:
        with out_of_memory_names(f"{len(batch.names)} images ({batch.names[0]}, ...)", "lower eval.batch_size"):
            logits = model(batch.images)
        if see:
            see(logits, batch)
        for scores, box, truth, name in zip(logits, batch.boxes, batch.masks, batch.names, strict=True):
            yield Labelled(Segmentation(scores, box, postprocess), truth, name)


def _count(labelled: Labelled, *, measurement: Measurement) -> Counted:
    """Return what one image adds."""
    segmentation, truth = labelled.segmentation, labelled.truth
    with out_of_memory_at(labelled):
        image = Judged(
            truth,
            segmentation.mask,
            num_classes=len(measurement.classes),
            ignore_index=measurement.classes.ignore_index,
            probabilities=segmentation.probabilities_at,
            canvas=lambda: _on_the_canvas(labelled, measurement.classes),
        )
        return measurement.look(labelled.name, image)


def _on_the_canvas(labelled: Labelled, classes: Classes) -> tuple[np.ndarray, np.ndarray]:
    segmentation = labelled.segmentation
    truth = segmentation.box.apply_mask(labelled.truth, ignore_index=classes.ignore_index)
    return truth, argmax(segmentation.logits)


def out_of_memory_at(labelled: Labelled) -> contextlib.AbstractContextManager[None]:
    """Turn running out of the device's memory into a DeviceError that names the image."""
    height, width = labelled.truth.shape
    return out_of_memory_names(f"{labelled.name} ({width}x{height} pixels)", "shrink or tile it, or validate on a CPU")


@contextlib.contextmanager
def out_of_memory_names(what: str, remedy: str) -> Iterator[None]:
    """Turn running out of the device's memory into a DeviceError that says at what, and what helps."""
    try:
        yield
    except RuntimeError as error:
        if type(error).__name__ != "OutOfMemoryError":  # torch's, which may not be loaded
            raise
        raise DeviceError(
            f"evaluation: {what} don't fit into the device's memory ({first_line(error)}); {remedy}"
        ) from error
