"""What every writer shares: an empty folder, images copied byte for byte, masks read ahead, a progress bar."""

import contextlib
import io
import os
import re
import shlex
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from segkit.classes import Classes
from segkit.datasets.images import image_size_hw, read_encoded, right_suffix
from segkit.datasets.layouts import EVERYTHING
from segkit.datasets.masks import write_mask
from segkit.errors import DataError, RunFolderError
from segkit.formats.sample import Sample
from segkit.runtime.machine import count_threads
from segkit.runtime.progress import progress
from segkit.runtime.threads import prefetch

ELSEWHERE = "another OUT"
STALE_SECONDS = 86400  # an older partial folder was left by a run that was killed
_PART = ".segkit-part-"

R = TypeVar("R")


def refuse_unless_empty(output: Path) -> None:
    """Refuse an output folder that holds something; what a killed run left there doesn't count.

    Raises:
        RunFolderError: it isn't empty, or no folder.
    """
    if output.exists() and (not output.is_dir() or any(not path.name.startswith(_PART) for path in output.iterdir())):
        raise RunFolderError(f"{output}: exists and is not empty, expected an empty folder or none; choose {ELSEWHERE}")


def refuse_inside(source: Path, output: Path) -> None:
    """Refuse to write into the source, where the next reading would find it.

    Raises:
        RunFolderError: `output` is `source`, or below it.
    """
    if source.is_dir() and output.resolve().is_relative_to(source.resolve()):
        raise RunFolderError(f"{output}: is inside the data set {source}, which is only read; name a folder elsewhere")


@contextlib.contextmanager
def fresh_folder(output: Path) -> Iterator[Path]:
    """Yield a folder to write to, whose content becomes that of `output` at the end; a failure leaves nothing behind.

    Raises:
        RunFolderError: `output` holds something, is no folder, or can't be written to.
    """
    refuse_unless_empty(output)
    made = [path for path in (output, *output.parents) if not path.exists()]
    moved: list[Path] = []
    part = None
    try:
        output.mkdir(parents=True, exist_ok=True)
        for left in output.glob(f"{_PART}*"):
            if time.time() - left.stat().st_mtime > STALE_SECONDS:
                shutil.rmtree(left, ignore_errors=True)
        part = Path(tempfile.mkdtemp(prefix=_PART, dir=output))
        yield part
        refuse_unless_empty(output)  # another program may have written in the meantime
        for path in sorted(part.iterdir()):
            os.replace(path, output / path.name)
            moved.append(output / path.name)
        part.rmdir()
    except BaseException as error:
        for path in [*moved, *([part] if part else [])]:
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
        for path in made:
            with contextlib.suppress(OSError):
                path.rmdir()
        if isinstance(error, OSError):
            raise RunFolderError(f"{output}: can't be written to ({error.strerror}); choose {ELSEWHERE}") from error
        raise


def describe_use(layout: str, output: Path, splits: Sequence[str]) -> list[str]:
    """Return lines that say how to train on what was written in a layout of segkit."""
    root = shlex.quote(str(output))
    named = [split for split in splits if split != EVERYTHING]
    words = "".join(f" data.{key}={split}" for key, split in zip(("train", "val"), named, strict=False) if key != split)
    if not named and layout == "webdataset":
        words = f" data.train={EVERYTHING} data.val={EVERYTHING}"
    divide = [f"divide it: segkit split {root} --val 0.1"] if len(named) < 2 and layout != "webdataset" else []
    return [*divide, f"train on it: data.layout={layout} data.root={root}{words}, without data.mask_values"]


def each_sample(work: Callable[[Sample], R], samples: Sequence[Sample], *, title: str) -> Iterator[R]:
    """Yield work(sample) in order, done by threads a few samples ahead, with a progress bar."""
    threads = count_threads()
    results = prefetch(work, samples, threads=threads, ahead=4 * threads)
    return iter(progress(results, title=title, unit="images", total=len(samples)))


def read_mask(sample: Sample) -> np.ndarray:
    """Return a sample's class ids, uint8 [h, w], of the size of its upright image.

    Raises:
        DataError: its label can't be read, or has another size than its image.
    """
    mask = sample.read_mask()
    if sample.is_sized:
        return mask
    image_hw = image_size_hw(sample.image)
    if mask.shape != image_hw:
        raise DataError(
            f"{sample.image}: {image_hw[1]}x{image_hw[0]} pixels, its label {mask.shape[1]}x{mask.shape[0]}, "
            "expected the same size; export the label again, or fix the source: segkit check SRC --fix OUT"
        )
    return mask


def encode_mask(mask: np.ndarray, classes: Classes) -> bytes:
    """Return class ids uint8 [h, w] as a palette PNG."""
    encoded = io.BytesIO()
    write_mask(encoded, mask, classes)
    return encoded.getvalue()


def check_path(name: str, *, where: str) -> str:
    """Return a name that becomes a path below OUT, of parts joined by '/', if it can.

    Raises:
        DataError: it is absolute, leaves its folder, or holds what no file name may.
    """
    parts = name.split("/")
    if any(part in ("", ".", "..") or re.search(r"[\\\x00-\x1f\ud800-\udfff]|^[A-Za-z]:", part) for part in parts):
        raise DataError(
            f"{where}: found the name {name!r}, expected a relative path without .. \\ : and empty parts; rename it"
        )
    return name


def copy_image(sample: Sample, folder: Path) -> Path:
    """Copy an image byte for byte below a folder, under its name and the suffix of its format; return its path.

    Raises:
        DataError: its name leaves the folder, or it can't be read.
        RunFolderError: it can't be written.
    """
    name = check_path(sample.name, where=str(sample.image))
    encoded = read_encoded(sample.image)
    path = folder / f"{name}.{right_suffix(sample.image, encoded)}"
    write_plainly(path, encoded)
    return path


def write_text(path: Path, text: str) -> None:
    """Write a text as UTF-8; see `write_plainly`."""
    write_plainly(path, text.encode())


def write_plainly(path: Path, content: bytes) -> None:
    """Write a file without waiting for the disk: one of many in a folder that is useless before it is complete.

    Raises:
        RunFolderError: no space or no permission.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    except OSError as error:
        raise RunFolderError(f"{path}: can't be written ({error.strerror}); choose {ELSEWHERE}") from error
