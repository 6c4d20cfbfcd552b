"""What every writer of a data set does: an empty folder, pictures copied byte for byte, labels read ahead, a bar."""

import contextlib
import io
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

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


def masks_of(pictures: Sequence[Picture], *, title: str) -> Iterator[tuple[Picture, np.ndarray]]:
    """Yield each picture with its class ids, uint8 [h, w], in order, a few read ahead.

    Raises:
        DataError: a label can't be read, or hasn't the size of its picture.
    """

    def read(picture: Picture) -> np.ndarray:
        mask, image_hw = picture.read_mask(), image_size_hw(picture.image)
        if mask.shape != image_hw:
            raise DataError(
                f"{picture.image}: {image_hw[1]}x{image_hw[0]} pixels, its label {mask.shape[1]}x{mask.shape[0]}, "
                "expected the same size; export the label again, or mend the source: segkit check SRC --fix OUT"
            )
        return mask

    threads = count_threads()
    masks = prefetch(read, pictures, threads=threads, ahead=4 * threads)
    bar = tqdm(masks, total=len(pictures), desc=title, disable=None, leave=False, unit="files", dynamic_ncols=True)
    yield from zip(pictures, bar, strict=True)


def encode_mask(mask: np.ndarray, classes: Classes) -> bytes:
    """Return class ids uint8 [h, w] as a palette PNG."""
    encoded = io.BytesIO()
    write_mask(encoded, mask, classes)
    return encoded.getvalue()


def copy_image(picture: Picture, folder: Path) -> Path:
    """Copy a picture byte for byte below a folder, under its name and the suffix of its format; return where it is.

    Raises:
        DataError: its name leaves the folder, or it can't be read.
        RunFolderError: it can't be written.
    """
    name = PurePosixPath(picture.name)
    if name.is_absolute() or ".." in name.parts:
        raise DataError(f"{picture.image}: the name '{picture.name}' leaves the data set; rename it")
    encoded = read_encoded(picture.image)
    path = folder / f"{picture.name}.{right_suffix(picture.image, encoded)}"
    write_plainly(path, encoded)
    return path


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
