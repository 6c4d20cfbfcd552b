"""Items, read and letterboxed, with their untouched masks."""

from collections.abc import Sequence

import torch
from torch.utils.data import Dataset

from segkit.datasets.layouts import Item
from segkit.datasets.masks import MaskReader
from segkit.datasets.reading import read_pair
from segkit.imaging.letterbox import LetterBox
from segkit.loading.collate import EvaluationSample, to_tensor


class EvaluationSet(Dataset[EvaluationSample]):
    """Items, read and letterboxed, with their untouched masks: a map-style data set. A key is an index."""

    def __init__(self, items: Sequence[Item], reader: MaskReader, *, canvas_hw: tuple[int, int]) -> None:
        self.items, self.reader, self.canvas_hw = items, reader, canvas_hw

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> EvaluationSample:
        image, mask = read_pair(self.items[index], self.reader)
        box = LetterBox.fit(mask.shape, self.canvas_hw)
        canvas_mask = torch.from_numpy(box.apply_mask(mask, ignore_index=self.reader.classes.ignore_index))
        return EvaluationSample(to_tensor(box.apply(image)), canvas_mask, mask, box, self.items[index].name)
