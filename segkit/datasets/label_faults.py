"""What labels hold that was read wrongly: masks of 0 and 255, ids counted from 1, soft edges. Each rule once.

Here are the rules and the settings that help; whoever reads labels decides when to ask, and of one file or of all.
"""

from collections.abc import Collection, Mapping
from typing import NamedTuple

import cv2
import numpy as np

MOST_VALUES = 256  # that labels of classes can hold; more are instances, or a label that was compressed
MOST_TARGETS = 64  # values that soft edges may lie between
SOFT = 0.9  # share of the small values' pixels that must lie between others, for a label to count as soft
SMALL_SHARE = 0.002  # of a label's pixels: less of a value that is no class may be the soft edge of others
RARE = 1e-4  # of the pixels of all labels: less of a colour is taken for a soft edge
DARK, BRIGHT = 16, 239  # nearly 0, nearly 255


class Values(NamedTuple):
    """What a label stores: ids, or colours as R * 65536 + G * 256 + B, and how many pixels have each, int64 [n]."""

    values: np.ndarray
    pixels: np.ndarray


# ---- masks of 0 and 255


def object_value(values: Collection[int]) -> int | None:
    """Return the object's value, 255 or any other, where labels hold 0 and one value or that value alone; else None."""
    others = set(values) - {0}
    return others.pop() if len(others) == 1 else None


def map_object(value: int) -> str:
    """Return the setting that reads masks of 0 and one other value."""
    return f"data.mask_values: [0, {value}]"


# ---- ids from 1


def start_at_one(values: Collection[int], num_classes: int, *, ignored: int) -> bool:
    """True if ids start at 1: there is no 0, but a 1, and the number of classes is the largest, one too many."""
    held = set(values) - {ignored}
    return 0 not in held and 1 in held and max(held) == num_classes


def map_from_one(num_classes: int) -> str:
    """Return the setting that reads ids from 1 on."""
    return f"data.mask_values: {list(range(1, num_classes + 1))}"


# ---- soft edges


def looks_soft(values: Collection[int]) -> bool:
    """True for the values of a black-and-white mask that was smoothed: nearly 0, nearly 255, and more."""
    return len(values) > 2 and min(values) < DARK and max(values) > BRIGHT


def without_rare(pixels: Mapping[int, int]) -> dict[int, int]:
    """Return the values of all labels, given with their pixels, without those that soft edges may have."""
    total = sum(pixels.values())
    return {value: number for value, number in pixels.items() if number >= RARE * total}


def softness(codes: np.ndarray, found: Values, known: np.ndarray) -> float:
    """Return which share of the pixels of small unknown values lies within 2 pixels of where two other values meet.

    Near 1 where labels were smoothed, resized with interpolation or compressed; 0 where there are fewer than four such
    values, or nothing for them to lie between. `codes` are integers [h, w], `known` bool by value.
    """
    large = known | (found.pixels >= SMALL_SHARE * codes.size)
    if known.sum() < 2:  # of 0 and 255 with soft edges, 255 may be rare too
        large[[0, -1]] = True
    if (~large).sum() < 4 or not 2 <= large.sum() <= MOST_TARGETS:
        return 0.0
    nearest, is_small = snap(found.values, found.values[large]), ~large
    if codes.dtype == np.uint8:
        table, flags = np.zeros(256, np.uint8), np.zeros(256, np.uint8)
        table[found.values], flags[found.values] = nearest, is_small
        snapped, small = cv2.LUT(codes, table), cv2.LUT(codes, flags).astype(bool)
    else:
        index = np.searchsorted(found.values, codes)
        snapped, small = nearest.astype(np.int32)[index], is_small[index]
    edges = np.zeros(codes.shape, np.uint8)
    edges[:, 1:] |= snapped[:, 1:] != snapped[:, :-1]
    edges[1:] |= snapped[1:] != snapped[:-1]
    near = cv2.dilate(edges, np.ones((5, 5), np.uint8)) > 0
    return float((small & near).sum() / small.sum())


def snap(values: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return for each value the nearest of `targets`; colours (beyond 255) by the sum of their channels' distances."""
    in_color = max(values.max(), targets.max()) > 255
    best, nearest = np.full(len(values), np.inf), np.zeros_like(values)
    for target in targets:
        distance = np.abs(values - target)
        if in_color:
            distance = sum(np.abs((values >> bits & 255) - (target >> bits & 255)) for bits in (16, 8, 0))
        closer = distance < best
        best[closer], nearest[closer] = distance[closer], target
    return nearest
