"""labelme's shapes: what they may hold, and the pixels that each kind covers; see `labelme` for the rules."""

import base64
import binascii
import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from PIL import Image
from pydantic import BaseModel, Field

from segkit.errors import DataError, first_line
from segkit.formats.documents import Coordinate, check
from segkit.formats.raster.drawing import Draw, bitmap, box, disc, line, polygon

LINE_WIDTH, POINT_RADIUS = 10.0, 5.0  # pixels


class Shape(BaseModel, strict=True):
    """An entry of `shapes`, as far as it matters for its pixels."""

    label: str
    shape_type: str | None = None
    points: list[Annotated[list[Coordinate], Field(min_length=2, max_length=2)]]
    mask: str | None = None  # base64 of an image file

    @property
    def kind(self) -> str:
        return self.shape_type or "polygon"  # version 3 says nothing

    @property
    def is_degenerate(self) -> bool:
        """True if it has fewer points than its kind needs."""
        return len(self.points) < _KINDS[self.kind].fewest

    def drawing(self, *, where: str) -> Draw:
        """Return what draws it; `where` names it in messages."""
        return _KINDS[self.kind].draw(self, where)


def parse_shape(entry: object, *, where: str) -> Shape:
    """Return an entry of `shapes`, checked.

    Raises:
        DataError: it is no shape, has no label, is of an unknown kind, or has more points than its kind takes.
    """
    shape = check(entry, Shape, where=where, expected="a shape of labelme with label, shape_type and [[x, y], ...]")
    shape.label = shape.label.strip()
    if not shape.label:
        raise DataError(f"{where}: an empty label, expected a class; name it in labelme")
    where = f"{where} ({shape.label})"
    if shape.kind not in _KINDS:
        raise DataError(f"{where}: found shape_type {shape.kind!r}, expected one of: {', '.join(_KINDS)}; redraw it")
    kind, num_points = _KINDS[shape.kind], len(shape.points)
    if num_points > kind.most or (shape.kind == "rectangle" and num_points == 3):
        raise DataError(f"{where}: found a {shape.kind} of {num_points} points, expected {kind.expected}; redraw it")
    if shape.kind == "mask" and shape.mask is None:
        raise DataError(f"{where}: found no mask, expected an image file in base64; redraw it")
    return shape


# ---- kinds of shapes


def _polygon(shape: Shape, where: str) -> Draw:
    return polygon([np.array(shape.points)])


def _rectangle(shape: Shape, where: str) -> Draw:
    return box(*shape.points[0], *shape.points[1]) if len(shape.points) == 2 else _polygon(shape, where)


def _circle(shape: Shape, where: str) -> Draw:
    center, rim = shape.points
    return disc(center, math.dist(center, rim))


def _points(shape: Shape, where: str) -> Draw:
    discs = [disc(point, POINT_RADIUS) for point in shape.points]

    def draw(mask: np.ndarray, class_id: int) -> None:
        for each in discs:
            each(mask, class_id)

    return draw


def _line(shape: Shape, where: str) -> Draw:
    return line(np.array(shape.points), LINE_WIDTH)


def _bitmap(shape: Shape, where: str) -> Draw:
    """An image file of 0 and 1, its corner at the shape's first point."""
    left, top = np.array(shape.points).min(axis=0).round().astype(int).tolist()
    encoded = shape.mask or ""

    def draw(mask: np.ndarray, class_id: int) -> None:  # decoded only now: all bitmaps of a data set would be too much
        bitmap(_decode_bitmap(encoded, (mask.shape[0], mask.shape[1]), where=where), left, top)(mask, class_id)

    return draw


def _decode_bitmap(text: str, size_hw: tuple[int, int], *, where: str) -> np.ndarray:
    """Return an image file's pixels that aren't 0, bool [h, w]."""
    try:
        with Image.open(io.BytesIO(base64.b64decode(text, validate=True)), formats=["PNG"]) as opened:
            width, height = opened.size
            if height > 2 * size_hw[0] or width > 2 * size_hw[1]:  # before it is decompressed
                raise DataError(
                    f"{where}: a bitmap of {width}x{height} pixels, expected one within the image of "
                    f"{size_hw[1]}x{size_hw[0]}; draw it again"
                )
            values = np.asarray(opened)
    except (OSError, ValueError, SyntaxError, binascii.Error) as error:
        raise DataError(f"{where}: broken ({first_line(error)}), expected a PNG in base64; draw it again") from error
    if values.ndim != 2:
        raise DataError(f"{where}: found a bitmap of colours, expected one of 0 and 1; draw it again")
    return values.astype(bool)


@dataclass(frozen=True)
class _Kind:
    """How many points a kind has, and its function of (shape, where) that returns what draws it."""

    fewest: int
    most: float
    expected: str
    draw: Callable[[Shape, str], Draw]


_KINDS = {
    "polygon": _Kind(3, math.inf, "3 or more", _polygon),
    "rectangle": _Kind(2, 4, "2 (opposite corners) or 4", _rectangle),
    "oriented_rectangle": _Kind(4, 4, "4", _polygon),
    "rotation": _Kind(4, 4, "4", _polygon),  # the same, as other programs that write these files call it
    "circle": _Kind(2, 2, "2 (centre, and a point on the rim)", _circle),
    "line": _Kind(2, 2, "2", _line),
    "linestrip": _Kind(2, math.inf, "2 or more", _line),
    "point": _Kind(1, 1, "1", _points),
    "points": _Kind(1, math.inf, "1 or more", _points),
    "mask": _Kind(2, 2, "2 (opposite corners)", _bitmap),
}
