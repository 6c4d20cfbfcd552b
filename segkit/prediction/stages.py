"""The three stages of a prediction: load | segment | save. One bad input ends as its own error, not as the job's."""

import contextlib
import errno
import itertools
import os
import stat
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np

from segkit.datasets.images import read_image
from segkit.errors import DataError, first_line
from segkit.imaging.letterbox import LetterBox
from segkit.inference.predictor import Predictor
from segkit.inference.segmentation import Segmentation
from segkit.prediction.outputs import Output, Prediction
from segkit.prediction.rows import Predicted, count_pixels

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
    segmentation: Segmentation | None = None
    seconds: float = 0.0
    error: str = ""


@dataclass(frozen=True)
class Stages:
    """The three stages of a prediction. Loading and saving run in threads beside the network."""

    predictor: Predictor
    outputs: Sequence[Output]
    max_pixels: int
    rows: dict[str, Predicted] = field(default_factory=dict)  # by name, in the order that they were done

    def load(self, source: tuple[Path, str]) -> InFlight:
        current = InFlight(*source)
        with _timed([current]):
            _check_kind(current.path)
            current.image = read_image(current.path, max_pixels=self.max_pixels)
            current.box, current.canvas = self.predictor.letterbox(current.image)
        return current

    def segment(self, batch: list[InFlight]) -> list[InFlight]:
        """Run the network on a batch; where that doesn't fit into memory, on its halves."""
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
        except (MemoryError, RuntimeError) as error:
            if not is_memory(error):
                raise
            for half in (ready[: len(ready) // 2], ready[len(ready) // 2 :]):
                self.segment(half)
        return batch

    def save(self, current: InFlight) -> str:
        """Write the outputs of an image; keep its row, and return its name."""
        row = Predicted(str(current.path))
        with _timed([current]):
            if current.segmentation is not None and current.image is not None:
                prediction = Prediction(current.name, current.path, current.image, current.segmentation)
                for output in self.outputs:
                    output.write(prediction)
                mask = current.segmentation.mask
                row = Predicted(str(current.path), mask.shape, count_pixels(mask, len(self.predictor.classes)))
        self.rows[current.name] = (
            Predicted(str(current.path), error=current.error, seconds=0.0)
            if current.error
            else Predicted(row.name, row.hw, row.pixels, current.seconds)
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
