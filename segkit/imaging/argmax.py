"""Class ids of scores: the argmax over classes, at the scores' own size or interpolated to another.

Bilinear interpolation is a convex combination of four neighbours. Where all four have the same largest class, the
interpolated scores have it too; so in an image that is enlarged only the pixels between neighbours that differ are
interpolated, a few percent. The result is that of interpolating everything, up to rounding between tied classes. On a
GPU, where that takes no time, everything is interpolated, in strips of rows that bound its memory.

On a CPU all this is numpy and OpenCV in the caller's thread, so that images can be worked on side by side.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    import torch

PIXELS_AT_A_TIME = 65536
STRIP_BYTES = 256 * 2**20  # of scores at their new size, on a GPU
UNDECIDED = 255


def argmax(scores: "torch.Tensor | np.ndarray") -> np.ndarray:
    """Return the class of the largest score for each pixel, the first of equals: float [C, h, w] -> uint8 [h, w]."""
    return resized_argmax(scores, (scores.shape[1], scores.shape[2]))


def resized_argmax(
    scores: "torch.Tensor | np.ndarray",
    size_hw: tuple[int, int],
    *,
    inner: tuple[slice, slice] = (slice(None), slice(None)),
) -> np.ndarray:
    """Return the class of the largest score at another size: float [C, H, W] -> uint8 [h, w].

    As `argmax(F.interpolate(scores[:, *inner], size_hw, mode="bilinear", align_corners=False))`.
    """
    if isinstance(scores, np.ndarray):
        planes = scores[:, *inner].astype(np.float32, copy=False)
    elif scores.device.type != "cpu":
        return argmax_in_strips(scores[:, *inner], size_hw).cpu().numpy()
    else:
        planes = _planes(scores, inner)
    given_hw = planes.shape[1:]
    if given_hw == size_hw:
        return _argmax(planes)
    if size_hw[0] * size_hw[1] < 2 * given_hw[0] * given_hw[1]:
        return _argmax(cv2.resize(plane, size_hw[::-1], interpolation=cv2.INTER_LINEAR) for plane in planes)
    return _enlarged_argmax(planes, size_hw)


def argmax_in_strips(
    scores: "torch.Tensor", size_hw: tuple[int, int], *, strip_bytes: int = STRIP_BYTES
) -> "torch.Tensor":
    """Return the class of the largest of resized scores: float [C, H, W] -> uint8 [h, w], on the device of the scores.

    A strip of output rows at a time, whose scores and int64 ids take at most `strip_bytes` (but at least one row). Each
    row is a mix of two given ones, as F.interpolate mixes them, so strips of any height give the same result. Without
    gradient. Unproven on GPUs.
    """
    import torch

    height, width = size_hw
    if scores.shape[1:] == size_hw:
        return scores.argmax(dim=0).to(torch.uint8)
    device = scores.device
    first, second, share = (torch.from_numpy(axis).to(device) for axis in _neighbours(height, scores.shape[1]))
    ids = torch.empty(size_hw, dtype=torch.uint8, device=device)
    rows = max(1, strip_bytes // (width * (4 * scores.shape[0] + 8)))
    for top in range(0, height, rows):
        strip = slice(top, top + rows)
        above, below = (scores.index_select(1, index[strip]).float() for index in (first, second))
        tall = torch.lerp(above, below, share[strip, None])  # [C, rows, W]
        # Not F.interpolate: with deterministic algorithms on, it composes even this of slow indexing on a GPU.
        wide = torch.ops.aten.upsample_bilinear2d(tall[None], [tall.shape[1], width], False)[0]
        ids[strip] = wide.argmax(dim=0)
    return ids


def _planes(scores: "torch.Tensor", inner: tuple[slice, slice]) -> np.ndarray:
    """Return float32 [C, H, W], each plane's rows contiguous."""
    rows, columns = inner
    if scores.stride(0) != 1:
        return scores[:, rows, columns].float().numpy()
    by_pixel = scores.permute(1, 2, 0)[rows].float().numpy()  # channels_last: [H, W, C]
    height, width, num_classes = by_pixel.shape
    turned = cv2.transpose(by_pixel.reshape(height * width, num_classes))
    return turned.reshape(num_classes, height, width)[:, :, columns]


def _argmax(planes: Iterable[np.ndarray]) -> np.ndarray:
    """float32 [C, h, w] -> uint8 [h, w]: a running maximum, class by class, which reads each plane once."""
    remaining = iter(planes)
    largest = next(remaining).copy()
    ids = np.zeros(largest.shape, np.uint8)
    if ids.size == 1:  # OpenCV would take such an array for a scalar
        ids[...] = np.argmax([largest.item(), *(plane.item() for plane in remaining)])
        return ids
    for k, plane in enumerate(remaining, start=1):
        better = cv2.compare(plane, largest, cv2.CMP_GT)  # 255 or 0
        cv2.max(plane, largest, dst=largest)
        cv2.max(ids, cv2.min(better, k), dst=ids)  # type: ignore[call-overload]
    return ids


def _enlarged_argmax(planes: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    planes = np.ascontiguousarray(planes)  # as they are, but where columns were cut off
    cells = _unanimous_cells(_argmax(planes))
    rows, columns = (_neighbours(length, given) for length, given in zip(size_hw, planes.shape[1:], strict=True))
    ids: np.ndarray = cells.take(rows[0], axis=0).take(columns[0], axis=1)
    flat = ids.reshape(-1)
    undecided = np.flatnonzero(flat == UNDECIDED)
    for start in range(0, len(undecided), PIXELS_AT_A_TIME):
        offsets = undecided[start : start + PIXELS_AT_A_TIME]
        y, x = np.divmod(offsets, size_hw[1])
        flat[offsets] = _interpolated_argmax(planes, [axis[y] for axis in rows], [axis[x] for axis in columns])
    return ids


def _unanimous_cells(ids: np.ndarray) -> np.ndarray:
    """Return for each pixel the class id that it shares with its neighbours to the right, below and diagonal."""
    differs = np.zeros(ids.shape, bool)
    beside, below = ids[:, 1:] != ids[:, :-1], ids[1:] != ids[:-1]
    differs[:, :-1] |= beside
    differs[:-1, :-1] |= beside[1:]
    differs[:-1] |= below
    differs[:-1, :-1] |= below[:, 1:]
    return np.where(differs, np.uint8(UNDECIDED), ids)


def _neighbours(length: int, given: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return for each of `length` pixels its two neighbours among `given` ones, and the second one's weight.

    The arithmetic is that of F.interpolate with align_corners=False, in float32.
    """
    position = (np.arange(length, dtype=np.float32) + np.float32(0.5)) * np.float32(given / length) - np.float32(0.5)
    position = position.clip(min=0)
    first = np.minimum(position.astype(np.int64), given - 1)
    return first, np.minimum(first + 1, given - 1), position - first.astype(np.float32)


def _interpolated_argmax(planes: np.ndarray, rows: list[np.ndarray], columns: list[np.ndarray]) -> np.ndarray:
    """Return uint8 [n] for scores float32 [C, H, W] at n positions; `rows` and `columns` are their `_neighbours`."""
    width = planes.shape[2]
    corners = [y * width + x for y in rows[:2] for x in columns[:2]]
    a, b, c, d = (np.empty(len(rows[0]), np.float32) for _ in corners)

    def interpolate(plane: np.ndarray) -> np.ndarray:
        for values, corner in zip((a, b, c, d), corners, strict=True):
            plane.take(corner, out=values, mode="clip")  # every index is inside; "raise" would go through a buffer
        top, bottom = _mix(a, b, columns[2]), _mix(c, d, columns[2])
        return _mix(top, bottom, rows[2]).reshape(1, -1)

    return _argmax(interpolate(plane.reshape(-1)) for plane in planes)[0]


def _mix(first: np.ndarray, second: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Return first + (second - first) * share, in the memory of `second`."""
    second -= first
    second *= share
    second += first
    return second
