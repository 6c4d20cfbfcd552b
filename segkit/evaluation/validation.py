"""Scoring a model on one labelled set: during training, in `segkit plan` and by the evaluation tool."""

import contextlib
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from segkit.datasets.images import image_size_hw
from segkit.evaluation.confusion import Absent
from segkit.evaluation.evaluate import Evaluation, evaluate
from segkit.evaluation.measurement import Measurement
from segkit.imaging.argmax import argmax
from segkit.imaging.overlay import panel
from segkit.inference.backend import Backend
from segkit.inference.postprocess import Postprocess
from segkit.loading.evaluation_set import EvaluationBatch, EvaluationSet, evaluation_batches, stack_evaluation
from segkit.runtime.machine import count_threads
from segkit.runtime.progress import progress
from segkit.runtime.threads import prefetch

if TYPE_CHECKING:
    from segkit.losses.table import WeightedLoss
    from segkit.runtime.ranks import Ranks


@dataclass(frozen=True)
class Validation:
    """A labelled set, and how a model is scored on it. Each rank takes a share of the images, and all must call."""

    dataset: EvaluationSet
    batch_size: int
    ranks: "Ranks | None" = None
    loss: "WeightedLoss | None" = None  # whose mean over the set is wanted as well
    postprocess: Postprocess | None = None  # the rules that masks are scored after; training has none

    def score(
        self,
        model: Backend,
        *,
        num_batches: int | None = None,
        title: str | None = None,
        measurement: Measurement | None = None,
        absent: Absent = "ignore",
    ) -> Evaluation:
        """Score the set, or its first `num_batches` batches; with a `title`, a progress bar shows how far it is.

        `measurement` and `absent` are as in `evaluate`.

        Raises:
            DataError: an image or its mask can't be read.
            DeviceError: an image doesn't fit into the device's memory.
        """
        with self.batches(num_batches=num_batches, title=title) as batches:
            return evaluate(
                model,
                batches,
                classes=self.dataset.reader.classes,
                ranks=self.ranks,
                loss=self.loss,
                measurement=measurement,
                postprocess=self.postprocess,
                absent=absent,
            )

    @contextlib.contextmanager
    def batches(
        self, *, num_batches: int | None = None, title: str | None = None
    ) -> Iterator[Iterable[EvaluationBatch]]:
        """Give this rank's batches, or the first `num_batches`; with a `title`, a progress bar shows how far it is."""
        rank, num_ranks = (self.ranks.rank, self.ranks.size) if self.ranks else (0, 1)
        batches = evaluation_batches(
            self.dataset, batch_size=self.batch_size, rank=rank, num_ranks=num_ranks, workers=count_threads()
        )
        chosen = itertools.islice(batches, num_batches)
        total = -(-len(self.dataset) // (self.batch_size * num_ranks))
        shown = title is not None and rank == 0
        with progress(chosen, title=title or "", unit="batch", total=total, show=shown) as bar:
            yield bar

    def rehearse(self, model: Backend, *, largest: bool) -> None:
        """Score two batches and throw the figures away, so that what would fail after an hour fails now.

        With `largest`, also the image with the most pixels: on a GPU it is the one that may not fit into memory.

        Raises:
            DataError, DeviceError: as `score`.
        """
        self.score(model, num_batches=2)
        if largest:
            sample = self.dataset[self.largest_image()]
            classes = self.dataset.reader.classes
            evaluate(model, [stack_evaluation([sample])], classes=classes)

    def largest_image(self) -> int:
        """Return the index of the image with the most pixels, by the files' headers."""
        files = [item.image for item in self.dataset.items]
        threads = count_threads()
        sizes_hw = list(prefetch(image_size_hw, files, threads=threads, ahead=4 * threads))
        return max(range(len(sizes_hw)), key=lambda k: (sizes_hw[k][0] * sizes_hw[k][1], -k))

    def panels(self, model: Backend, count: int) -> Iterator[tuple[str, np.ndarray]]:
        """Yield name, and image, truth and prediction side by side (uint8 RGB [h, w, 3]), of the same few images."""
        count = min(count, len(self.dataset))
        for k in range(count):
            sample = self.dataset[k * len(self.dataset) // count]
            logits = model(stack_evaluation([sample]).images)[0]
            inner = sample.box.inner
            image = sample.image.transpose(1, 2, 0)[inner]
            masks = [sample.canvas_mask[inner], argmax(logits)[inner]]
            yield sample.name, panel(image, masks, self.dataset.reader.classes)
