"""Items, read and augmented. Everything random is a function of (seed, epoch, index, occurrence).

So augmentation doesn't depend on the number of workers, of ranks, or on where a run was resumed. Batches are uint8;
the model normalises on its own device.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch.utils.data import Dataset

from segkit.datasets.layouts import Item
from segkit.datasets.masks import MaskReader
from segkit.datasets.reading import read_pair
from segkit.loading.augment.mixing import mix
from segkit.loading.augment.pipeline import Recipe, augment
from segkit.loading.batch_plan import Key
from segkit.loading.cache import PixelCache
from segkit.loading.collate import Sample, to_tensor


class TrainingSet(Dataset[Sample]):
    """Items, read and augmented: a map-style data set for segkit's own loader and for any DataLoader.

    A key is (epoch, view). It holds all that is random, so there is nothing to seed in workers and no epoch to set:
    `BatchPlan.epoch` gives batches of keys. A plain integer is that image's first view in epoch 0; a DataLoader that
    draws integers therefore shows an image the same way in every epoch.

    View number index + occurrence * len(items) is an image's view of that occurrence: an image that is seen several
    times in an epoch is augmented differently each time, and its first view has the number of the image.

    With a `cache`, an image is decoded once and then kept.
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

    def __getitem__(self, key: Key | int) -> Sample:
        """Return a sample in memory of its own.

        Raises:
            DataError: as `read_pair`.
        """
        if not isinstance(key, tuple):
            key = (0, range(len(self))[key])  # raises IndexError, which ends a plain `for sample in dataset`
        image, mask = self.draw(key)
        return Sample(to_tensor(image), torch.from_numpy(mask), self.item(key).name)

    def item(self, key: Key) -> Item:
        """Return the item that a key is a view of."""
        return self.items[key[1] % len(self.items)]

    def draw(self, key: Key, *, out: tuple[np.ndarray, np.ndarray] | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Return the augmented image of a key, uint8 RGB [H, W, 3], and its class ids, uint8 [H, W], or fill `out`.

        Raises:
            DataError: as `read_pair`.
        """
        epoch, view = key
        occurrence, index = divmod(view, len(self.items))
        rng = sample_rng(self.seed, epoch, index, occurrence)
        sample = augment(self.recipe, rng, *self._decoded(index), out=out)
        if self.recipe.mixes:

            def partner() -> tuple[np.ndarray, np.ndarray]:
                return augment(self.recipe, rng, *self._decoded(int(rng.integers(len(self.items)))))

            mix(self.recipe.mixes, rng, sample, partner, ignore_index=self.recipe.ignore_index)
        return sample

    def _decoded(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        cached = self.cache.get(index) if self.cache else None
        if cached is not None:
            return cached
        pair = read_pair(self.items[index], self.reader, reduction=self.recipe.reduction)
        if self.cache:
            self.cache.put(index, *pair)
        return pair


def sample_rng(seed: int, epoch: int, index: int, occurrence: int = 0) -> np.random.Generator:
    """Return the generator of one sample: Philox, counter-based (Salmon et al. 2011), keyed by the seed.

    Its first word counts 2^64 blocks before the second, the occurrence, would change.
    """
    return np.random.Generator(np.random.Philox(key=[seed, 0], counter=[0, occurrence, epoch, index]))
