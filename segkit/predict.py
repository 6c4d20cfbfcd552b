"""Predict masks for images, files and folders of them, by one model or by several together.

The path from pixels to mask is that of evaluation (segkit/evaluation/evaluate.py). Not here: video, other runtimes.
"""

import contextlib
import csv
import glob
import itertools
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import torch
from tqdm import tqdm

from segkit.classes import Classes
from segkit.datasets.images import IMAGE_SUFFIXES, read_image
from segkit.datasets.layouts import list_images
from segkit.datasets.masks import write_mask
from segkit.errors import DataError, RunFolderError, first_line
from segkit.imaging.letterbox import LetterBox
from segkit.imaging.overlay import overlay
from segkit.inference.predictor import Predictor
from segkit.runtime.files import writing
from segkit.runtime.machine import count_threads, keep_freed_memory
from segkit.runtime.threads import prefetch


@dataclass(frozen=True)
class Predicted:
    """What became of one input: its size, seconds and pixels by class, or its error."""

    name: str
    hw: tuple[int, int] | None = None
    pixels: tuple[int, ...] = ()
    seconds: float = 0.0
    error: str = ""


def find_inputs(source: str, *, outside: Path) -> tuple[Path, list[Path]]:
    """Return the folder that outputs are named relative to, and the images that `source` means, sorted.

    `source` is an image, a folder (searched to any depth, images below `outside` left out), or a glob pattern, in
    which `**` matches any depth.

    Raises:
        DataError: nothing is there, or nothing that is an image.
    """
    path = Path(source)
    if path.is_file():
        return path.parent, [path]
    if path.is_dir():
        skipped = outside.resolve()
        found = [image for image in list_images(path) if not image.resolve().is_relative_to(skipped)]
        if not found:
            raise DataError(f"{path}: no images in this folder, expected files with one of {' '.join(IMAGE_SUFFIXES)}")
        return path, found
    if not glob.has_magic(source):
        raise DataError(
            f"{path}: no such file or folder; expected an image, a folder of them, or a 'quoted/*.jpg' pattern"
        )
    found = sorted(Path(match) for match in glob.glob(source, recursive=True) if match.lower().endswith(IMAGE_SUFFIXES))
    if not found:
        raise DataError(f"{source}: the pattern matches no image; quote it, and check it with: ls {source}")
    return Path(*itertools.takewhile(lambda part: not glob.has_magic(part), path.parent.parts)), found


def predict_files(
    predictor: Predictor, source: str, output: Path, *, overlays: bool = True, overwrite: bool = False
) -> list[Predicted]:
    """Write `masks/`, `overlays/`, `classes.txt` and `predictions.csv` below `output` for what `source` means.

    Masks are palette PNGs of class ids at the image's size; the folder structure of the source is kept. An image
    that can't be read becomes a row with its error, and the others are done.

    Raises:
        DataError: `source` means no image.
        RunFolderError: `output` holds masks already (they may have been corrected by hand) and not `overwrite`, or
            can't be written.
    """
    root, inputs = find_inputs(source, outside=output)
    if not overwrite and (output / "masks").is_dir() and any((output / "masks").iterdir()):
        raise RunFolderError(
            f"{output / 'masks'}: holds masks already; choose another folder, or replace them with --overwrite"
        )
    keep_freed_memory()
    work = _Work(predictor, output, overlays=overlays)
    named = list(zip(inputs, _output_names(root, inputs), strict=True))
    threads = count_threads()

    def results() -> list[Predicted]:
        return [work.rows[name] for _, name in named if name in work.rows]

    with writing(output, remedy="choose another folder with --output"), contextlib.ExitStack() as stack:
        output.mkdir(parents=True, exist_ok=True)
        # for `segkit convert OUTPUT --from id-masks`, which takes masks to be corrected to a labelling tool
        (output / "classes.txt").write_text(predictor.classes.lines(), encoding="utf-8")
        # also after Ctrl-C or on a full disk: the rows tell what was done, in the threads' last moments too
        stack.callback(lambda: _write_rows(output / "predictions.csv", results(), predictor.classes))
        loaded = stack.enter_context(contextlib.closing(prefetch(work.load, named, threads=threads, ahead=threads + 2)))
        segmented = map(work.segment, loaded)
        saved = stack.enter_context(contextlib.closing(prefetch(work.save, segmented, threads=threads, ahead=threads)))
        for _ in tqdm(saved, total=len(named), unit="image", desc="predicting", dynamic_ncols=True, disable=None):
            pass
    return results()


@dataclass
class _Job:
    """One input on its way: what the next stage needs, or the error that ended it."""

    path: Path
    name: str
    image: np.ndarray | None = None
    box: LetterBox | None = None
    canvas: np.ndarray | None = None
    logits: torch.Tensor | None = None
    mask: np.ndarray | None = None
    seconds: float = 0.0
    error: str = ""


@dataclass(frozen=True)
class _Work:
    """The three stages of a prediction. Loading and saving run in threads beside the network."""

    predictor: Predictor
    output: Path
    overlays: bool
    rows: dict[str, Predicted] = field(default_factory=dict)  # by name, in the order that they were done

    def load(self, source: tuple[Path, str]) -> _Job:
        job = _Job(*source)
        with _timed(job):
            job.image = read_image(job.path)
            job.box, job.canvas = self.predictor.letterbox(job.image)
        return job

    def segment(self, job: _Job) -> _Job:
        if job.canvas is not None:
            with _timed(job):
                job.logits = self.predictor.canvas_logits(job.canvas)
                if job.box is not None and job.logits.device.type != "cpu":
                    job.mask, job.logits = job.box.mask(job.logits), None  # on a GPU one image at a time
        return job

    def save(self, job: _Job) -> Predicted:
        with _timed(job):
            if job.mask is None and job.logits is not None and job.box is not None:
                job.mask = job.box.mask(job.logits)
            if job.mask is not None and job.image is not None:
                _save(self.output, job.name, job.image, job.mask, self.predictor.classes, overlays=self.overlays)
        row = Predicted(str(job.path), error=job.error)
        if job.mask is not None and not job.error:
            pixels = np.bincount(job.mask.ravel(), minlength=len(self.predictor.classes))
            row = Predicted(str(job.path), job.mask.shape, tuple(pixels.tolist()), job.seconds)
        self.rows[job.name] = row
        return row


@contextlib.contextmanager
def _timed(job: _Job) -> Iterator[None]:
    """Add the block's seconds to the job; turn what one bad or too large image causes into its error."""
    started = time.perf_counter()
    try:
        yield
    except DataError as error:
        job.error = str(error)
    except (MemoryError, RuntimeError) as error:  # torch's CPU allocator raises a plain RuntimeError
        if isinstance(error, RuntimeError) and "memory" not in str(error):
            raise
        job.error = f"{job.path}: too large for this machine's memory ({first_line(error)})"
    finally:
        job.seconds += time.perf_counter() - started


def _save(output: Path, name: str, image: np.ndarray, mask: np.ndarray, classes: Classes, *, overlays: bool) -> None:
    for kind in ("masks", "overlays") if overlays else ("masks",):
        (output / kind / name).parent.mkdir(parents=True, exist_ok=True)
    write_mask(output / "masks" / f"{name}.png", mask, classes)
    if overlays:
        target = output / "overlays" / f"{name}.jpg"
        blended = overlay(image, mask, classes)
        _, encoded = cv2.imencode(".jpg", cv2.cvtColor(blended, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 90])
        target.write_bytes(encoded.tobytes())  # not by OpenCV, which doesn't say why it can't


def _output_names(root: Path, inputs: Sequence[Path]) -> list[str]:
    """Name each output as its input below `root`, without suffix; with it where a.jpg and a.png would collide."""
    relative = [path.relative_to(root) for path in inputs]
    stems = [path.with_suffix("").as_posix() for path in relative]
    counts = Counter(stems)
    return [stem if counts[stem] == 1 else path.as_posix() for stem, path in zip(stems, relative, strict=True)]


def _write_rows(path: Path, results: Sequence[Predicted], classes: Classes) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["input", "height", "width", *(f"pixels_{name}" for name in classes.names), "seconds", "error"])
        for row in results:
            size = row.hw or ("", "")
            pixels = row.pixels or [""] * len(classes)
            writer.writerow([row.name, *size, *pixels, f"{row.seconds:.4f}", row.error])
