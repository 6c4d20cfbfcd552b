"""The three stages of a prediction: load | segment | save. One bad input ends as its own error, not as the job's."""

import contextlib
import errno
import importlib.util
import itertools
import os
import stat
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np

from segkit.datasets.images import image_size_hw, read_image, refuse_larger
from segkit.datasets.rasters import RASTER_SUFFIXES
from segkit.errors import DataError, first_line
from segkit.imaging.letterbox import LetterBox
from segkit.imaging.overlay import on_white
from segkit.inference.predictor import Predictor
from segkit.inference.segmentation import Segmentation
from segkit.inference.windows import Windows
from segkit.prediction.clock import Clock
from segkit.prediction.outputs import Output, Prediction
from segkit.prediction.pixel_outputs import Masks, Overlays
from segkit.prediction.rows import Predicted, count_pixels
from segkit.prediction.strips import Written, is_huge, predict_strips
from segkit.runtime.machine import count_threads
from segkit.runtime.threads import prefetch

T = TypeVar("T")

REFUSED_NAMES = (errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL)  # too long, or bytes that the file system doesn't take


@dataclass
class InFlight:
    """One input on its way: what the next stage needs, or the error that ended it."""

    path: Path
    name: str
    image: np.ndarray | None = None  # uint8 RGB [h, w, 3]
    box: LetterBox | None = None
    canvas: np.ndarray | None = None  # uint8 RGB [H, W, 3]
    windows: Windows | None = None  # what it is predicted by, instead of the canvas
    segmentation: Segmentation | None = None
    written: Written | None = None  # a huge image's files
    seconds: float = 0.0
    error: str = ""


@dataclass(frozen=True)
class Stages:
    """The three stages of a prediction. Loading and saving run in threads beside the network."""

    predictor: Predictor
    outputs: Sequence[Output]
    max_pixels: int
    batch_size: int = 1
    threads: int = field(default_factory=count_threads)  # that load, and as many that save
    rows: dict[str, Predicted] = field(default_factory=dict)  # by name, in the order that they were done
    clock: Clock = field(default_factory=Clock)

    def run(self, named: Sequence[tuple[Path, str]]) -> Generator[str, None, None]:
        """Yield the name of each image when it is done: the stages side by side, in order, a few images at a time."""
        ahead = max(self.threads, self.batch_size)
        self.clock.restart()
        loaded = prefetch(self.load, named, threads=self.threads, ahead=ahead + 2)
        with contextlib.closing(loaded):
            segmented = (
                current
                for batch in in_batches(self.clock.waiting("decoding", loaded), self.batch_size)
                for current in self.clock.call("the network", self.segment, batch)
            )
            saved = prefetch(self.save, segmented, threads=self.threads, ahead=ahead)
            with contextlib.closing(saved):
                yield from saved

    def describe(self) -> str:
        """Return what limits the speed, in words."""
        return self.clock.describe()

    def load(self, source: tuple[Path, str]) -> InFlight:
        current = InFlight(*source)
        with _timed([current]):
            _check_kind(current.path)
            size_hw = image_size_hw(current.path) if self._may_slide else None
            current.windows = self.predictor.windows(size_hw) if size_hw else None
            if current.windows is None or size_hw is None or not self._by_strips(current.path, size_hw):
                current.image = read_image(current.path, max_pixels=self.max_pixels)
            if current.windows is None and current.image is not None:
                current.box, current.canvas = self.predictor.letterbox(current.image)
        return current

    @property
    def _may_slide(self) -> bool:
        """True if some images are predicted by windows, for which the size in their headers decides."""
        return self.predictor.window != "off" and (
            self.predictor.window != "auto" or bool(self.predictor.smallest_zoom)
        )

    def _by_strips(self, path: Path, size_hw: tuple[int, int]) -> bool:
        """True for an image whose scores are more than memory should hold, and for a TIFF, whose mask becomes one.

        Raises:
            DataError: the scores are too large, and outputs are wanted that need them all.
        """
        is_raster = path.suffix.lower() in RASTER_SUFFIXES and importlib.util.find_spec("rasterio") is not None
        if not is_raster:
            refuse_larger(path, size_hw, self.max_pixels)
        huge = is_huge(size_hw, len(self.predictor.classes))
        simple = all(isinstance(output, Masks | Overlays) for output in self.outputs)
        if huge and not simple:
            raise DataError(
                f"{path}: {size_hw[1]}x{size_hw[0]} pixels are too large for outputs that need all its probabilities "
                "or objects at once, expected masks and overlays only; leave the other flags out, or tile it"
            )
        return huge or (is_raster and simple and self.predictor.postprocess is None)

    def segment(self, batch: list[InFlight]) -> list[InFlight]:
        """Run the network on a batch; where that doesn't fit into memory, on its halves."""
        for current in batch:
            if current.windows is not None and not current.error:
                self._segment_by_windows(current, current.windows)
        ready = [current for current in batch if current.canvas is not None]
        if not ready:
            return batch
        try:
            with _timed(ready, alone=len(ready) == 1):
                canvases = np.stack([current.canvas for current in ready if current.canvas is not None])
                for current, logits in zip(ready, self.predictor.canvases_logits(canvases), strict=True):
                    assert current.box is not None
                    current.segmentation = self.predictor.segmentation(logits, current.box)
                    current.canvas = None
                    if self.predictor.is_on_gpu:
                        _ = current.segmentation.mask  # one image at a time: its scores are large
        except (MemoryError, RuntimeError) as error:
            if not is_memory(error):
                raise
            for half in (ready[: len(ready) // 2], ready[len(ready) // 2 :]):
                self.segment(half)
        return batch

    def _segment_by_windows(self, current: InFlight, windows: Windows) -> None:
        with _timed([current]):
            if current.image is not None:
                size_hw = current.image.shape[:2]
                logits = windows.logits(current.image)
                current.segmentation = self.predictor.segmentation(logits, LetterBox.fit(size_hw, size_hw))
                return
            overlays = next((output for output in self.outputs if isinstance(output, Overlays)), None)
            masks = next(output for output in self.outputs if isinstance(output, Masks))
            current.written = predict_strips(
                windows,
                current.path,
                masks.folder,
                current.name,
                min_confidence=self.predictor.min_confidence,
                render=(lambda image, mask: on_white(overlays.draw(image, mask))) if overlays else None,
            )

    def save(self, current: InFlight) -> str:
        """Write the outputs of an image; keep its row, and return its name."""
        size_hw: tuple[int, int] | None = None
        pixels: tuple[int, ...] = ()
        with _timed([current]):
            if current.segmentation is not None and current.image is not None:
                prediction = Prediction(current.name, current.path, current.image, current.segmentation)
                for output in self.outputs:
                    output.write(prediction)
                mask = current.segmentation.mask
                size_hw, pixels = mask.shape, count_pixels(mask, len(self.predictor.classes))
            elif current.written is not None:
                size_hw, pixels = current.written.hw, current.written.pixels[: len(self.predictor.classes)]
        self.rows[current.name] = (
            Predicted(str(current.path), seconds=0.0, error=current.error)
            if current.error
            else Predicted(str(current.path), size_hw, pixels, current.seconds)
        )
        return current.name


def in_batches(things: Iterable[T], size: int) -> Iterator[list[T]]:
    remaining = iter(things)
    while batch := list(itertools.islice(remaining, size)):
        yield batch


def _check_kind(path: Path) -> None:
    """Refuse what has an image's name, but would be waited for or read without end. What is missing, reading tells."""
    with contextlib.suppress(OSError):
        if not stat.S_ISREG(path.stat().st_mode):
            if path.is_dir() and not os.access(path, os.R_OK | os.X_OK):
                raise DataError(f"{path}: a folder that can't be listed; change its permissions, or move it away")
            raise DataError(f"{path}: not a file but a folder, a pipe or a device; rename or remove it")


@contextlib.contextmanager
def _timed(batch: Sequence[InFlight], *, alone: bool = True) -> Iterator[None]:
    """Add the block's seconds to the inputs'; turn what one bad or too large input causes into its error.

    Not `alone`, a lack of memory is raised: a smaller batch may fit.
    """
    started = time.perf_counter()
    current = batch[0]
    try:
        yield
    except DataError as error:
        current.error = str(error)
    except (MemoryError, RuntimeError, cv2.error) as error:  # torch's CPU allocator raises a plain RuntimeError
        if not alone or (isinstance(error, RuntimeError) and not is_memory(error)):
            raise
        why = "OpenCV can't process it" if isinstance(error, cv2.error) else "too large for this machine's memory"
        current.error = f"{current.path}: {why} ({first_line(error)})"
    except OSError as error:  # all others, a full disk for instance, end the run
        if error.errno not in REFUSED_NAMES:
            raise
        current.error = f"{current.path}: no file can be written by that name ({error.strerror}); rename the image"
    finally:
        for each in batch:
            each.seconds += (time.perf_counter() - started) / len(batch)


def is_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError) or "memory" in str(error)
