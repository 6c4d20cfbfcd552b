"""Writing a data set in another tool's form: pictures go in byte for byte, under names that stay in their folder."""

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import TypeVar

from tqdm import tqdm

from segkit.data.images import read_encoded
from segkit.data.prefetch import prefetch
from segkit.durable import write_bytes_durably
from segkit.errors import DataError
from segkit.formats.pictures import Picture
from segkit.runtime import count_threads

ELSEWHERE = "another OUT"

R = TypeVar("R")


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


def copy_picture(picture: Picture, folder: Path) -> Path:
    """Copy a picture's file below a folder under the picture's name; return where it is.

    Raises:
        DataError: its file can't be read, or its name leaves the folder.
        RunFolderError: it can't be written.
    """
    suffix = PurePosixPath(picture.image.name).suffix
    target = folder / f"{check_path(picture.name, where=str(picture.image))}{suffix}"
    write_bytes_durably(target, read_encoded(picture.image), elsewhere=ELSEWHERE)
    return target


def write_text(path: Path, text: str) -> None:
    """Write a text as UTF-8. Raises RunFolderError where that can't be done."""
    write_bytes_durably(path, text.encode(), elsewhere=ELSEWHERE)


def each_picture(work: Callable[[Picture], R], pictures: Sequence[Picture], *, title: str) -> Iterator[R]:
    """Yield work(picture) in order, done by threads a few pictures ahead, with a bar."""
    results = prefetch(work, pictures, threads=count_threads(), ahead=8)
    return iter(tqdm(results, total=len(pictures), desc=title, disable=None, leave=False, unit="files"))
