"""Run lengths: how many pixels in a row are outside, inside, outside, ..., as COCO (down the columns) and CVAT (along
the rows of a box) write masks. Not here: pairs of start and length (rle_csv), bit streams (labelstudio).

COCO's compressed form is read here and not by pycocotools: its C code follows a text without checking where it ends.
Checked here, a file of unknown origin can't lead beyond the mask.
"""

import numpy as np

from segkit.errors import DataError


def decode_counts(text: bytes) -> np.ndarray:
    """Return the run lengths of COCO's compressed form, int64 [n].

    Each number is written in characters of 5 bits, the lowest first, a sixth bit telling that more follow; from the
    fourth number on, the difference to the last but one is written (pycocotools, maskApi.c).

    Raises:
        ValueError: it is no such text.
    """
    bits = np.frombuffer(text, np.uint8).astype(np.int64) - 48
    if bits.size == 0 or bits.min() < 0 or bits.max() > 63 or bits[-1] & 32:
        raise ValueError("no run lengths in COCO's compressed form")
    last = np.flatnonzero(bits & 32 == 0)
    first = np.concatenate([[0], last[:-1] + 1])
    if (last - first).max() > 8:  # beyond any image, and beyond 64 bits
        raise ValueError("a run length beyond any image")
    position = np.arange(len(bits)) - np.repeat(first, last - first + 1)
    numbers = np.add.reduceat((bits & 31) << (5 * position), first)
    numbers -= np.where(bits[last] & 16, np.int64(1) << (5 * (last - first + 1)), 0)
    for start in (1, 2):
        numbers[start::2] = np.cumsum(numbers[start::2])
    return numbers


def check_runs(runs: np.ndarray, size_hw: tuple[int, int], *, where: str) -> np.ndarray:
    """Return the run lengths if they are those of a mask of this size.

    Raises:
        DataError: one is negative, or they are more or fewer pixels.
    """
    total, expected = int(runs.clip(0, 2**40).sum()), size_hw[0] * size_hw[1]
    if len(runs) > expected + 2 or (runs < 0).any() or total != expected:
        raise DataError(
            f"{where}: found run lengths with the sum {total}, expected the sum {expected} ({size_hw[1]}x{size_hw[0]} "
            "pixels), and none below 0; export the file again"
        )
    return runs


def run_pixels(runs: np.ndarray) -> np.ndarray:
    """Return the indices of the pixels inside, int64 [n], one column (COCO) or row (CVAT) of the mask after another."""
    ends = np.cumsum(runs)[1::2]
    lengths = runs[1::2]
    before = np.cumsum(lengths) - lengths
    indices: np.ndarray = np.arange(int(lengths.sum())) + np.repeat(ends - lengths - before, lengths)
    return indices
