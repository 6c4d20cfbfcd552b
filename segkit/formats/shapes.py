"""Shapes other than polygons become pixels, by the same rule: a pixel belongs to a shape if its centre does.

Coordinates are (x, y) in pixels from the corner of the first one; what leaves the mask, integers [h, w], is cut off.
"""

from itertools import pairwise

import numpy as np

from segkit.formats.polygons import fill_polygon


def fill_disc(mask: np.ndarray, center: np.ndarray, radius: float, value: int) -> None:
    """Set the pixels within `radius` of `center`, float [2]."""
    (left, top), (right, bottom) = (
        np.clip(np.floor(center + reach), 0, mask.shape[::-1]).astype(int) for reach in (-radius, radius + 1)
    )
    y, x = np.ogrid[top:bottom, left:right]
    inside = (x + 0.5 - center[0]) ** 2 + (y + 0.5 - center[1]) ** 2 <= radius**2
    mask[top:bottom, left:right][inside] = value


def fill_line(mask: np.ndarray, points: np.ndarray, width: float, value: int) -> None:
    """Set the pixels of a line through `points`, float [n, 2], with flat ends and round joints."""
    for start, end in pairwise(points):
        if length := float(np.hypot(*(end - start))):
            aside = (end - start)[::-1] * (1, -1) * (width / 2 / length)
            fill_polygon(mask, [np.array([start + aside, end + aside, end - aside, start - aside])], value)
    for joint in points[1:-1]:
        fill_disc(mask, joint, width / 2, value)


def fill_bitmap(mask: np.ndarray, bitmap: np.ndarray, corner: tuple[int, int], value: int) -> None:
    """Set the pixels where `bitmap`, bool [h, w], is true, its first pixel at `corner`, (row, column)."""
    (top, left), (height, width) = corner, bitmap.shape
    target = mask[max(top, 0) : max(top + height, 0), max(left, 0) : max(left + width, 0)]
    hidden = (max(-top, 0), max(-left, 0))
    part = bitmap[hidden[0] : hidden[0] + target.shape[0], hidden[1] : hidden[1] + target.shape[1]]
    target[part] = value
