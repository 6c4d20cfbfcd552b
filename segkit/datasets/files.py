"""What readers of images and masks take: a file of its own, or one inside another, such as a member of a tar shard.

Not here: tar files and how they come here (shards, remote), so that reading a local file imports neither.
"""

from pathlib import Path
from typing import BinaryIO, Literal, Protocol


class Inner(Protocol):
    """A file inside another one, with the few things of a Path that readers use."""

    @property
    def name(self) -> str:
        """Its last part, with the suffix."""
        ...

    @property
    def size(self) -> int:
        """The bytes that it holds."""
        ...

    def read_bytes(self) -> bytes:
        """Return all of it."""
        ...

    def open(self, mode: Literal["rb"], buffering: Literal[0]) -> BinaryIO:
        """Return a stream that reads no more than it is asked for; it can seek."""
        ...

    def fingerprint(self) -> str:
        """Return what changes whenever it does. Raises OSError or DataError."""
        ...


File = Path | Inner


def file_size(file: File) -> int:
    """Return the bytes that a file holds."""
    return file.stat().st_size if isinstance(file, Path) else file.size


def fingerprint(file: File) -> str:
    """Return what changes whenever a file does: path, size, and time or checksum. Raises OSError or DataError."""
    if not isinstance(file, Path):
        return file.fingerprint()
    stat = file.stat()
    return f"{file.resolve()} {stat.st_size} {stat.st_mtime_ns}"
