"""Files that outlive a crash: written beside, flushed, read back, and only then moved into place.

Whatever happens while one is written (a kill, a full disk, a power cut), the older file of that name is still whole.
A sealed file ends with the SHA-256 of what stands before, so that a damaged one is noticed when it is read; zip
readers, torch.load among them, pass over these last bytes.
"""

import contextlib
import errno
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from filelock import FileLock

from segkit.errors import RunFolderError

_SEAL = b"\nsha256 "
_SEAL_BYTES = len(_SEAL) + 64 + 1


def write_durably(
    path: Path,
    write: Callable[[BinaryIO], object],
    *,
    sealed: bool = False,
    previous: Path | None = None,
    needed: int = 0,
    elsewhere: str = "run=FOLDER",
) -> None:
    """Call `write` with a file that will become `path`; the file of that name now becomes `previous`, where given.

    `needed` is about how many bytes will be written, to be able to say how many are missing on a full disk;
    `elsewhere` is how the user says where else to write.

    Raises:
        RunFolderError: no space, no permission, or what was read back is not what was written; an older file at `path`
            is left as it was.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            hashing = _HashingFile(file)
            write(cast(BinaryIO, hashing))
            if sealed:
                hashing.write(_SEAL + hashing.digest.hexdigest().encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
            with contextlib.suppress(
                AttributeError, OSError
            ):  # so that it is read from the disk, where that is possible
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        with part.open("rb") as file:
            if hashlib.file_digest(file, "sha256").digest() != hashing.digest.digest():
                raise OSError("what the disk gives back is not what was written to it")
        if previous and path.exists():
            _keep(path, previous)
        os.replace(part, path)
        _flush_folder(path.parent)
    except (OSError, RuntimeError) as error:  # torch's zip writer turns a full disk into a RuntimeError
        with contextlib.suppress(OSError):
            part.unlink()
        raise RunFolderError(_explain(path, error, needed, elsewhere)) from error


def write_bytes_durably(path: Path, content: bytes, *, elsewhere: str = "run=FOLDER") -> None:
    """Write what is in memory already; see `write_durably`."""
    write_durably(path, lambda file: file.write(content), needed=len(content), elsewhere=elsewhere)


@contextlib.contextmanager
def appearing(path: Path) -> Iterator[Path]:
    """Give a hidden file beside `path` to write to, whose folder is made; it becomes `path` if the block ends well.

    So whoever looks sees a whole file or none. It isn't flushed to the disk: for files that can be made again. Its name
    is short, since `path` may have the longest one possible, and belongs to this block alone.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{uuid.uuid4().hex[:12]}.part")
    try:
        yield part
        os.replace(part, path)
    finally:
        with contextlib.suppress(OSError):
            part.unlink()  # what is left of a block that ended badly


def is_damaged(path: Path) -> bool | None:
    """Tell whether a sealed file's content differs from its seal; None where there is no seal, as in a cut file."""
    size = path.stat().st_size
    digest = hashlib.sha256()
    with path.open("rb") as file:
        file.seek(max(0, size - _SEAL_BYTES))
        seal = file.read()
        if not seal.startswith(_SEAL):
            return None
        file.seek(0)
        left = size - _SEAL_BYTES
        while left > 0 and (chunk := file.read(min(left, 2**20))):
            digest.update(chunk)
            left -= len(chunk)
    return seal != _SEAL + digest.hexdigest().encode() + b"\n"


def remove_parts(folder: Path) -> None:
    """Remove what writes that never ended have left in a folder."""
    for part in folder.glob(".*.part"):
        part.unlink(missing_ok=True)


class _HashingFile:
    """A file to write to that knows the digest of all that was written."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.digest = file, hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        return self.file.write(data)

    def flush(self) -> None:
        self.file.flush()


def _keep(path: Path, previous: Path) -> None:
    """Give a file a second name, so that at no moment the first one is missing."""
    link = previous.with_name(f".{previous.name}.part")
    link.unlink(missing_ok=True)
    try:
        os.link(path, link)
    except OSError:  # a file system without hard links: for a moment only `previous` exists
        os.replace(path, previous)
    else:
        os.replace(link, previous)


def _flush_folder(folder: Path) -> None:
    with contextlib.suppress(OSError):  # Windows opens no folders
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


def _explain(path: Path, error: OSError | RuntimeError, needed: int, elsewhere: str) -> str:
    free = shutil.disk_usage(next(folder for folder in path.absolute().parents if folder.is_dir())).free
    number = getattr(error, "errno", None)  # torch's RuntimeError has none
    full = number == errno.ENOSPC or (number is None and (free < max(needed, 2**20) or "file write" in str(error)))
    why = "no space left on the disk" if full else str(error)
    space = f"{free / 2**20:.0f} MiB are free there"
    if full and needed > free:
        space += f" and {needed / 2**20:.0f} MiB are needed: {(needed - free) / 2**20:.0f} MiB are missing"
    older = ". The older file of that name is untouched" if path.exists() else ""
    return f"{path}: can't be written ({why}), {space}; free some space or write elsewhere with {elsewhere}{older}"


@contextlib.contextmanager
def writing(folder: Path, *, remedy: str) -> Iterator[None]:
    """Turn any OSError of the block into a RunFolderError that names the folder and the remedy."""
    try:
        yield
    except OSError as error:
        raise RunFolderError(f"{folder}: can't be written ({error.strerror}); {remedy}") from error


def lock(path: Path, *, wait: bool) -> FileLock:
    """Lock a file against every other thread and process; the lock ends with `release()`, or with this process.

    The file itself stays: removing it is safe only while it is locked.

    Raises:
        filelock.Timeout: without `wait`, someone else holds it.
        OSError: the file can't be created.
    """
    held = FileLock(path, timeout=-1 if wait else 0, thread_local=False)
    held.acquire()
    return held


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep every other thread and process out of the block; wait until the others have left it."""
    held = lock(path, wait=True)
    try:
        yield
    finally:
        held.release()


def remember(path: Path, plain: Any) -> None:
    """Keep plain JSON in the cache folder, atomically. Where that can't be written, the next run computes it again."""
    part = path.with_suffix(f".{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps(plain))
        os.replace(part, path)
    except OSError:
        with contextlib.suppress(OSError):
            part.unlink()


def recall(path: Path) -> Any:
    """Return what `remember` kept; None where it is missing or damaged."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None
