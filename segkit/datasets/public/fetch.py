"""A large file from the web: whole and as its publisher described it, or its first part, kept to go on from.

Not here: what is inside (archives), and tar shards that training reads as it goes (fetch).
"""

import contextlib
import hashlib
import http.client
import json
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from segkit import __version__
from segkit.datasets.remote import PAUSES
from segkit.errors import DataError, RunFolderError, first_line
from segkit.runtime.files import write_bytes_durably
from segkit.runtime.machine import free_disk

TIMEOUT = 60.0  # seconds without a byte
MIB = 2**20
ELSEWHERE = "--output DIR"
_CHUNK = 2**18


@dataclass(frozen=True)
class RemoteFile:
    """A file on the web. `urls` are tried in order; `digest` (`sha256:...`, `sha1:...`, `md5:...`) and `num_bytes` are
    what its publisher says of it, or None.

    MD5 and SHA-1 tell a damaged file from a whole one, not one that was forged to have the same digest.
    """

    name: str
    urls: tuple[str, ...]
    digest: str | None = None
    num_bytes: int | None = None


def obtain(file: RemoteFile, folder: Path) -> Path:
    """Return the file in `folder`: as it lies there if it is the right one, else fetched, going on from where it broke
    off.

    Whatever interrupts a transfer leaves `NAME.part`, with which the next call goes on. Beside what was fetched lies
    `NAME.json`, which says from where. The environment's proxies are used (`https_proxy`).

    Raises:
        DataError: it can't be had from any of its URLs, or what comes isn't what was published.
        RunFolderError: it can't be written, or there is too little room.
    """
    path = folder / file.name
    if path.is_file():
        if problem := find_fault(file, path):
            raise DataError(f"{path}: {problem}; remove it, so that it is fetched again")
        return path
    part = _Part(folder / f"{file.name}.part")
    problems = []
    for url in file.urls:
        problem = _fetch_from(url, file, part)
        if problem is None:
            part.finish(path)
            return path
        problems.append(f"{url}: {problem}")
    described = f", whose {file.digest.replace(':', ' is ')}" if file.digest else ""
    problems.append(
        f"{file.name}: couldn't be fetched; check the network (and https_proxy, behind a proxy) and give the command "
        f"again, or put the file{described} to {path} by hand, then give the command again"
    )
    raise DataError("\n".join(problems))


def discard(path: Path) -> None:
    """Remove a file that `obtain` fetched; one that somebody put there stays."""
    note = _note_of(path)
    if note.is_file():
        path.unlink(missing_ok=True)
        note.unlink()


def find_fault(file: RemoteFile, path: Path) -> str | None:
    """Return how a file differs from what was published, or None."""
    size = path.stat().st_size
    if file.num_bytes not in (None, size):
        return f"found {size} bytes, expected {file.num_bytes}"
    if file.digest is None:
        return None if size else "found 0 bytes, expected a file"
    kind, _, expected = file.digest.partition(":")
    found = digest_of(path, kind)
    return None if found == expected else f"found a content of {kind} {found}, expected {expected} as published"


def digest_of(path: Path, kind: str = "sha256") -> str:
    """Return a file's digest in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.new(kind, usedforsecurity=False)).hexdigest()


def check_room(folder: Path, num_bytes: float, what: str) -> None:
    """Make sure that `num_bytes` more fit on the disk of `folder`.

    Raises:
        RunFolderError: they don't.
    """
    free = free_disk(folder)
    if num_bytes > free:
        raise RunFolderError(
            f"{folder}: {what} needs about {num_bytes / MIB:.0f} MiB, {free / MIB:.0f} MiB are free there; free some "
            f"space, or choose another disk with {ELSEWHERE}"
        )


# ---- one file from one URL


class _BrokenOff(Exception):
    """The transfer ended early, by the network or the server; it may go on."""


class _Refused(Exception):
    """The server gives something else, or nothing; asking again won't help."""


class _Part:
    """The first part of a file, and beside it what the server said that it is a part of: URL, version, full length."""

    def __init__(self, path: Path) -> None:
        self.path, self.note = path, _note_of(path)

    @property
    def num_bytes(self) -> int:
        return self.path.stat().st_size if self.path.is_file() else 0

    def describe(self) -> dict[str, Any]:
        with contextlib.suppress(OSError, ValueError):
            described = json.loads(self.note.read_text())
            if isinstance(described, dict):
                return described
        return {}

    def start(self, url: str, version: str | None, total: int | None) -> None:
        """Begin anew."""
        self.path.unlink(missing_ok=True)
        content = json.dumps({"url": url, "version": version, "bytes": total}).encode()
        write_bytes_durably(self.note, content, elsewhere=ELSEWHERE)

    def forget(self) -> None:
        self.path.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)

    def finish(self, path: Path) -> None:
        """Give the file its name, and its note along, which tells it from files that somebody put there."""
        os.replace(self.path, path)
        with contextlib.suppress(FileNotFoundError):
            os.replace(self.note, _note_of(path))


def _note_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _fetch_from(url: str, file: RemoteFile, part: _Part) -> str | None:
    """Complete `part` from `url`; return what is wrong, or None. A part that turns out to be of another version of the
    file is fetched anew, once."""
    pauses, started_over = iter(PAUSES), False
    while True:
        before = part.num_bytes
        try:
            joined = _transfer(url, file, part)
            problem = find_fault(file, part.path)
        except _Refused as error:
            return str(error)
        except _BrokenOff as error:
            if part.num_bytes > before:
                pauses = iter(PAUSES)
            pause = next(pauses, None)
            if pause is None:
                return str(error)
            time.sleep(pause)
            continue
        if problem is None:
            return None
        part.forget()
        if not joined or started_over:
            return problem
        started_over = True


def _transfer(url: str, file: RemoteFile, part: _Part) -> bool:
    """Append to the part what is missing; True if it was begun by an earlier transfer."""
    described, have = part.describe(), part.num_bytes
    version = described.get("version") if described.get("url") == url else None
    if have and version is None and file.digest is None:
        have = 0  # nothing could tell afterwards whether both parts belong together
    headers = {"User-Agent": f"segkit/{__version__}", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
        if version:
            headers["If-Range"] = version
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 416 and have:  # there is nothing behind what we have: whole, or not this file
                if file.digest is None and described.get("bytes") != have:
                    part.forget()
                    raise _BrokenOff("has another version of the file now") from error
                return True
            kind = _BrokenOff if error.code in (408, 425, 429) or error.code >= 500 else _Refused
            raise kind(f"the server answers {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException) as error:
        raise _BrokenOff(f"can't be reached ({first_line(error)})") from error
    with response:
        start, total = _placed(response, have)
        if None not in (file.num_bytes, total) and file.num_bytes != total:
            raise _Refused(f"found a file of {total} bytes, expected {file.num_bytes}")
        check_room(part.path.parent, (total or 0) - start, f"the rest of {file.name}")
        if start == 0:
            part.start(url, _version(response), total)
        _append(response, part.path, start, total, file)
    return start > 0


def _placed(response: Any, have: int) -> tuple[int, int | None]:
    """Return where in the file the answer begins, and how long the file is, where the server says."""
    if response.status != 206:
        length = response.headers.get("Content-Length", "")
        return 0, int(length) if length.isdigit() else None
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
    if found is None or int(found[1]) != have:
        raise _Refused(f"asked for byte {have} on, found {response.headers.get('Content-Range')}")
    return have, None if found[2] == "*" else int(found[2])


def _version(response: Any) -> str | None:
    """Return what tells this version of a file from others (RFC 9110, 13.1.5: a strong ETag, or else the date)."""
    etag = response.headers.get("ETag", "")
    return etag if etag.startswith('"') else response.headers.get("Last-Modified")


def _append(response: Any, path: Path, start: int, total: int | None, file: RemoteFile) -> None:
    written, limit = start, file.num_bytes or total
    bar = tqdm(
        total=total, initial=start, desc=file.name, unit="B", unit_scale=True, unit_divisor=1024, disable=None,
        leave=False,
    )  # fmt: skip
    with bar:
        for chunk in _into(path, response):
            written += len(chunk)
            bar.update(len(chunk))
            if limit is not None and written > limit:
                raise _Refused(f"found more than the {limit} bytes that were expected")
    if total is not None and written < total:
        raise _BrokenOff(f"broke off after {written} of {total} bytes")


def _into(path: Path, response: Any) -> Iterator[bytes]:
    """Write what comes to the end of a file, chunk by chunk."""
    try:
        with path.open("ab") as output:
            while chunk := _read(response):
                output.write(chunk)
                yield chunk
            output.flush()
            os.fsync(output.fileno())
    except OSError as error:
        raise RunFolderError(
            f"{path}: can't be written ({error.strerror or error}); free some space, check the permissions, or write "
            f"elsewhere with {ELSEWHERE}"
        ) from error


def _read(response: Any) -> bytes:
    try:
        return response.read(_CHUNK)
    except (OSError, http.client.HTTPException) as error:
        raise _BrokenOff(f"broke off ({first_line(error)})") from error
