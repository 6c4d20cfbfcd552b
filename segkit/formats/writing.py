"""What every writer of a data set does: an empty folder, pictures copied byte for byte, labels read ahead, a bar."""

import contextlib
import io
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from tqdm import tqdm

from segkit.classes import Classes
from segkit.data.images import image_size_hw, read_encoded, right_suffix
from segkit.data.masks import write_mask
from segkit.data.prefetch import prefetch
from segkit.errors import DataError, RunFolderError
from segkit.formats.pictures import Picture
from segkit.runtime import count_threads

ELSEWHERE = "another OUT"
_PART = ".segkit-part"

R = TypeVar("R")


@contextlib.contextmanager
def fresh_folder(output: Path) -> Iterator[Path]:
    """Give a folder to write to, whose content becomes that of `output` at the end; what fails leaves nothing behind.

    Raises:
        RunFolderError: `output` holds something (but what a killed run left), is no folder, or can't be written to.
    """
    part, was_there = output / _PART, output.is_dir()
    if output.exists() and (not was_there or any(path.name != _PART for path in output.iterdir())):
        raise RunFolderError(f"{output}: found something there, expected an empty folder, or none; choose {ELSEWHERE}")
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
    except OSError as error:
        raise RunFolderError(f"{output}: can't be written to ({error.strerror}); choose {ELSEWHERE}") from error
    try:
        yield part
        for path in sorted(part.iterdir()):
            os.replace(path, output / path.name)
    finally:
        shutil.rmtree(part, ignore_errors=True)
        if not was_there:
            with contextlib.suppress(OSError):  # not empty: it was written
                output.rmdir()


def each_picture(work: Callable[[Picture], R], pictures: Sequence[Picture], *, title: str) -> Iterator[R]:
    """Yield work(picture) in order, done by threads a few pictures ahead, with a bar."""
    threads = count_threads()
    results = prefetch(work, pictures, threads=threads, ahead=4 * threads)
    return iter(
        tqdm(results, total=len(pictures), desc=title, disable=None, leave=False, unit="files", dynamic_ncols=True)
    )


def read_mask(picture: Picture) -> np.ndarray:
    """Return a picture's class ids, uint8 [h, w].

    Raises:
        DataError: its label can't be read, or hasn't the size of its picture.
    """
    mask, image_hw = picture.read_mask(), image_size_hw(picture.image)
    if mask.shape != image_hw:
        raise DataError(
            f"{picture.image}: {image_hw[1]}x{image_hw[0]} pixels, its label {mask.shape[1]}x{mask.shape[0]}, "
            "expected the same size; export the label again, or mend the source: segkit check SRC --fix OUT"
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
    if any(part in ("", ".", "..") or re.search(r"[\\:\x00-\x1f]", part) for part in parts):
        raise DataError(
            f"{where}: found the name {name!r}, expected a relative path without .. \\ : and empty parts; rename it"
        )
    return name


def copy_image(picture: Picture, folder: Path) -> Path:
    """Copy a picture byte for byte below a folder, under its name and the suffix of its format; return where it is.

    Raises:
        DataError: its name leaves the folder, or it can't be read.
        RunFolderError: it can't be written.
    """
    name = check_path(picture.name, where=str(picture.image))
    encoded = read_encoded(picture.image)
    path = folder / f"{name}.{right_suffix(picture.image, encoded)}"
    write_plainly(path, encoded)
    return path


def write_text(path: Path, text: str) -> None:
    """Write a text as UTF-8; see `write_plainly`."""
    write_plainly(path, text.encode())


def write_plainly(path: Path, content: bytes) -> None:
    """Write one of many files of a folder that is worth nothing before it is complete: without waiting for the disk.

    Raises:
        RunFolderError: no space or no permission.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    except OSError as error:
        raise RunFolderError(f"{path}: can't be written ({error.strerror}); choose {ELSEWHERE}") from error
