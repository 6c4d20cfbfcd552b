"""Shapes of labelling tools become pixels: what `polygons` doesn't draw, and all shapes of a picture, one by one.

A pixel belongs to an ellipse or a turned box if its centre does; later shapes cover earlier ones. Coordinates as in
`polygons`: (0, 0) is the corner of the first pixel.
"""

import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from segkit.data.images import image_size_hw
from segkit.data.shards import File
from segkit.errors import DataError
from segkit.formats.polygons import fill_polygon

Draw = Callable[[np.ndarray, int], None]  # sets the pixels of a mask [h, w] to a class id


def draw_shapes(
    image: File, declared_hw: tuple[int, int] | None, where: str, shapes: Iterable[tuple[int, Draw]], rest: int
) -> np.ndarray:
    """Return class ids uint8 [h, w] of the upright picture's size: `rest`, and on it the shapes in their order.

    Raises:
        DataError: the picture can't be read, or has another size than the one its labels were made for.
    """
    size_hw = image_size_hw(image)
    if declared_hw is not None and declared_hw != size_hw:
        raise DataError(
            f"{where}: its labels were made for {declared_hw[1]}x{declared_hw[0]} pixels, but {image} has "
            f"{size_hw[1]}x{size_hw[0]}; put the picture there that was labelled, in its original size"
        )
    mask = np.full(size_hw, rest, np.uint8)
    for class_id, draw in shapes:
        draw(mask, class_id)
    return mask


def polygon(rings: Sequence[np.ndarray]) -> Draw:
    """Rings float [n, 2] of (x, y), even-odd: those inside others are holes."""
    return lambda mask, class_id: fill_polygon(mask, rings, class_id)


def box(
    left: float, top: float, right: float, bottom: float, *, degrees: float = 0, about: tuple[float, float]
) -> Draw:
    """A box, turned clockwise about a point (x, y)."""
    corners = np.array([(left, top), (right, top), (right, bottom), (left, bottom)])
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    turned = (corners - about) @ np.array([(cos, sin), (-sin, cos)]) + about if degrees else corners
    return polygon([turned])


def ellipse(center: tuple[float, float], radii: tuple[float, float], *, degrees: float = 0) -> Draw:
    """An ellipse of radii (x, y), turned clockwise about its centre (x, y)."""

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
        inside = ((x * cos + y * sin) / radii[0]) ** 2 + ((y * cos - x * sin) / radii[1]) ** 2 <= 1
        mask[top:bottom, left:right][inside] = class_id

    return draw


def bitmap(bits: np.ndarray, left: int, top: int) -> Draw:
    """The true pixels of bool [h, w], whose first pixel lies at (left, top); what lies outside the mask is cut off."""

    def draw(mask: np.ndarray, class_id: int) -> None:
        inner = bits[max(-top, 0) : max(mask.shape[0] - top, 0), max(-left, 0) : max(mask.shape[1] - left, 0)]
        place = mask[max(top, 0) :, max(left, 0) :][: inner.shape[0], : inner.shape[1]]
        place[inner] = class_id

    return draw


def _cut(place: float, length: int) -> int:
    return int(min(max(math.floor(place), 0), length))
