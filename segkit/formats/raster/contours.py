"""Class ids become polygons, along the corners of pixels: `fill_polygon` of them gives back exactly the same pixels.

A region is 4-connected (pixels that share a side), so what surrounds it is 8-connected (corners count as well).
Not here: what a format does with regions.
"""

from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np

# The sides of a pixel in the order in which they are walked, its region on the right: right along the top side, down
# along the right side, left, up. For each: where the next pixel is, (row, column), where the pixel to the left of that
# one is, and where the side ends.
_SIDES = (
    ((0, 1), (-1, 1), (0, 1)),
    ((1, 0), (1, 1), (1, 1)),
    ((0, -1), (1, -1), (1, 0)),
    ((-1, 0), (-1, -1), (0, 0)),
)


@dataclass(frozen=True)
class Region:
    """Connected pixels of one class: rings int [n, 2] of (x, y) corners, the outer one clockwise on the screen.

    `filled` is the number of pixels within the outer ring, holes and all that is in them included; `num_pixels` is
    without them; `first_pixel` is the (row, column) of one of its pixels.
    """

    class_id: int
    outer: np.ndarray
    holes: tuple[np.ndarray, ...]
    filled: int
    num_pixels: int
    first_pixel: tuple[int, int]


def trace_regions(mask: np.ndarray, *, tolerance: float = 0.0) -> list[Region]:
    """Return the regions of `mask`, uint8 [h, w], by their first pixel, row by row.

    With a `tolerance`, corners are left out as long as the line stays within so many pixels (Douglas and Peucker 1973,
    as OpenCV's approxPolyDP does it); neighbours may then overlap or leave gaps. A ring of which nothing would be
    left stays as it is.
    """
    labels = _label(mask)
    rings, doubled_areas, firsts = _trace(mask)
    if not rings:
        return []
    owners = labels.ravel()[firsts]
    num_pixels = np.bincount(labels.ravel())
    outer: dict[int, int] = {}
    holes: dict[int, list[int]] = {}
    for ring, (owner, doubled) in enumerate(zip(owners.tolist(), doubled_areas, strict=True)):
        if doubled > 0:
            outer[owner] = ring
        else:
            holes.setdefault(owner, []).append(ring)
    width = mask.shape[1]
    regions = []
    for owner, ring in sorted(outer.items(), key=lambda found: firsts[found[1]]):
        row, column = divmod(firsts[ring], width)
        inner = tuple(simplify(rings[hole], tolerance) for hole in holes.get(owner, ()))
        regions.append(
            Region(
                class_id=int(mask[row, column]),
                outer=simplify(rings[ring], tolerance),
                holes=inner,
                filled=int(doubled_areas[ring]) // 2,
                num_pixels=int(num_pixels[owner]),
                first_pixel=(row, column),
            )
        )
    return regions


def keyhole(outer: np.ndarray, holes: tuple[np.ndarray, ...]) -> np.ndarray:
    """Return one ring for a region with holes, for formats that have no holes.

    Each hole is joined to the nearest corner of the rings before it by an edge that is walked in both directions, so
    that the edge encloses nothing under the even-odd rule. The work grows with holes times corners.
    """
    if not holes:
        return outer
    order = sorted(holes, key=lambda ring: tuple(ring.min(axis=0)[::-1]))
    points = np.concatenate([outer, *order])
    starts = np.cumsum([0, len(outer), *map(len, order)])
    joined: dict[int, list[tuple[int, int]]] = {}  # by corner: rings, and the corner of each where it is joined
    for number, (start, end) in enumerate(pairwise(starts[1:].tolist()), start=1):
        corner = start + int(points[start:end, 1].argmin())
        distance = np.abs(points[:start] - points[corner]).sum(axis=1)
        joined.setdefault(int(distance.argmin()), []).append((number, corner))
    walk: list[int] = []
    # a walk along a ring, from a corner back to it; rings that are joined to a corner are walked from there
    waiting = [iter([*range(len(outer))])]
    while waiting:
        for corner in waiting[-1]:
            walk.append(corner)
            if rings := joined.pop(corner, None):
                back = [corner]
                for number, hook in rings:
                    begin, end = int(starts[number]), int(starts[number + 1])
                    back += [*range(hook, end), *range(begin, hook), hook, corner]
                waiting.append(iter(back[1:]))
                break
        else:
            waiting.pop()
    return points[walk]


def _label(mask: np.ndarray) -> np.ndarray:
    """Number the regions of all classes at once, int32 [h, w] from 1: pixels on even positions, links between them."""
    height, width = mask.shape
    linked = np.zeros((2 * height - 1, 2 * width - 1), np.uint8)
    linked[::2, ::2] = 1
    linked[::2, 1::2] = mask[:, 1:] == mask[:, :-1]
    linked[1::2, ::2] = mask[1:] == mask[:-1]
    return np.ascontiguousarray(cv2.connectedComponents(linked, connectivity=4, ltype=cv2.CV_32S)[1][::2, ::2])


def _trace(mask: np.ndarray) -> tuple[list[np.ndarray], list[int], list[int]]:
    """Follow the sides of pixels that part two classes.

    Return rings, twice the area of each (negative: a hole), and a pixel that each runs along (of an outer ring: its
    first), as an index into the flat mask.

    Sides of a kind are numbered in the order in which they are walked, so that where the walk goes straight on, the
    next side is the next number; only corners have to be followed one by one.
    """
    height, width = mask.shape
    stride = width + 2
    framed = np.full((height + 2, stride), -1, np.int16)
    framed[1:-1, 1:-1] = mask
    flat = framed.ravel()
    numbers = np.full((4, flat.size), -1, np.int32)
    pixels, total = [], 0
    inside = np.zeros(framed.shape, bool)
    inside[1:-1, 1:-1] = True
    for side, (_, (row, column), _) in enumerate(_SIDES):
        ahead = _SIDES[side][0]
        outward = (row - ahead[0]) * stride + column - ahead[1]
        parts = inside & (framed != np.roll(framed, -outward).reshape(framed.shape))
        found = np.flatnonzero(parts.ravel()) if side % 2 == 0 else _by_columns(parts)
        found = found if side < 2 else found[::-1]
        numbers[side, found] = np.arange(total, total + len(found), dtype=np.int32)
        pixels.append(found)
        total += len(found)
    turns, following, corners = [], [], []
    for side, (ahead, left, end) in enumerate(_SIDES):
        at = pixels[side]
        value = flat[at]
        onward, leftward = at + ahead[0] * stride + ahead[1], at + left[0] * stride + left[1]
        blocked = flat[onward] != value
        bends = ~blocked & (flat[leftward] == value)
        turning = blocked | bends
        following.append(np.where(blocked, numbers[(side + 1) % 4, at], numbers[(side - 1) % 4, leftward])[turning])
        turns.append(numbers[side, at[turning]])
        rows, columns = np.divmod(at[turning], stride)
        corners.append(np.stack([columns - 1 + end[1], rows - 1 + end[0]], axis=1))
    turn, points = np.concatenate(turns), np.concatenate(corners).astype(np.int32)
    # straight on from the side behind each corner, the walk comes to the next corner
    after = np.searchsorted(turn, np.concatenate(following)).tolist()
    order, lengths = _cycles(after)
    rows, columns = np.divmod(np.concatenate(pixels)[turn], stride)
    pixel = (rows - 1) * width + columns - 1
    ends = np.cumsum(lengths)
    ordered, pixels_along = points[order], pixel[order]
    successor = np.roll(ordered, -1, axis=0)
    successor[ends - 1] = ordered[ends - lengths]
    cross = ordered[:, 0].astype(np.int64) * successor[:, 1] - ordered[:, 1].astype(np.int64) * successor[:, 0]
    areas = np.add.reduceat(cross, ends - lengths)
    firsts = np.minimum.reduceat(pixels_along, ends - lengths)
    return np.split(ordered, ends[:-1]), areas.tolist(), firsts.tolist()


def _by_columns(parts: np.ndarray) -> np.ndarray:
    """Return the flat indices of what is true, column by column."""
    columns, rows = np.nonzero(parts.T)
    return rows * parts.shape[1] + columns


def _cycles(after: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return the corners in the order of their walks, and the length of each walk."""
    order: list[int] = []
    lengths: list[int] = []
    seen = bytearray(len(after))
    for start in range(len(after)):
        if seen[start]:
            continue
        began = len(order)
        corner = start
        while not seen[corner]:
            seen[corner] = 1
            order.append(corner)
            corner = after[corner]
        lengths.append(len(order) - began)
    return np.array(order), np.array(lengths)


def simplify(ring: np.ndarray, tolerance: float) -> np.ndarray:
    """Leave out corners of a ring, int [n, 2], as long as the line stays within `tolerance` pixels; see
    `trace_regions`.
    """
    if tolerance <= 0:
        return ring
    fewer = cv2.approxPolyDP(ring[:, None], tolerance, closed=True)[:, 0]
    return fewer if len(fewer) > 2 else ring
