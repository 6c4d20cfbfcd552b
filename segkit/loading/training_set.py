"""Items, read and augmented. Everything random is a function of (seed, epoch, index, occurrence).

So augmentation doesn't depend on the number of workers, of ranks, or on where a run was resumed. Batches are uint8;
the model normalises on its own device.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset

from segkit.datasets.layouts import Item
from segkit.datasets.masks import MaskReader
from segkit.datasets.reading import read_pair
from segkit.loading.augment.pipeline import Recipe, augment
from segkit.loading.cache import PixelCache
from segkit.loading.collate import to_tensor


class Sample(NamedTuple):
    """One augmented picture on the canvas."""

    image: torch.Tensor  # uint8 RGB [3, H, W]
    mask: torch.Tensor  # uint8 [H, W]
    name: str


class TrainingSet(Dataset[Sample]):
    """Items, read and augmented. A key is (epoch, view), so that an epoch needs no hidden state in the workers.

    View number index + occurrence * len(items) is a picture's view of that occurrence: a picture that is seen several
    times in an epoch is augmented differently each time, and its first view has the number of the picture.

    With a `cache`, a picture is decoded once and then kept.
    """

    def __init__(
        self,
        items: Sequence[Item],
        reader: MaskReader,
        recipe: Recipe,
        *,
        seed: int,
        cache: PixelCache | None = None,
    ) -> None:
        self.items, self.reader, self.recipe, self.seed, self.cache = items, reader, recipe, seed, cache

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        image, mask = self.draw(key)
        return Sample(to_tensor(image), torch.from_numpy(mask), self.item(key).name)

    def item(self, key: tuple[int, int]) -> Item:
        """Return the item that a key is a view of."""
        return self.items[key[1] % len(self.items)]

    def draw(
        self, key: tuple[int, int], *, out: tuple[np.ndarray, np.ndarray] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the augmented picture of a key, uint8 RGB [H, W, 3], and its class ids, uint8 [H, W], or fill `out`.

        Raises:
            DataError: as `read_pair`.
        """
        epoch, view = key
        occurrence, index = divmod(view, len(self.items))
        return augment(self.recipe, sample_rng(self.seed, epoch, index, occurrence), *self._decoded(index), out=out)

    def _decoded(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        kept = self.cache.get(index) if self.cache else None
        if kept is not None:
            return kept
        pair = read_pair(self.items[index], self.reader, reduction=self.recipe.placement.reduction)
        if self.cache:
            self.cache.put(index, *pair)
        return pair


def sample_rng(seed: int, epoch: int, index: int, occurrence: int = 0) -> np.random.Generator:
    """Return the generator of one sample: Philox, counter-based (Salmon et al. 2011), keyed by the seed.

    Its first word counts 2^64 blocks before the second, the occurrence, would change.
    """
    return np.random.Generator(np.random.Philox(key=[seed, 0], counter=[0, occurrence, epoch, index]))
