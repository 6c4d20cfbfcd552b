"""The one resampling of a sample: its image by area or linear, its mask by nearest, both by the same placement.

Only the part that is seen is resampled. A placement without a matrix takes rectangles to rectangles, which is several
times faster than a general warp. A general warp that shrinks is preceded by a reduction by area, against aliasing.
"""

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np

from segkit.imaging.letterbox import BAR_GREY
from segkit.imaging.resize import resize_image, resize_mask
from segkit.loading.augment.geometric import Placement, Rectangle, Size

Change = Callable[[np.ndarray], np.ndarray]
_MARGIN = 2  # pixels of the source around what is seen, which interpolation may look at


def warp(
    image: np.ndarray,
    mask: np.ndarray,
    placement: Placement,
    *,
    out: tuple[np.ndarray, np.ndarray],
    ignore_index: int,
    before_growing: Change | None = None,
    change: Change | None = None,
) -> None:
    """Fill the canvases `out`, uint8 [H, W, 3] and [H, W], from an image [h, w, 3] and its ids [h, w].

    Around the image lie BAR_GREY and `ignore_index`. `before_growing` is a pointwise change of pixels, applied before
    an image is enlarged and else after it was resampled; `change` is applied at last. Neither changes the bars.
    """
    if placement.matrix is not None:
        _warp_by_matrix(image, mask, placement, out, ignore_index, _chain(before_growing, change))
        return
    source, target = placement.rectangles()
    canvas, ids = out
    _put(mask[source], target, ids, flip=placement.flip, bars=ignore_index, resize=resize_mask)
    visible = image[source]
    late = change
    if before_growing is not None:
        if np.prod(_lengths(target)) > np.prod(_lengths(source)):
            visible = before_growing(visible)
        else:
            late = _chain(before_growing, change)
    _put(visible, target, canvas, flip=placement.flip, bars=BAR_GREY, resize=resize_image)
    if late is not None:
        canvas[target] = late(canvas[target])


def _put(
    visible: np.ndarray,
    target: Rectangle,
    canvas: np.ndarray,
    *,
    flip: bool,
    bars: int,
    resize: Callable[..., Any],
) -> None:
    """Fill a canvas: what is visible of an image or a mask at its target, and `bars` around it."""
    rows, columns = target
    canvas[: rows.start], canvas[rows.stop :] = bars, bars
    canvas[rows, : columns.start], canvas[rows, columns.stop :] = bars, bars
    resize(cv2.flip(visible, 1) if flip else visible, _lengths(target), out=canvas[rows, columns])


def _warp_by_matrix(
    image: np.ndarray,
    mask: np.ndarray,
    placement: Placement,
    out: tuple[np.ndarray, np.ndarray],
    ignore_index: int,
    change: Change | None,
) -> None:
    canvas, ids = out
    height, width = canvas.shape[:2]
    forward = source_to_canvas(placement)
    rows, columns = _seen(forward, placement)
    if rows.start >= rows.stop or columns.start >= columns.stop:  # it was moved off the canvas
        canvas[:], ids[:] = BAR_GREY, ignore_index
        return
    forward = forward @ _shift(columns.start, rows.start)
    part = mask[rows, columns]
    # The mask may hold ignore_index, so what lies outside is known from a map of its own.
    inside = cv2.warpPerspective(np.ones_like(part), forward, (width, height), flags=cv2.INTER_NEAREST)
    ids[:] = cv2.warpPerspective(
        part, forward, (width, height), flags=cv2.INTER_NEAREST,
        borderMode=cv2.BORDER_CONSTANT, borderValue=ignore_index,
    )  # fmt: skip
    pixels = image[rows, columns]
    small_hw = _reduced_hw(pixels.shape[:2], placement.scale_hw)
    small = resize_image(pixels, small_hw)
    back = _resizing((pixels.shape[0] / small_hw[0], pixels.shape[1] / small_hw[1]))
    canvas[:] = cv2.warpPerspective(
        small, forward @ back, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    if change is not None:
        canvas[:] = change(canvas)
    canvas[inside == 0] = BAR_GREY


def source_to_canvas(placement: Placement) -> np.ndarray:
    """Return the matrix from pixels (x, y, 1) of the source to those of the canvas: float64 [3, 3]."""
    height, width = placement.scaled_hw
    top, left = (
        round(position * (canvas - scaled))
        for position, canvas, scaled in zip(placement.position, placement.canvas_hw, placement.scaled_hw, strict=True)
    )
    matrix = _resizing((height / placement.source_hw[0], width / placement.source_hw[1]))
    matrix = _shift(left, top) @ matrix
    if placement.flip:  # about the middle of what is seen
        columns = placement.rectangles()[1][1]
        matrix = np.array([[-1.0, 0, columns.start + columns.stop - 1], [0, 1, 0], [0, 0, 1]]) @ matrix
    return matrix if placement.matrix is None else placement.matrix @ matrix


def _seen(forward: np.ndarray, placement: Placement) -> Rectangle:
    """Return the part of the source that the canvas shows, and a margin: the bounds of the canvas's corners in it."""
    height, width = placement.canvas_hw
    corners = np.array([[-1, -1, 1], [width, -1, 1], [-1, height, 1], [width, height, 1]], float).T
    x, y, w = np.linalg.inv(forward) @ corners
    if (w <= 0).any():  # a horizon crosses the canvas: no bounds
        return slice(0, placement.source_hw[0]), slice(0, placement.source_hw[1])
    bounds = [_bounds(values / w, length) for values, length in zip((y, x), placement.source_hw, strict=True)]
    return bounds[0], bounds[1]


def _bounds(values: np.ndarray, length: int) -> slice:
    first, last = np.floor(values.min()) - _MARGIN, np.ceil(values.max()) + _MARGIN + 1
    return slice(int(np.clip(first, 0, length)), int(np.clip(last, 0, length)))


def _reduced_hw(size_hw: Size, scale_hw: tuple[float, float]) -> Size:
    height, width = (max(1, round(length * min(1.0, scale))) for length, scale in zip(size_hw, scale_hw, strict=True))
    return height, width


def _resizing(factors_hw: tuple[float, float]) -> np.ndarray:
    """Return the matrix that scales pixels' areas, so that x becomes (x + 0.5) * factor - 0.5."""
    down, across = factors_hw
    return np.array([[across, 0, across / 2 - 0.5], [0, down, down / 2 - 0.5], [0, 0, 1]])


def _shift(x: float, y: float) -> np.ndarray:
    return np.array([[1.0, 0, x], [0, 1, y], [0, 0, 1]])


def _chain(first: Change | None, second: Change | None) -> Change | None:
    if first is None or second is None:
        return first or second
    return lambda pixels: second(first(pixels))


def _lengths(rectangle: Rectangle) -> Size:
    return rectangle[0].stop - rectangle[0].start, rectangle[1].stop - rectangle[1].start
