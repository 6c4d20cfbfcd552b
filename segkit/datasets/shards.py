"""A file inside a tar shard, read by its offset: nothing is extracted, and no tar is scanned on the way.

`File` is what the readers of images and masks take: a file of its own, or a member of a shard, which is local or
fetched. Not here: how members are found (shard_index), and how shards come here (fetch).
"""

import functools
import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

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
            DataError: the shard is missing, can't be had, is truncated, or isn't the one that was indexed.
        """
        handle = _open(self.shard)
        chunks, done = [], 0
        while done < self.size:
            try:
                chunk = os.pread(handle.number, self.size - done, self.offset + done)
            except OSError as error:
                raise DataError(
                    f"{self}: can't be read ({error.strerror}); check the disk, or copy it again"
                ) from error
            if not chunk:
                raise DataError(
                    f"{self}: the shard ends at {self.offset + done} bytes, expected {self.offset + self.size}: it is "
                    "truncated; copy it again"
                )
            chunks.append(chunk)
            done += len(chunk)
        return b"".join(chunks)


File = Path | Member


def file_size(file: File) -> int:
    """Return the bytes that a file holds."""
    return file.size if isinstance(file, Member) else file.stat().st_size


def fingerprint(file: File) -> str:
    """Return what changes whenever a file does: its place, size, and time or checksum. Raises OSError or DataError."""
    if isinstance(file, Path):
        stat = file.stat()
        return f"{file.resolve()} {stat.st_size} {stat.st_mtime_ns}"
    return f"{_fingerprint(file.shard)} {file.path} {file.offset} {file.size}"


def _fingerprint(shard: Shard) -> str:
    if shard.is_remote:
        return f"{shard} {shard.num_bytes} {shard.sha256}"
    return fingerprint(Path(shard.root, shard.name))


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
