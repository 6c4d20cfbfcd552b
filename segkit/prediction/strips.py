"""Huge images to files: read by window, predicted strip by strip, written as they are finished.

Memory is bounded by the width of the image, not by its size, where the file can be read in parts: TIFFs can, by
rasterio (segkit/datasets/rasters.py); other formats are decoded whole, 3 bytes a pixel. Not here: post-processing by
components, which may be as large as the image, and all other outputs.
"""

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from segkit.classes import Classes
from segkit.datasets.images import read_large_image
from segkit.datasets.rasters import RASTER_SUFFIXES, Raster, mask_raster, open_raster
from segkit.imaging.codec import encode_jpeg
from segkit.imaging.png_rows import PaletteRows
from segkit.inference.windows import ArraySource, PixelSource, Strip, Windows
from segkit.prediction.pixel_outputs import JPEG_QUALITY
from segkit.runtime.files import appearing
from segkit.runtime.progress import progress

Render = Callable[[np.ndarray, np.ndarray], np.ndarray]  # image [h, w, 3] and class ids [h, w] -> uint8 RGB [h, w, 3]

OVERLAY_SIDE = 4096  # pixels of the longer side, at most
WHOLE_BYTES = 2**30  # of scores at the image's size, up to which an image is better predicted as a whole


@dataclass(frozen=True)
class Written:
    """What became of a huge image: its size, the pixels of each class id (256 counts), and its files."""

    hw: tuple[int, int]
    pixels: tuple[int, ...]
    mask: Path
    overlay: Path | None = None


def is_huge(size_hw: tuple[int, int], num_classes: int) -> bool:
    """True if float32 scores of all classes at an image's size are more than memory should hold: WHOLE_BYTES."""
    return size_hw[0] * size_hw[1] * num_classes * 4 > WHOLE_BYTES


def predict_strips(
    windows: Windows, path: Path, output: Path, name: str, *, min_confidence: float = 0.0, render: Render | None = None
) -> Written:
    """Write the mask of an image below `output`: `masks/NAME.tif` for a TIFF, else `masks/NAME.png`.

    The TIFF keeps size and georeference of its image. Pixels whose class is less probable than `min_confidence` become
    `ignore_index`. With `render` also `overlays/NAME.jpg`: what it makes of the image and its mask, both reduced by a
    whole number to at most OVERLAY_SIDE pixels a side. Files appear when they are finished.

    Raises:
        DataError: the image can't be read.
        ConfigError: it is a TIFF, and rasterio isn't installed.
        OSError: a file can't be written.
    """
    with contextlib.ExitStack() as files:  # each appears where this ends; the mask, which says that all is done, last
        written, reduced = _predict(windows, path, output / "masks" / name, min_confidence, render is not None, files)
        if render is None or reduced is None:
            return written
        overlay = output / "overlays" / f"{name}.jpg"  # the image itself is no longer in memory
        part = files.enter_context(appearing(overlay))
        part.write_bytes(encode_jpeg(render(reduced.image, reduced.mask), quality=JPEG_QUALITY))
        return replace(written, overlay=overlay)


def _predict(
    windows: Windows, path: Path, target: Path, min_confidence: float, reduce: bool, files: contextlib.ExitStack
) -> tuple[Written, "_Reduced | None"]:
    """Write the mask, at `target` with a suffix; return what is said of it and, where wanted, both reduced."""
    classes = windows.backend.classes
    pixels = np.zeros(256, np.int64)
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(_open(path))
        mask = target.with_name(f"{target.name}{'.tif' if isinstance(source, Raster) else '.png'}")
        part = files.enter_context(appearing(mask))
        sink = stack.enter_context(_mask_file(part, source, classes))
        reduced = _Reduced(source.hw) if reduce else None
        strips = windows.strips(source, with_confidence=min_confidence > 0)
        stack.callback(strips.close)  # whatever ends this ends the thread that reads
        count = len(windows.grid(source.hw)[0].starts)
        for strip in progress(strips, total=count, unit="strip", title=path.name):
            ids = _sure(strip, min_confidence, classes)
            for row in ids:  # bincount takes 8 bytes a pixel on the way
                pixels += np.bincount(row, minlength=256)
            sink.write(ids)
            if reduced:
                reduced.add(strip.image, ids)
    return Written(source.hw, tuple(pixels.tolist()), mask), reduced


def _sure(strip: Strip, min_confidence: float, classes: Classes) -> np.ndarray:
    if strip.confidence is None:
        return strip.ids
    return np.where(strip.confidence < min_confidence, np.uint8(classes.ignore_index), strip.ids)


# ---- files


@contextlib.contextmanager
def _open(path: Path) -> Iterator[PixelSource]:
    """Open an image to be read by rows; a file of another format than TIFF is decoded whole."""
    if path.suffix.lower() in RASTER_SUFFIXES:
        with open_raster(path) as raster:
            yield raster
    else:
        yield ArraySource(read_large_image(path))


class _Rows(Protocol):
    def write(self, ids: np.ndarray) -> None: ...


@contextlib.contextmanager
def _mask_file(path: Path, source: PixelSource, classes: Classes) -> Iterator[_Rows]:
    """Open a mask to be written by rows: a TIFF for a TIFF, else a palette PNG."""
    if isinstance(source, Raster):
        with mask_raster(path, source.hw, classes, source.georeference) as raster:
            yield raster
        return
    with path.open("wb") as file:
        rows = PaletteRows(file, source.hw, classes.palette())
        yield rows
        rows.close()


class _Reduced:
    """An image and its mask, collected from top to bottom at 1 / factor of their size.

    The image by area; of the class ids those of pixels in the middle, since averages of ids are meaningless. What a
    whole number of pixels leaves at the right and below is left out.
    """

    def __init__(self, hw: tuple[int, int]) -> None:
        factor = math.ceil(max(hw) / OVERLAY_SIDE)
        self.factors = (min(factor, hw[0]), min(factor, hw[1]))
        self.hw = (hw[0] // self.factors[0], hw[1] // self.factors[1])
        self.image, self.mask = np.empty((*self.hw, 3), np.uint8), np.empty(self.hw, np.uint8)
        self._done = 0  # rows
        self._image, self._mask = np.empty((0, hw[1], 3), np.uint8), np.empty((0, hw[1]), np.uint8)  # not yet reduced

    def add(self, image: np.ndarray, mask: np.ndarray) -> None:
        """Add rows, uint8 RGB [rows, w, 3] and [rows, w]."""
        down, begun = self.factors[0], len(self._mask)
        first = min(len(mask), -begun % down)  # rows that complete what was begun; only these are copied
        if first:
            self._image = np.concatenate([self._image, image[:first]])
            self._mask = np.concatenate([self._mask, mask[:first]])
            if len(self._mask) == down:
                self._reduce(self._image, self._mask)
        last = first + (len(mask) - first) // down * down
        self._reduce(image[first:last], mask[first:last])
        if first == 0 or begun + first == down:
            self._image, self._mask = image[last:].copy(), mask[last:].copy()

    def _reduce(self, image: np.ndarray, mask: np.ndarray) -> None:
        """Shrink whole cells."""
        (down, across), width = self.factors, self.hw[1]
        rows = min(len(mask) // down, self.hw[0] - self._done)
        if rows:
            done = slice(self._done, self._done + rows)
            pixels = image[: rows * down, : width * across]
            cv2.resize(pixels, (width, rows), dst=self.image[done], interpolation=cv2.INTER_AREA)
            self.mask[done] = mask[down // 2 : rows * down : down, across // 2 :: across][:, :width]
            self._done += rows
