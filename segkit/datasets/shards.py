"""A file inside a tar shard, read by its offset: nothing is extracted, and no tar is scanned on the way.

Not here: how members are found (shard_index), and how shards come here (remote).
"""

import functools
import io
import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Literal, cast

from segkit.datasets.files import fingerprint
from segkit.datasets.remote import fetch, is_remote, locate
from segkit.errors import DataError

OPEN_SHARDS = 16  # file handles that a process keeps
_RACES = 10  # how often a fetched shard may vanish before it is opened


@dataclass(frozen=True, slots=True)
class Shard:
    """One tar file below a folder or a URL prefix, as an index describes it."""

    root: str
    name: str
    num_bytes: int
    sha256: str | None
    budget_gib: float

    @property
    def is_remote(self) -> bool:
        return is_remote(self.root)

    def __str__(self) -> str:
        return locate(self.root, self.name) if self.is_remote else str(Path(self.root, self.name))


@dataclass(frozen=True, slots=True)
class Member:
    """A file inside a shard, with the few things of a Path that readers use. `path` is relative to the shard."""

    shard: Shard
    path: str
    offset: int  # of its data, from the start of the shard
    size: int

    @property
    def name(self) -> str:
        return PurePosixPath(self.path).name

    def __str__(self) -> str:
        return f"{self.shard}/{self.path}"

    def read_bytes(self) -> bytes:
        """Return the whole member.

        Raises:
            DataError: the shard is missing, can't be fetched, is truncated, or isn't the one that was indexed.
        """
        handle = _open(self.shard)
        chunks, done = [], 0
        while done < self.size:
            chunks.append(self._read(handle.number, done, self.size - done))
            done += len(chunks[-1])
        return b"".join(chunks)

    def open(self, mode: Literal["rb"] = "rb", buffering: Literal[0] = 0) -> BinaryIO:
        """Return a stream that reads from the shard what it is asked for; raises as `read_bytes`."""
        return cast(BinaryIO, _MemberStream(self, _open(self.shard)))

    def fingerprint(self) -> str:
        """Return what changes whenever the member does. Raises OSError or DataError."""
        shard = self.shard
        of_shard = (
            f"{shard} {shard.num_bytes} {shard.sha256}"
            if shard.is_remote
            else fingerprint(Path(shard.root, shard.name))
        )
        return f"{of_shard} {self.path} {self.offset} {self.size}"

    def _read(self, number: int, start: int, length: int) -> bytes:
        """Return at least one byte, and at most `length`, from `start` of the member on."""
        try:
            chunk = os.pread(number, length, self.offset + start)
        except OSError as error:
            raise DataError(f"{self}: can't be read ({error.strerror}); check the disk, or copy it again") from error
        if not chunk:
            raise DataError(
                f"{self}: the shard ends at {self.offset + start} bytes, expected {self.offset + self.size}: it is "
                "truncated; copy it again"
            )
        return chunk


class _MemberStream(io.RawIOBase):
    """A member as a file to read and to seek in. The handle is shared: pread has no position of its own."""

    def __init__(self, member: Member, handle: "_Handle") -> None:
        self._member, self._handle, self._position = member, handle, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._member.size}[whence]
        self._position = max(0, start + offset)
        return self._position

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        length = min(len(buffer), self._member.size - self._position)
        if length <= 0:
            return 0
        chunk = self._member._read(self._handle.number, self._position, length)
        buffer[: len(chunk)] = chunk
        self._position += len(chunk)
        return len(chunk)


class _Handle:
    """An open file, closed when the last one who reads it lets go; a thread may still read what the cache let go."""

    def __init__(self, path: Path) -> None:
        self.number = -1
        self.number = os.open(path, os.O_RDONLY)

    def __del__(self) -> None:
        if self.number >= 0:
            os.close(self.number)


# Forked workers inherit open handles; that does no harm, since pread has no position that they could share.
@functools.lru_cache(maxsize=OPEN_SHARDS)
def _open(shard: Shard) -> _Handle:
    handle = _open_fetched(shard) if shard.is_remote else _open_local(shard)
    size = os.fstat(handle.number).st_size
    if size != shard.num_bytes:
        remedy = (
            "remove segkit's cache folder, to have it indexed again"
            if shard.is_remote
            else "copy it again together with its index, or make both anew with segkit convert"
        )
        raise DataError(f"{shard}: found {size} bytes, expected {shard.num_bytes} as its index says; {remedy}")
    return handle


def _open_local(shard: Shard) -> _Handle:
    try:
        return _Handle(Path(shard.root, shard.name))
    except OSError as error:
        raise DataError(
            f"{shard}: can't open this shard ({error.strerror}), expected it there by its index; copy it again"
        ) from error


def _open_fetched(shard: Shard) -> _Handle:
    for _ in range(_RACES):
        path = fetch(str(shard), budget_gib=shard.budget_gib, sha256=shard.sha256, num_bytes=shard.num_bytes)
        try:
            return _Handle(path)
        except FileNotFoundError:
            continue  # another process made room in just this moment; fetch it again
        except OSError as error:
            raise DataError(
                f"{path}: can't open the fetched shard ({error.strerror}); check its permissions"
            ) from error
    raise DataError(
        f"{shard}: removed again {_RACES} times before it could be read, so many shards are wanted at a time; expected "
        "room for them: raise data.cache_gib"
    )
