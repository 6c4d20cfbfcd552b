"""Where an image comes to lie on the canvas: aspect, scale, flip, position."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from segkit.imaging.letterbox import BAR_GREY
from segkit.imaging.resize import resize_image, resize_mask

Size = tuple[int, int]


@dataclass(frozen=True)
class Placement:
    """A rectangle of the source that is scaled into a rectangle of the canvas; flip mirrors it left to right."""

    source: tuple[slice, slice]
    target: tuple[slice, slice]
    flip: bool


@dataclass(frozen=True)
class RandomPlacement:
    """Stretch, scale and flip a picture, and put it somewhere on the canvas.

    Scale 1 is the size at which the stretched picture just fits `fit_hw`, so at which validation sees it. What is
    larger than the canvas is cropped at random, what is smaller leaves grey bars (pixels) and `ignore_index` (mask).
    Only the visible part is resized, once.

    With probability `rare_crops`, what is larger than the canvas is cropped so that a pixel of a rare class is in it:
    of the classes that the picture shows one is drawn, with weights `rarity` (the inverse of its share of the pixels of
    the training set), then one of its pixels, each as likely as the others, then where that pixel comes to lie on the
    canvas, each place that there can be as likely as the others. What is thinner than a pixel of the canvas may still
    be lost in shrinking.
    """

    canvas_hw: Size
    fit_hw: Size
    scale: tuple[float, float]
    aspect: float
    flip: float
    ignore_index: int
    rare_crops: float = 0.0
    rarity: tuple[float, ...] = ()

    def sample(self, rng: np.random.Generator, hw: Size, mask: np.ndarray | None = None) -> Placement:
        """Draw a placement for a picture of size (height, width). `mask`, its ids [h, w], is needed for rare crops."""
        stretch = rng.uniform(1 - self.aspect, 1 + self.aspect) / rng.uniform(1 - self.aspect, 1 + self.aspect)
        fit = min(self.fit_hw[0] / hw[0], self.fit_hw[1] / (hw[1] * stretch))
        size = rng.uniform(*self.scale) * fit
        places = rng.uniform(size=2)
        flip = bool(rng.uniform() < self.flip)
        scales = (size, size * stretch)
        if self.rare_crops and rng.uniform() < self.rare_crops:
            assert mask is not None, "a rare crop needs the mask"
            places = self._places_of_rare_pixel(rng, mask, scales, places)
        rows = _visible(hw[0], scales[0], self.canvas_hw[0], places[0])
        columns = _visible(hw[1], scales[1], self.canvas_hw[1], places[1])
        return Placement((rows[0], columns[0]), (rows[1], columns[1]), flip)

    def _places_of_rare_pixel(
        self, rng: np.random.Generator, mask: np.ndarray, scales: tuple[float, float], places: np.ndarray
    ) -> np.ndarray:
        """Return places for `_visible` that show a pixel of a rare class; those given if all is seen, or no label."""
        axes = list(zip(mask.shape, scales, self.canvas_hw, strict=True))
        if all(_scaled(length, scale) <= canvas for length, scale, canvas in axes):
            return places
        counts = cv2.calcHist([mask], [0], None, [256], [0, 256]).ravel()[: len(self.rarity)]
        weights = np.where(counts > 0, self.rarity, 0)
        if not weights.any():  # not one label
            return places
        class_id = rng.choice(len(weights), p=weights / weights.sum())
        pixels = np.flatnonzero(mask == class_id)
        pixel = divmod(int(pixels[rng.integers(len(pixels))]), mask.shape[1])
        chosen = [
            _place_showing(rng, at, *axis, otherwise=place) for at, axis, place in zip(pixel, axes, places, strict=True)
        ]
        return np.array(chosen)

    def reduction(self, hw: Size) -> int:
        """Return by how much (1, 2, 4 or 8) a picture can be shrunk beforehand without ever having to grow here.

        It depends on the picture's size alone, not on what is drawn, so that decoded pictures can be kept.
        """
        most = (1 + self.aspect) / (1 - self.aspect)
        rows = min(self.fit_hw[0] / hw[0], self.fit_hw[1] / hw[1] * most)
        columns = min(self.fit_hw[0] / hw[0] * most, self.fit_hw[1] / hw[1])
        largest = self.scale[1] * max(rows, columns)
        return next((factor for factor in (8, 4, 2) if factor * largest <= 1), 1)

    def image(self, image: np.ndarray, parameters: Placement) -> np.ndarray:
        canvas = np.empty((*self.canvas_hw, 3), np.uint8)
        self.put(image, parameters, canvas, bars=BAR_GREY, resize=resize_image)
        return canvas

    def mask(self, mask: np.ndarray, parameters: Placement) -> np.ndarray:
        canvas = np.empty(self.canvas_hw, np.uint8)
        self.put(mask, parameters, canvas, bars=self.ignore_index, resize=resize_mask)
        return canvas

    def put(
        self, array: np.ndarray, parameters: Placement, canvas: np.ndarray, *, bars: int, resize: Callable[..., Any]
    ) -> None:
        """Fill a canvas: the visible part of a picture or a mask where it belongs, and `bars` around it."""
        visible = array[parameters.source]
        rows, columns = parameters.target
        canvas[: rows.start], canvas[rows.stop :] = bars, bars
        canvas[rows, : columns.start], canvas[rows, columns.stop :] = bars, bars
        resize(
            cv2.flip(visible, 1) if parameters.flip else visible, _lengths(parameters.target), out=canvas[rows, columns]
        )


def _visible(length: int, scale: float, canvas: int, place: float) -> tuple[slice, slice]:
    """Return which part of one axis of the source is seen, and where on the canvas, in pixels.

    `place` in [0, 1] slides the scaled axis between its two extreme positions: over the canvas when it is larger
    (a crop), within it when it is smaller (bars).
    """
    scaled = _scaled(length, scale)
    start = round(place * (canvas - scaled))
    first, last = max(0, start), min(canvas, start + scaled)
    source_first = int((first - start) * length / scaled)
    source_last = max(source_first + 1, round((last - start) * length / scaled))
    return slice(source_first, min(length, source_last)), slice(first, last)


def _place_showing(
    rng: np.random.Generator, pixel: int, length: int, scale: float, canvas: int, *, otherwise: float
) -> float:
    """Return a `place` with which `_visible` shows a pixel of the source; `otherwise` where it shows the whole axis.

    Uniform among the places (whole pixels of the canvas) with which the pixel's centre lies on the canvas.
    """
    scaled = _scaled(length, scale)
    if scaled <= canvas:
        return otherwise
    centre = (pixel + 0.5) * scaled / length
    fewest, most = max(0, math.floor(centre - canvas) + 1), min(scaled - canvas, math.floor(centre))
    return int(rng.integers(fewest, most + 1)) / (scaled - canvas)


def _scaled(length: int, scale: float) -> int:
    return max(1, round(length * scale))


def _lengths(rectangle: tuple[slice, slice]) -> Size:
    return rectangle[0].stop - rectangle[0].start, rectangle[1].stop - rectangle[1].start
