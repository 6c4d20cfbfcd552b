"""Polygons become pixels: a pixel belongs to a polygon if its centre does.

So two polygons that share an edge share no pixel and leave no gap, which drawing libraries, whose outlines are one
pixel wide, don't give. Coordinates are (x, y) in pixels; (0, 0) is the corner of the first pixel, (0.5, 0.5) its
centre.
"""

from collections.abc import Sequence

import numpy as np


def fill_polygon(mask: np.ndarray, rings: Sequence[np.ndarray], value: int) -> None:
    """Set the pixels of `mask`, integers [h, w], to `value` whose centres lie in rings, each float [n, 2] of (x, y).

    Even-odd rule over all rings together: a ring inside another is a hole. What lies outside the mask is cut off. A
    centre that lies exactly on an edge belongs to what is on its right, or below.
    """
    edges = [(ring, np.roll(ring, -1, axis=0)) for ring in map(_as_ring, rings) if len(ring) > 2]
    if not edges:
        return
    start, end = (np.concatenate(points) for points in zip(*edges, strict=True))
    upper, lower = np.where((start[:, 1] <= end[:, 1])[:, None], (start, end), (end, start))
    height, width = mask.shape
    # row r is crossed by an edge if upper.y <= r + 0.5 < lower.y
    first, last = (np.ceil(points[:, 1] - 0.5).clip(0, height).astype(np.int64) for points in (upper, lower))
    counts = last - first
    if not counts.any():
        return
    top, bottom = first[counts > 0].min(), last.max()
    edge = np.repeat(np.arange(len(counts)), counts)
    row = np.arange(len(edge)) - np.repeat(np.cumsum(counts) - counts, counts) + first[edge]
    rise = lower[edge, 1] - upper[edge, 1]
    x = upper[edge, 0] + (row + 0.5 - upper[edge, 1]) * ((lower[edge, 0] - upper[edge, 0]) / rise)
    column = np.ceil(x - 0.5).clip(0, width).astype(np.int64)  # from here on to the right, inside and outside swap
    left, right = column.min(), column.max()
    cells = np.bincount(
        (row - top) * (right - left + 1) + column - left, minlength=(bottom - top) * (right - left + 1)
    ).astype(np.uint8)
    crossings = cells.reshape(bottom - top, right - left + 1)[:, :-1] & 1
    inside = np.bitwise_xor.accumulate(crossings, axis=1).astype(bool)
    mask[top:bottom, left:right][inside] = value


def _as_ring(points: np.ndarray) -> np.ndarray:
    return np.asarray(points, np.float64).reshape(-1, 2)
