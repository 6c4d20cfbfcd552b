"""Unpack an archive from elsewhere, trusting nothing in it: neither names, nor kinds, nor sizes.

Members are read and written as plain files by this module alone, so that neither links nor devices, owners nor modes
of an archive have any effect. A data set's archive holds files and folders; anything else is refused.
"""

import contextlib
import fnmatch
import gzip
import re
import stat
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NoReturn

from tqdm import tqdm

from segkit.errors import DataError, RunFolderError, first_line

SUFFIXES = (".tar", ".tar.gz", ".tgz", ".zip")
MIB = 2**20
_MOST = 8  # times its own size that an archive of compressed pictures may unpack to; real ones: up to 4
_FLOOR = 16 * MIB  # that any archive may
_CHUNK = 2**20
_BROKEN = (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)


@dataclass(frozen=True)
class _Member:
    """What an archive says of one thing in it. `handle` is the library's own."""

    name: str
    kind: str  # "file", "folder", or what else it is
    num_bytes: int
    handle: Any


def is_archive(path: Path) -> bool:
    return path.name.lower().endswith(SUFFIXES)


def unpack(archive: Path, folder: Path, *, wanted: Sequence[str] = ("*",), limit: int | None = None) -> int:
    """Write the files of a tar or zip archive below `folder`, which must be new or hold none of them; return how many.

    Of files, those whose path fits one of the patterns `wanted` (of fnmatch; * goes across folders); notes that macOS
    leaves (`._name`, `__MACOSX`) never are. Checksums in the archive are verified on the way. `limit`, in bytes, is by
    default several times the archive's size.

    Raises:
        DataError: the archive is damaged or of no known kind; or a member would be written outside of `folder`, is a
            link or a device, has the name of another one (also where letter case is ignored), or makes it larger than
            the limit. What was unpacked before stays, for the caller to remove.
        RunFolderError: the disk is full.
    """
    limit = max(_MOST * archive.stat().st_size, _FLOOR) if limit is None else limit
    names = _Names(archive)
    total = count = 0
    bar = tqdm(desc=f"unpacking {archive.name}", unit=" files", disable=None, leave=False)
    with bar, _explained(archive), _opened(archive) as (members, read):
        for member in members:
            parts = _parts(archive, member.name)
            name = "/".join(parts)
            if not parts or member.kind == "folder" or not _is_wanted(parts, wanted):
                continue
            if member.kind != "file":
                raise DataError(f"{archive}: '{member.name}' is a {member.kind}, expected files and folders only")
            names.add(parts)
            total += 512 + member.num_bytes  # 512: so that empty files count too
            if total > limit:
                raise DataError(
                    f"{archive}: unpacks to more than {limit / MIB:.0f} MiB at '{member.name}', expected less from "
                    f"{archive.stat().st_size / MIB:.1f} MiB; is it the archive that you mean?"
                )
            with read(member) as source:
                _write(source, folder / name, member, archive)
            count += 1
            bar.update()
    if count == 0:
        raise DataError(f"{archive}: found no file named {' or '.join(wanted)} in it; is it the archive that you mean?")
    return count


# ---- rules


def _parts(archive: Path, name: str) -> list[str]:
    """Return the folders and the name of a member's path; none for the archive's own root.

    Raises:
        DataError: the path leaves the folder, or some system would read it in another way than this one.
    """
    strange = re.search(r"[\x00-\x1f\\:]", name) is not None
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if strange or name.startswith("/") or ".." in parts or any(part != part.rstrip(" .") for part in parts):
        raise DataError(
            f"{archive}: found a member named {name!r}, expected a relative path that stays below its folder; nothing "
            "was written outside. Don't use this archive"
        )
    return parts


def _is_wanted(parts: Sequence[str], wanted: Sequence[str]) -> bool:
    if parts[-1].startswith("._") or "__MACOSX" in parts:
        return False
    return any(fnmatch.fnmatchcase("/".join(parts), pattern) for pattern in wanted)


class _Names:
    """The paths of an archive so far; two that some file system takes for one are refused."""

    def __init__(self, archive: Path) -> None:
        self.archive = archive
        self.folders: dict[str, str] = {}
        self.files: dict[str, str] = {}

    def add(self, parts: Sequence[str]) -> None:
        for depth in range(1, len(parts)):
            folder = "/".join(parts[:depth])
            key = _fold(folder)
            other = self.files.get(key) or self.folders.setdefault(key, folder)
            if key in self.files or other != folder:
                self._refuse(parts, other)
        name = "/".join(parts)
        key = _fold(name)
        if key in self.files or key in self.folders:
            self._refuse(parts, self.files.get(key) or self.folders[key])
        self.files[key] = name

    def _refuse(self, parts: Sequence[str], other: str) -> NoReturn:
        raise DataError(
            f"{self.archive}: '{'/'.join(parts)}' and '{other}' in it can be the same file, expected every name once, "
            "also where letter case is ignored. Don't use this archive"
        )


def _fold(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


# ---- formats


@contextlib.contextmanager
def _opened(archive: Path) -> Iterator[tuple[Iterator[_Member], Any]]:
    """Yield the members of an archive, and a function that opens one of them; each in its turn."""
    name = archive.name.lower()
    if name.endswith(".zip"):
        with zipfile.ZipFile(archive) as packed:
            yield map(_zip_member, packed.infolist()), lambda member: packed.open(member.handle)
        return
    # A stream that is read once from front to back: to the checksum that gzip writes last.
    with archive.open("rb") if name.endswith(".tar") else gzip.open(archive) as stream:
        with tarfile.open(fileobj=stream, mode="r|") as packed_tar:
            yield map(_tar_member, packed_tar), lambda member: packed_tar.extractfile(member.handle)
        behind = 0
        while chunk := stream.read(_CHUNK):
            behind += len(chunk)
            if behind > _FLOOR:
                raise DataError(
                    f"{archive}: found more than {_FLOOR // MIB} MiB behind the last file, expected its end"
                )


def _zip_member(info: zipfile.ZipInfo) -> _Member:
    mode = info.external_attr >> 16
    # what was packed on Windows has no mode
    kind = "folder" if info.is_dir() else "file" if stat.S_IFMT(mode) in (0, stat.S_IFREG) else "link or device"
    return _Member(info.orig_filename, kind, info.file_size, info)


def _tar_member(info: tarfile.TarInfo) -> _Member:
    kind = "file" if info.isreg() and not info.issparse() else "folder" if info.isdir() else "link or device"
    return _Member(info.name, kind, info.size, info)


def _write(source: IO[bytes], path: Path, member: _Member, archive: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as output:
            written = 0
            while chunk := _read(source):
                written += len(chunk)
                if written > member.num_bytes:
                    break
                output.write(chunk)
    except FileExistsError as error:
        raise DataError(f"{archive}: '{member.name}' is at {path} already, expected nothing there") from error
    except OSError as error:
        raise RunFolderError(
            f"{path}: can't be written ({error.strerror or error}); free some space, or choose another disk with "
            "--output DIR"
        ) from error
    if written != member.num_bytes:
        raise DataError(
            f"{archive}: '{member.name}' isn't as long as the archive says; remove it, so that it is fetched again"
        )


def _read(source: IO[bytes]) -> bytes:
    try:
        return source.read(_CHUNK)
    except OSError as error:  # so that it isn't taken for an error of writing
        raise tarfile.ReadError(first_line(error)) from error


@contextlib.contextmanager
def _explained(archive: Path) -> Iterator[None]:
    try:
        yield
    except _BROKEN as error:
        raise DataError(
            f"{archive}: can't be unpacked ({first_line(error)}); remove it, so that it is fetched again"
        ) from error
    except OSError as error:  # gzip's BadGzipFile is one
        raise DataError(
            f"{archive}: can't be read ({first_line(error)}); remove it, so that it is fetched again"
        ) from error
