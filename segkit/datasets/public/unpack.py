"""Unpack an archive from the web, trusting neither names, nor kinds, nor sizes of its members.

Members are written here, as new plain files, instead of by the libraries: so links, devices, owners and modes have no
effect, and tarfile's data filter would have nothing left to filter.
"""

import fnmatch
import functools
import re
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from segkit.errors import DataError, first_line
from segkit.runtime.progress import progress

SUFFIXES = (".tar", ".tar.gz", ".tgz", ".zip")
_MOST = 8  # times its own size that an archive of compressed images may unpack to; real ones: up to 4
_FLOOR = 2**24  # bytes that any archive may unpack to
_BROKEN = (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError)

_Member = tuple[str, int, bool, Callable[[], Any]]  # name, bytes, whether it is a plain file, what opens it


def unpack(archive: Path, folder: Path, *, wanted: Sequence[str] = ("*",)) -> None:
    """Write those files of an archive below `folder` whose paths fit one of the fnmatch patterns `wanted` (* matches
    across folders). Checksums in the archive are verified.

    Raises:
        DataError: the archive is damaged or of an unknown kind; or a member would be written outside of `folder` or
            over a file, is a link or a device, or makes the sum of sizes suspicious. The caller removes the rest.
        OSError: a file can't be written.
    """
    limit, total = max(_MOST * archive.stat().st_size, _FLOOR), 0
    try:
        members = _zip_members(archive) if archive.suffix == ".zip" else _tar_members(archive)
        for name, num_bytes, plain, opened in progress(members, title=f"unpacking {archive.name}", unit=" files"):
            parts = _safe_parts(archive, name)
            if not any(fnmatch.fnmatchcase("/".join(parts), pattern) for pattern in wanted):
                continue
            total += 512 + num_bytes  # 512: so that empty files count too
            if not plain:
                raise DataError(f"{archive}: '{name}' is a link or device, expected files only; don't use this archive")
            if total > limit:
                raise DataError(
                    f"{archive}: unpacks to more than {limit / 2**20:.0f} MiB at '{name}', expected less from "
                    f"{archive.stat().st_size / 2**20:.1f} MiB; don't use this archive"
                )
            path = folder.joinpath(*parts)
            path.parent.mkdir(parents=True, exist_ok=True)
            with opened() as source, path.open("xb") as output:
                shutil.copyfileobj(source, output, 2**20)
    except FileExistsError as error:
        raise DataError(f"{archive}: {error.filename} exists already, expected every name once") from error
    except _BROKEN as error:
        if isinstance(error, OSError) and error.errno is not None:  # None: gzip's
            raise
        raise DataError(f"{archive}: is damaged ({first_line(error)}); remove it to download it again") from error


def _safe_parts(archive: Path, name: str) -> list[str]:
    """Return the folders and the name of a member, refusing a path that leaves the folder on any system."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    dots = any(part != part.rstrip(" .") for part in parts)  # Windows drops them
    if dots or not parts or name.startswith("/") or re.search(r"[\x00-\x1f\\:]", name):
        raise DataError(
            f"{archive}: found a member named {name!r}, expected a relative path that stays below its folder; nothing "
            "was written outside. Don't use this archive"
        )
    return parts


def _zip_members(archive: Path) -> Iterator[_Member]:
    with zipfile.ZipFile(archive) as packed:
        for info in packed.infolist():
            plain = stat.S_IFMT(info.external_attr >> 16) in (0, stat.S_IFREG)  # 0: packed on Windows
            if not info.is_dir():
                yield info.orig_filename, info.file_size, plain, functools.partial(packed.open, info)


def _tar_members(archive: Path) -> Iterator[_Member]:
    with tarfile.open(archive) as packed:
        for info in packed:
            plain = info.isfile() and not info.issparse()
            if not info.isdir():
                yield info.name, info.size, plain, functools.partial(packed.extractfile, info)
        while packed.fileobj and packed.fileobj.read(2**20):  # to the checksum at the end of a gzip file
            pass
