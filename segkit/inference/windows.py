"""Predict an image that is larger than the canvas by overlapping windows, in memory bounded by its width.

A window is a letterbox of a part of the image, at the scale that images had in training; its class probabilities are
taken to the image's own pixels, as evaluation takes whole images there, and averaged with smooth weights
(segkit/imaging/tiles.py). Windows go from left to right and rows of them from top to bottom, so that only sums which a
later window adds to are kept. Not here: files (segkit/prediction/strips.py).
"""

import contextlib
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np

from segkit.errors import ConfigError
from segkit.imaging.argmax import argmax
from segkit.imaging.letterbox import LetterBox
from segkit.imaging.tiles import Axis
from segkit.inference.backend import Array, Backend
from segkit.inference.segmentation import softmax
from segkit.runtime.threads import prefetch

Size: TypeAlias = tuple[int, int]
WindowSetting: TypeAlias = Literal["auto", "off"] | Size

OVERLAP = 0.25  # of a window's height and width
SMALLEST_WINDOW = 8  # pixels a side, as of data.canvas


class PixelSource(Protocol):
    """An image that is read a few rows at a time."""

    @property
    def hw(self) -> Size:
        """Height and width in pixels."""

    def read(self, rows: slice) -> np.ndarray:
        """Return rows as uint8 RGB [rows, w, 3]. They are asked for once, from top to bottom, by one thread."""


@dataclass(frozen=True)
class ArraySource:
    """An image that is in memory, uint8 RGB [h, w, 3]."""

    image: np.ndarray

    @property
    def hw(self) -> Size:
        """Height and width in pixels."""
        return self.image.shape[0], self.image.shape[1]

    def read(self, rows: slice) -> np.ndarray:
        """Return rows as uint8 RGB [rows, w, 3]."""
        return self.image[rows]


@dataclass(frozen=True)
class Block:
    """Rows and columns of an image whose scores no later window changes."""

    rows: slice
    columns: slice
    image: np.ndarray  # uint8 RGB [rows, w, 3]: of all columns
    probabilities: Array  # float32 [C, rows, columns]; to be used before the next block is asked for


@dataclass(frozen=True)
class Strip:
    """Finished rows of an image over its whole width."""

    rows: slice
    image: np.ndarray  # uint8 RGB [rows, w, 3]
    ids: np.ndarray  # uint8 [rows, w]: the class of the largest mean probability
    confidence: np.ndarray | None  # float32 [rows, w]: that probability, where it was asked for


@dataclass(frozen=True)
class Windows:
    """Slides a window of the network's canvas over images of any size.

    An image that is smaller than a window at this zoom lies on it between bars of grey, as images do that training
    scales down; mirrored pixels instead would be something that the model never saw. So an image that a window fits
    exactly gets the very scores that its letterbox gives.

    Beyond the backend's own memory this takes, in float32, [C, overlap, w] for the rows that the next windows add to
    and a few windows' [C, rows, columns]; and, of an image that isn't an array, the pixels of a row of windows, four
    times.
    """

    backend: Backend
    window_hw: Size  # what the network sees at a time, in pixels of its canvas
    zoom: float = 1.0  # pixels of the canvas per pixel of the image
    overlap: float = OVERLAP  # of neighbouring windows, as a fraction of their height and width, in [0, 1)
    batch_size: int = 1  # windows per call of the backend; more help a GPU

    def __post_init__(self) -> None:
        if not (0 <= self.overlap < 1 and self.zoom > 0 and self.batch_size > 0 and min(self.window_hw) > 0):
            raise ValueError(f"found {self}, expected overlap in [0, 1), and positive zoom, batch size and window")

    def grid(self, source_hw: Size) -> tuple[Axis, Axis, LetterBox]:
        """Return the rows and the columns of windows over an image, and how each window lies on the canvas."""
        whole = [max(1, round(side / self.zoom)) for side in self.window_hw]
        rows, columns = (
            Axis.cover(length, window, overlap=min(window - 1, round(window * self.overlap)))
            for length, window in zip(source_hw, whole, strict=True)
        )
        taken = (rows.window, columns.window)
        inner = tuple(
            side if part == window else min(side, max(1, round(part * self.zoom)))
            for side, part, window in zip(self.window_hw, taken, whole, strict=True)
        )
        return rows, columns, LetterBox.centred(taken, self.window_hw, (inner[0], inner[1]))

    def mask(self, image: PixelSource | np.ndarray) -> np.ndarray:
        """Return class ids uint8 [h, w] of an image, or of an array uint8 RGB [h, w, 3]."""
        source = _as_source(image)
        ids = np.empty(source.hw, np.uint8)
        for block in self.blocks(source):
            ids[block.rows, block.columns] = argmax(block.probabilities)
        return ids

    def probabilities(self, image: PixelSource | np.ndarray) -> np.ndarray:
        """Return the mean class probabilities, float32 [C, h, w]; they sum to 1 for each pixel, up to rounding."""
        source = _as_source(image)
        found = np.empty((len(self.backend.classes), *source.hw), np.float32)
        for block in self.blocks(source):
            found[:, block.rows, block.columns] = _on_host(block.probabilities)
        return found

    def logits(self, image: PixelSource | np.ndarray) -> np.ndarray:
        """Return scores float32 [C, h, w] whose softmax `probabilities` are: their logarithm, and finite."""
        found = self.probabilities(image)
        np.maximum(found, np.finfo(np.float32).tiny, out=found)
        return np.log(found, out=found)

    def strips(self, image: PixelSource | np.ndarray, *, with_confidence: bool = False) -> Generator[Strip, None, None]:
        """Yield the image from top to bottom as strips of finished rows, one for each row of windows."""
        source = _as_source(image)
        width = source.hw[1]
        ids, confidence = np.empty((0, width), np.uint8), None
        with contextlib.closing(self.blocks(source)) as blocks:
            for block in blocks:
                if block.columns.start == 0:
                    size = (block.rows.stop - block.rows.start, width)
                    ids, confidence = np.empty(size, np.uint8), np.empty(size, np.float32) if with_confidence else None
                ids[:, block.columns] = argmax(block.probabilities)
                if confidence is not None:
                    confidence[:, block.columns] = _on_host(_largest(block.probabilities))
                if block.columns.stop == width:
                    yield Strip(block.rows, block.image, ids, confidence)

    def blocks(self, image: PixelSource | np.ndarray) -> Generator[Block, None, None]:
        """Yield the image's finished parts from left to right and top to bottom: every pixel in one of them.

        Arrays and tensors do the same arithmetic in the same words; tensors do it on the device of the backend.
        """
        source = _as_source(image)
        rows, columns, box = self.grid(source.hw)
        shape = (len(self.backend.classes), rows.tallest_overlap, source.hw[1])
        above = self._array(np.zeros(shape, np.float32))  # sums that the next row of windows adds to
        carried = 0  # rows of them
        row_weights, column_weights = (list(map(self._array, axis.weights())) for axis in (rows, columns))
        with contextlib.closing(_bands(source, rows)) as bands:
            for band, span, done, weights in zip(bands, rows.spans, rows.finished, row_weights, strict=True):
                height = done.stop - done.start
                left = None  # sums that the next window adds to
                scores = self._scores(band, columns, box)
                for sums, part, across in zip(scores, columns.finished, column_weights, strict=True):
                    sums *= weights[:, None] * across[None, :]
                    if left is not None:
                        sums[:, :, : left.shape[2]] += left
                    width = part.stop - part.start
                    sums[:, :carried, :width] += above[:, :carried, part]
                    yield Block(done, part, band[:height], sums[:, :height, :width])
                    above[:, : rows.window - height, part] = sums[:, height:, :width]
                    left = sums[:, :, width:]
                carried = span.stop - done.stop

    def _scores(self, band: np.ndarray, columns: Axis, box: LetterBox) -> Iterator[Any]:
        """Yield the class probabilities of each window of a row, float32 [C, rows, columns], at the image's size."""
        for first in range(0, len(columns.starts), self.batch_size):
            spans = columns.spans[first : first + self.batch_size]
            canvases = np.stack([box.apply(band[:, span]) for span in spans])
            logits = self.backend(self._array(canvases.transpose(0, 3, 1, 2)))  # channels_last in memory
            for k in range(len(spans)):
                yield softmax(box.invert(logits[k]))

    def _array(self, values: np.ndarray) -> Any:
        """Return values as the backend computes: as they are, or as a tensor on its device."""
        device = self.backend.device
        if device is None:
            return values
        import torch  # only for backends that compute with it

        return torch.from_numpy(values).to(device)


def _bands(source: PixelSource, rows: Axis) -> Generator[np.ndarray, None, None]:
    """Yield the pixels of each row of windows, uint8 RGB [rows, w, 3]; what is read is read while the network works."""
    if isinstance(source, ArraySource):
        yield from map(source.read, rows.spans)
        return
    band = np.empty((0, source.hw[1], 3), np.uint8)
    with contextlib.closing(prefetch(source.read, rows.new, threads=1, ahead=1)) as parts:
        for part in parts:
            kept = rows.window - len(part)
            band = np.concatenate([band[len(band) - kept :], part]) if kept else part
            yield band


def _as_source(image: PixelSource | np.ndarray) -> PixelSource:
    return ArraySource(image) if isinstance(image, np.ndarray) else image


def _largest(probabilities: Array) -> Array:
    return probabilities.max(axis=0) if isinstance(probabilities, np.ndarray) else probabilities.amax(dim=0)


def _on_host(values: Array) -> np.ndarray:
    return values if isinstance(values, np.ndarray) else values.cpu().numpy()


# ---- which images are predicted by windows


def parse_window(text: str) -> WindowSetting:
    """Return what `--window` says: auto, off, or the height and width of a window, as in 512,768.

    Raises:
        ConfigError: it says something else.
    """
    if text in ("auto", "off"):
        return "auto" if text == "auto" else "off"
    parts = text.split(",")
    if len(parts) != 2 or not all(part.strip().isdecimal() and int(part) >= SMALLEST_WINDOW for part in parts):
        raise ConfigError(
            f"--window: found {text!r}, expected auto, off, or height,width in pixels of the network's canvas, at "
            f"least {SMALLEST_WINDOW} each, as in 512,512"
        )
    return int(parts[0]), int(parts[1])


def choose_window(
    setting: WindowSetting, source_hw: Size, canvas_hw: Size, *, smallest_zoom: float | None
) -> Size | None:
    """Return the window to slide over an image, in pixels of the canvas; None where its letterbox is predicted.

    `auto` takes windows of the canvas's size where the letterbox would shrink an image more than training did: by a
    factor below `smallest_zoom` (of the checkpoint; where that is None, training didn't note it, never).
    """
    if setting == "off":
        return None
    if setting != "auto":
        return setting
    fit = min(canvas / length for canvas, length in zip(canvas_hw, source_hw, strict=True))
    return canvas_hw if smallest_zoom is not None and fit < smallest_zoom else None
