"""Predict masks for images, files and folders of them, by one model or by several together.

The path from pixels to mask is that of evaluation (segkit/evaluation/evaluate.py). Not here: video, other runtimes.
"""

import contextlib
import csv
import errno
import functools
import glob
import io
import itertools
import logging
import os
import stat
import time
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import torch

from segkit.classes import Classes
from segkit.datasets.images import IMAGE_SUFFIXES, read_image
from segkit.datasets.layouts import list_images
from segkit.datasets.masks import write_mask
from segkit.errors import DataError, RunFolderError, first_line
from segkit.imaging.codec import encode_jpeg, fits_jpeg, write_png
from segkit.imaging.letterbox import LetterBox
from segkit.imaging.overlay import overlay
from segkit.inference.predictor import Predictor
from segkit.runtime.files import write_bytes_durably, writing
from segkit.runtime.machine import count_threads, keep_freed_memory
from segkit.runtime.progress import progress
from segkit.runtime.threads import prefetch

log = logging.getLogger(__name__)

OVERLAY_QUALITY = 90  # of a JPEG
REFUSED_NAMES = (errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL)  # too long, or bytes that the file system doesn't take


@dataclass(frozen=True)
class Predicted:
    """What became of one input: its size, seconds and pixels by class, or its error."""

    name: str
    hw: tuple[int, int] | None = None
    pixels: tuple[int, ...] = ()
    seconds: float = 0.0
    error: str = ""


def predict_files(
    predictor: Predictor, source: str, output: Path, *, overlays: bool = True, overwrite: bool = False
) -> list[Predicted]:
    """Write `masks/`, `overlays/`, `classes.txt` and `predictions.csv` below `output` for what `source` means.

    Masks are palette PNGs of class ids at the image's size; overlays are JPEGs, or PNGs where a side is too long for a
    JPEG; the folder structure of the source is kept (see `output_names`). An input that can't be read or written
    becomes a row with its error, and the others are done. predictions.csv is UTF-8 whatever the names are: a byte that
    is none, E9 for instance, is written as \\udce9.

    Raises:
        DataError: `source` means no image.
        RunFolderError: `output` holds masks already (they may have been corrected by hand) and not `overwrite`, or
            can't be written.
    """
    root, inputs = find_inputs(source, outside=output)
    keep_freed_memory()
    pipeline = _Pipeline(predictor, output, overlays=overlays)
    names = output_names([path.relative_to(root) for path in inputs])
    threads = count_threads()
    with writing(output, remedy="choose another folder with --output"), contextlib.ExitStack() as stack:
        if not overwrite and (output / "masks").is_dir() and any((output / "masks").iterdir()):
            raise RunFolderError(
                f"{output / 'masks'}: holds masks already; choose another folder, or replace them with --overwrite"
            )
        output.mkdir(parents=True, exist_ok=True)
        # for `segkit convert OUTPUT --from id-masks`, which takes masks to be corrected to a labelling tool
        (output / "classes.txt").write_text(predictor.classes.lines(), encoding="utf-8")
        # also after Ctrl-C or on a full disk: the rows tell what was done, in the threads' last moments too
        stack.callback(lambda: _write_rows(output / "predictions.csv", pipeline.results(names), predictor.classes))
        named = zip(inputs, names, strict=True)
        loaded = prefetch(pipeline.load, named, threads=threads, ahead=threads + 2)
        segmented = map(pipeline.segment, stack.enter_context(contextlib.closing(loaded)))
        saved = prefetch(pipeline.save, segmented, threads=threads, ahead=threads)
        stack.enter_context(contextlib.closing(saved))
        try:
            for _ in progress(saved, total=len(names), unit="image", title="predicting"):
                pass
        except KeyboardInterrupt:
            log.info("stopped; %s lists what is done; --overwrite starts again", output / "predictions.csv")
            raise
    return pipeline.results(names)


# ---- inputs, and the names of their outputs


def find_inputs(source: str, *, outside: Path) -> tuple[Path, list[Path]]:
    """Return the folder that outputs are named relative to, and the images that `source` means, sorted.

    `source` is an image, a folder (searched to any depth, images below `outside` left out), or a glob pattern, in
    which `**` matches any depth. Each image is listed once, also where links of folders form a loop.

    Raises:
        DataError: `source` does not exist, or means no image.
    """
    path = Path(source)
    if os.path.isfile(path):
        return path.parent, [path]
    if os.path.isdir(path):
        skipped = _real(outside)
        found = [image for image in list_images(path) if not _real(image).is_relative_to(skipped)]
        if not found:
            raise DataError(f"{path}: no images in this folder, expected files with one of {' '.join(IMAGE_SUFFIXES)}")
        return path, found
    if not glob.has_magic(source):
        raise DataError(
            f"{path}: no such file or folder; expected an image, a folder of them, or a 'quoted/*.jpg' pattern"
        )
    matches = (Path(match) for match in glob.glob(source, recursive=True) if match.lower().endswith(IMAGE_SUFFIXES))
    runs_in_circles = functools.cache(_runs_in_circles)
    found = sorted(match for match in set(matches) if not runs_in_circles(match.parent))
    if not found:
        raise DataError(f"{source}: the pattern matches no image; quote it, and check it with: ls {source}")
    return Path(*itertools.takewhile(lambda part: not glob.has_magic(part), path.parent.parts)), found


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))  # Path.resolve raises an error for a link that leads to itself


def _runs_in_circles(folder: Path) -> bool:
    """True if the path passes through one folder twice, which only links make possible."""
    way = [_real(part) for part in (folder, *folder.parents)]
    return ".." not in folder.parts and len(set(way)) < len(way)


def output_names(relative: Sequence[Path]) -> list[str]:
    """Name the outputs of inputs, whose paths below their common folder all differ: `masks/<name>.png` and so on.

    A name is the path without its suffix. It keeps the suffix where it would be another's name, or that of a folder
    which outputs need, and gets a number where that is not enough. Names that differ only in case or in how an accent
    is stored count as equal, since they are on some file systems. `..` is left out: no output leaves its folder.
    """
    whole = [Path(*(part for part in path.parent.parts if part != ".."), path.name) for path in relative]
    folders = {_stored(parent.as_posix()) for path in whole for parent in path.parents}

    def is_free(name: str) -> bool:
        return not any(_stored(name + suffix) in folders for suffix in (".png", ".jpg"))

    names = [path.with_suffix("").as_posix() for path in whole]
    settled = False
    while not settled:  # a kept suffix may make a name another's: a.jpg, a.png and a.jpg.png
        counts = Counter(map(_stored, names))
        unique = [counts[_stored(name)] == 1 and is_free(name) for name in names]
        longer = [name if alone else path.as_posix() for name, alone, path in zip(names, unique, whole, strict=True)]
        settled, names = longer == names, longer
    taken = {_stored(name) for name, alone in zip(names, unique, strict=True) if alone}
    for k in (k for k, alone in enumerate(unique) if not alone):
        numbered = itertools.chain([names[k]], (f"{names[k]}-{number}" for number in itertools.count(2)))
        names[k] = next(name for name in numbered if _stored(name) not in taken and is_free(name))
        taken.add(_stored(names[k]))
    return names


def _stored(name: str) -> str:
    """Return what is equal for two names where any file system takes them for one."""
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", name).casefold())


# ---- load | segment | save


@dataclass
class _InFlight:
    """One input on its way: what the next stage needs, or the error that ended it."""

    path: Path
    name: str
    image: np.ndarray | None = None  # uint8 RGB [h, w, 3]
    box: LetterBox | None = None
    canvas: np.ndarray | None = None  # uint8 RGB [H, W, 3]
    logits: torch.Tensor | None = None  # [C, H, W]
    mask: np.ndarray | None = None  # uint8 [h, w]
    seconds: float = 0.0
    error: str = ""


@dataclass(frozen=True)
class _Pipeline:
    """The three stages of a prediction. Loading and saving run in threads beside the network."""

    predictor: Predictor
    output: Path
    overlays: bool
    rows: dict[str, Predicted] = field(default_factory=dict)  # by name, in the order that they were done

    def results(self, names: Sequence[str]) -> list[Predicted]:
        """Return the rows of what is done, in the order of the names."""
        return [self.rows[name] for name in names if name in self.rows]

    def load(self, source: tuple[Path, str]) -> _InFlight:
        current = _InFlight(*source)
        with _timed(current):
            _check_kind(current.path)
            current.image = read_image(current.path)
            current.box, current.canvas = self.predictor.letterbox(current.image)
        return current

    def segment(self, current: _InFlight) -> _InFlight:
        if current.canvas is not None:
            with _timed(current):
                current.logits = self.predictor.canvas_logits(current.canvas)
                if current.box is not None and current.logits.device.type != "cpu":
                    current.mask, current.logits = current.box.mask(current.logits), None  # on a GPU one at a time
        return current

    def save(self, current: _InFlight) -> Predicted:
        with _timed(current):
            if current.mask is None and current.logits is not None and current.box is not None:
                current.mask = current.box.mask(current.logits)
            if current.mask is not None and current.image is not None:
                self._write(current.name, current.image, current.mask)
        row = Predicted(str(current.path), error=current.error)
        if current.mask is not None and not current.error:
            pixels = np.bincount(current.mask.ravel(), minlength=len(self.predictor.classes))
            row = Predicted(str(current.path), current.mask.shape, tuple(pixels.tolist()), current.seconds)
        self.rows[current.name] = row
        return row

    def _write(self, name: str, image: np.ndarray, mask: np.ndarray) -> None:
        for kind in ("masks", "overlays") if self.overlays else ("masks",):
            (self.output / kind / name).parent.mkdir(parents=True, exist_ok=True)
        write_mask(self.output / "masks" / f"{name}.png", mask, self.predictor.classes)
        if self.overlays:
            blended = overlay(image, mask, self.predictor.classes)
            target = self.output / "overlays" / name
            if fits_jpeg(mask.shape):
                target.with_name(f"{target.name}.jpg").write_bytes(encode_jpeg(blended, quality=OVERLAY_QUALITY))
            else:
                write_png(target.with_name(f"{target.name}.png"), blended)


def _check_kind(path: Path) -> None:
    """Refuse what has an image's name, but would be waited for or read without end. What is missing, reading tells."""
    with contextlib.suppress(OSError):
        if not stat.S_ISREG(path.stat().st_mode):
            raise DataError(f"{path}: not a file but a folder, a pipe or a device; rename or remove it")


@contextlib.contextmanager
def _timed(current: _InFlight) -> Iterator[None]:
    """Add the block's seconds to the input's; turn what one bad or too large input causes into its error."""
    started = time.perf_counter()
    try:
        yield
    except DataError as error:
        current.error = str(error)
    except (MemoryError, RuntimeError, cv2.error) as error:  # torch's CPU allocator raises a plain RuntimeError
        if isinstance(error, RuntimeError) and "memory" not in str(error):
            raise
        why = "OpenCV can't process it" if isinstance(error, cv2.error) else "too large for this machine's memory"
        current.error = f"{current.path}: {why} ({first_line(error)})"
    except OSError as error:  # all others, a full disk for instance, end the run
        if error.errno not in REFUSED_NAMES:
            raise
        current.error = f"{current.path}: no file can be written by that name ({error.strerror}); rename the image"
    finally:
        current.seconds += time.perf_counter() - started


def _write_rows(path: Path, results: Sequence[Predicted], classes: Classes) -> None:
    table = io.StringIO(newline="")
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["input", "height", "width", *(f"pixels_{name}" for name in classes.names), "seconds", "error"])
    for row in results:
        size = row.hw or ("", "")
        pixels = row.pixels or [""] * len(classes)
        writer.writerow([row.name, *size, *pixels, f"{row.seconds:.4f}", row.error])
    content = table.getvalue().encode("utf-8", "backslashreplace")
    write_bytes_durably(path, content, elsewhere="--output FOLDER")
