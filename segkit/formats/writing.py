"""What every writer of a data set does: pictures copied byte for byte, labels read ahead by threads, a bar."""

import io
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from tqdm import tqdm

from segkit.classes import Classes
from segkit.data.images import read_encoded, right_suffix
from segkit.data.masks import write_mask
from segkit.data.prefetch import prefetch
from segkit.errors import DataError, RunFolderError
from segkit.formats.pictures import Picture
from segkit.runtime import count_threads

ELSEWHERE = "another OUT"


def check_free(output: Path) -> None:
    """Refuse a folder that holds something.

    Raises:
        RunFolderError: it isn't empty, or is no folder.
    """
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise RunFolderError(f"{output}: found something there, expected an empty folder, or none; choose {ELSEWHERE}")


def masks_of(pictures: Sequence[Picture], *, title: str) -> Iterator[tuple[Picture, np.ndarray]]:
    """Yield each picture with its class ids, uint8 [h, w], in order, a few read ahead."""
    threads = count_threads()
    read = prefetch(lambda picture: picture.read_mask(), pictures, threads=threads, ahead=4 * threads)
    bar = tqdm(read, total=len(pictures), desc=title, disable=None, leave=False, unit="files", dynamic_ncols=True)
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
