"""Decoded images and masks, kept for the next epoch: in memory that all workers of a process share, or in a file.

What is kept is what `read_pair` returned, so a run gives the same numbers with a cache or without. A file is removed
from its folder as soon as it is made: it vanishes with the run, also when that is killed. Not here: sharing between
ranks, each of which keeps its own.
"""

import mmap
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from segkit.config.schema import DataConfig
from segkit.datasets.images import decoded_size_hw
from segkit.datasets.layouts import Item
from segkit.errors import ConfigError, DataError
from segkit.loading.augment.pipeline import Recipe
from segkit.runtime.machine import count_threads, free_disk, free_memory, processes_here, user_cache
from segkit.runtime.threads import prefetch

GIB = 2**30


class PixelCache:
    """Slots for images uint8 [h, w, 3] and masks uint8 [h, w] of known sizes, filled as they are read.

    Made before the workers are forked, which then share it. An image that two workers decode at the same time is
    written twice, with the same bytes.
    """

    def __init__(self, sizes_hw: Sequence[tuple[int, int]], *, folder: Path | None = None) -> None:
        """Reserve room in memory, or on the disk of `folder`.

        Raises:
            DataError: the folder's disk hasn't that much space.
        """
        self.sizes_hw = sizes_hw
        needed = np.array([0, *(4 * height * width for height, width in sizes_hw)], np.int64)
        self.offsets = len(sizes_hw) + needed.cumsum()
        self._bytes = np.frombuffer(_map(int(self.offsets[-1]), folder), np.uint8)
        self._filled = self._bytes[: len(sizes_hw)]

    def get(self, index: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Return the image and mask of an item, to be read only; None where they haven't been put yet."""
        return self._slot(index) if self._filled[index] else None

    def put(self, index: int, image: np.ndarray, mask: np.ndarray) -> None:
        """Keep an item. One of another size than was announced (the file changed) is not kept."""
        if image.shape[:2] == self.sizes_hw[index]:
            slot = self._slot(index)
            slot[0][:], slot[1][:] = image, mask
            self._filled[index] = 1  # last, so that a half-written item is never seen

    def _slot(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        height, width = self.sizes_hw[index]
        pixels = self._bytes[self.offsets[index] : self.offsets[index + 1]]
        split = 3 * height * width
        return pixels[:split].reshape(height, width, 3), pixels[split:].reshape(height, width)


def build_cache(data: DataConfig, items: Sequence[Item], recipe: Recipe) -> PixelCache | None:
    """Return the cache that `data.cache` asks for, or None. `recipe` is what the images are read for.

    Raises:
        ConfigError: the decoded images exceed data.cache_gib, or the memory or disk that is free.
        DataError: an image can't be read.
    """
    kind, budget_gib = data.cache, data.cache_gib
    if kind == "none":
        return None
    sizes_hw = list(
        prefetch(lambda item: decoded_size_hw(item.image, recipe.reduction), items, threads=count_threads(), ahead=64)
    )
    num_ranks = processes_here()  # each has a cache of its own
    needed = num_ranks * sum(4 * height * width + 1 for height, width in sizes_hw)
    folder = user_cache() if kind == "disk" else None
    words = f"data.cache: {kind} needs {needed / GIB:.2f} GiB for {len(sizes_hw)} decoded images"
    if num_ranks > 1:
        words += f" in each of {num_ranks} processes"
    if needed > budget_gib * GIB:
        raise ConfigError(
            f"{words}, expected at most data.cache_gib: {budget_gib:g}; raise that, or set data.cache: none"
        )
    free = free_memory() if folder is None else free_disk(folder)
    wanted = needed if folder is None else needed // num_ranks  # the other ranks' files may be there already
    if free is not None and wanted > free:
        where = "of memory are" if folder is None else f"on the disk of {folder} are"
        other = "data.cache: disk, or none" if kind == "ram" else "data.cache: none"
        raise ConfigError(f"{words}, but {free / GIB:.2f} GiB {where} free; free some, or set {other}")
    return PixelCache(sizes_hw, folder=folder)


def _map(num_bytes: int, folder: Path | None) -> mmap.mmap:
    """Return zeroed memory that forked processes share, of a file without a name where a folder is given."""
    if folder is None:
        return mmap.mmap(-1, num_bytes)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder, prefix="pixels-") as file:
            os.truncate(file.fileno(), num_bytes)
            if hasattr(os, "posix_fallocate"):  # a full disk is an error now, not a crash later
                os.posix_fallocate(file.fileno(), 0, num_bytes)
            return mmap.mmap(file.fileno(), num_bytes)
    except OSError as error:
        raise DataError(f"{folder}: can't hold data.cache: disk ({error.strerror}); set data.cache: none") from error
