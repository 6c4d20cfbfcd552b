"""Items, read and letterboxed, with their untouched masks, as arrays: evaluation starts without torch.

For a DataLoader of torch: `EvaluationSet` with `segkit.loading.collate.collate_evaluation`.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from segkit.datasets.layouts import Item
from segkit.datasets.masks import MaskReader
from segkit.datasets.reading import read_pair
from segkit.imaging.letterbox import LetterBox
from segkit.runtime.threads import prefetch

if TYPE_CHECKING:
    import torch


class EvaluationSample(NamedTuple):
    """One image for evaluation: letterboxed pixels, and the mask both on the canvas and untouched."""

    image: np.ndarray  # uint8 RGB [3, H, W], channels innermost in memory
    canvas_mask: np.ndarray  # uint8 [H, W], for the validation loss
    mask: np.ndarray  # uint8 [h, w], for the metric
    box: LetterBox
    name: str


class EvaluationBatch(NamedTuple):
    """Evaluation samples side by side; their untouched masks keep their own sizes. A DataLoader's are tensors."""

    images: "np.ndarray | torch.Tensor"  # uint8 RGB [B, 3, H, W], channels innermost in memory
    canvas_masks: "np.ndarray | torch.Tensor"  # uint8 [B, H, W]
    masks: list[np.ndarray]  # B times uint8 [h, w]
    boxes: list[LetterBox]
    names: list[str]


class EvaluationSet:
    """Items, read and letterboxed, with their untouched masks: a map-style data set. A key is an index."""

    def __init__(self, items: Sequence[Item], reader: MaskReader, *, canvas_hw: tuple[int, int]) -> None:
        self.items, self.reader, self.canvas_hw = items, reader, canvas_hw

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> EvaluationSample:
        image, mask = read_pair(self.items[index], self.reader)
        box = LetterBox.fit(mask.shape, self.canvas_hw)
        canvas_mask = box.apply_mask(mask, ignore_index=self.reader.classes.ignore_index)
        return EvaluationSample(box.apply(image).transpose(2, 0, 1), canvas_mask, mask, box, self.items[index].name)


def stack_evaluation(samples: Sequence[EvaluationSample]) -> EvaluationBatch:
    """Stack what has the canvas's size, list what has its own."""
    images, canvas_masks, masks, boxes, names = zip(*samples, strict=True)
    by_pixel = np.stack([image.transpose(1, 2, 0) for image in images])
    return EvaluationBatch(
        by_pixel.transpose(0, 3, 1, 2), np.stack(canvas_masks), list(masks), list(boxes), list(names)
    )


def evaluation_batches(
    dataset: EvaluationSet, *, batch_size: int, rank: int = 0, num_ranks: int = 1, workers: int
) -> Iterator[EvaluationBatch]:
    """Yield this rank's batches: every num_ranks-th batch of the set, so each image comes exactly once.

    Batches are the same for any number of ranks, hence so are the sums of their confusion matrices, to the last bit.
    `workers` threads load up to two batches ahead, however large the set is.

    Raises:
        DataError: while iterating, for an image that can't be read.
    """
    batches = [list(range(k, min(k + batch_size, len(dataset)))) for k in range(0, len(dataset), batch_size)]
    mine = batches[rank::num_ranks]
    samples = prefetch(
        dataset.__getitem__, (index for batch in mine for index in batch), threads=workers, ahead=2 * batch_size
    )
    for batch in mine:
        yield stack_evaluation([next(samples) for _ in batch])
