"""Resizing of pixels and of class ids: by area, linear or nearest."""

import cv2
import numpy as np


def resize_image(image: np.ndarray, size_hw: tuple[int, int], *, out: np.ndarray | None = None) -> np.ndarray:
    """Resize uint8 pixels [h, w, 3]: by area when shrinking (no aliasing), bilinear when growing.

    Into `out`, if given.
    """
    shrinks = size_hw[0] * size_hw[1] < image.shape[0] * image.shape[1]
    return _resize(image, size_hw, cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR, out)


def resize_mask(mask: np.ndarray, size_hw: tuple[int, int], *, out: np.ndarray | None = None) -> np.ndarray:
    """Resize class ids [h, w] by nearest pixel centres: averaging class ids is meaningless. Into `out`, if given."""
    return _resize(mask, size_hw, cv2.INTER_NEAREST_EXACT, out)


def _resize(array: np.ndarray, size_hw: tuple[int, int], interpolation: int, out: np.ndarray | None) -> np.ndarray:
    if array.shape[:2] == size_hw:
        if out is None:
            return array
        out[:] = array
        return out
    return cv2.resize(array, size_hw[::-1], dst=out, interpolation=interpolation)
