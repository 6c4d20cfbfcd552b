"""Shapes of labelling tools become pixels: what `polygons` doesn't draw, and all shapes of an image, one by one.

A pixel belongs to a shape if its centre does; later shapes cover earlier ones; what lies outside the image is cut off.
Coordinates as in `polygons`: (x, y) in pixels, (0, 0) is the corner of the first one.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

import numpy as np

from segkit.datasets.files import File
from segkit.datasets.images import image_size_hw
from segkit.errors import DataError
from segkit.formats.raster.polygons import fill_polygon

Draw = Callable[[np.ndarray, int], None]  # sets the pixels of a mask [h, w] to a class id


def draw_shapes(
    image: File, declared_hw: tuple[float, float] | None, where: str, shapes: Iterable[tuple[int, Draw]], rest: int
) -> np.ndarray:
    """Return class ids uint8 [h, w] of the upright image's size: `rest`, and on it the shapes in their order.

    Raises:
        DataError: the image can't be read, or has another size than the one its labels were made for.
    """
    return paint_shapes(check_size(image, declared_hw, where=where), shapes, rest)


def paint_shapes(size_hw: tuple[int, int], shapes: Iterable[tuple[int, Draw]], rest: int) -> np.ndarray:
    """Return class ids uint8 [h, w]: `rest`, and on it the shapes in their order, each a class id and what draws it."""
    mask = np.full(size_hw, rest, np.uint8)
    for class_id, draw in shapes:
        draw(mask, class_id)
    return mask


def check_size(image: File, declared_hw: tuple[float, float] | None, *, where: str) -> tuple[int, int]:
    """Return the upright image's (height, width), which must be the one that its labels declare, if they do.

    Raises:
        DataError: the image can't be read, or they differ.
    """
    size_hw = image_size_hw(image)
    if declared_hw is not None and declared_hw != size_hw:
        raise DataError(
            f"{where}: its labels were made for {declared_hw[1]:g}x{declared_hw[0]:g} pixels, but {image} has "
            f"{size_hw[1]}x{size_hw[0]} upright; put the image that was labelled there, in its original size (an "
            "image that EXIF rotates has to be rotated for good, and its labels with it)"
        )
    return size_hw


def polygon(rings: Sequence[np.ndarray]) -> Draw:
    """Rings float [n, 2] of (x, y), even-odd: those inside others are holes."""
    return lambda mask, class_id: fill_polygon(mask, rings, class_id)


def box(
    left: float, top: float, right: float, bottom: float, *, degrees: float = 0, about: tuple[float, float] = (0, 0)
) -> Draw:
    """A box, rotated clockwise about a point (x, y)."""
    corners = np.array([(left, top), (right, top), (right, bottom), (left, bottom)])
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    turned = (corners - about) @ np.array([(cos, sin), (-sin, cos)]) + about if degrees else corners
    return polygon([turned])


def ellipse(center: Sequence[float], radii: tuple[float, float], *, degrees: float = 0) -> Draw:
    """An ellipse of radii (x, y), rotated clockwise about its centre (x, y)."""

    def draw(mask: np.ndarray, class_id: int) -> None:
        if min(radii) <= 0:
            return
        height, width = mask.shape
        reach = max(radii)
        left, right = (_cut(center[0] + side * (reach + 1), width) for side in (-1, 1))
        top, bottom = (_cut(center[1] + side * (reach + 1), height) for side in (-1, 1))
        x = np.arange(left, right) + 0.5 - center[0]
        y = (np.arange(top, bottom) + 0.5 - center[1])[:, None]
        cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        across, down = (x * cos + y * sin) * radii[1], (y * cos - x * sin) * radii[0]
        inside = across**2 + down**2 <= (radii[0] * radii[1]) ** 2  # not divided: points on the rim stay on it
        mask[top:bottom, left:right][inside] = class_id

    return draw


def disc(center: Sequence[float], radius: float) -> Draw:
    """The pixels within `radius` of `center`, (x, y)."""
    return ellipse(center, (radius, radius))


def line(points: np.ndarray, width: float) -> Draw:
    """A line through `points`, float [n, 2], with flat ends and round joints."""

    def draw(mask: np.ndarray, class_id: int) -> None:
        for start, end in pairwise(points):
            if length := float(np.hypot(*(end - start))):
                aside = (end - start)[::-1] * (1, -1) * (width / 2 / length)
                fill_polygon(mask, [np.array([start + aside, end + aside, end - aside, start - aside])], class_id)
        for joint in points[1:-1]:
            disc(joint.tolist(), width / 2)(mask, class_id)

    return draw


def bitmap(bits: np.ndarray, left: int, top: int) -> Draw:
    """The true pixels of bool [h, w], whose first pixel lies at (left, top); what lies outside the mask is cut off."""

    def draw(mask: np.ndarray, class_id: int) -> None:
        inner = bits[max(-top, 0) : max(mask.shape[0] - top, 0), max(-left, 0) : max(mask.shape[1] - left, 0)]
        window = mask[max(top, 0) :, max(left, 0) :][: inner.shape[0], : inner.shape[1]]
        window[inner] = class_id

    return draw


def _cut(position: float, length: int) -> int:
    return int(min(max(math.floor(position), 0), length))
