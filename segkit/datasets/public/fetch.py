"""One large file over HTTP: pooch checks its published hash and moves it into place; the transfer resumes.

The resuming is segkit's own, since pooch starts every download from the first byte. Not here: what is inside (unpack),
and tar shards that training reads (segkit/datasets/remote.py).
"""

import functools
import http.client
import logging
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pooch

from segkit import __version__
from segkit.datasets.remote import PAUSES
from segkit.errors import DataError, first_line
from segkit.runtime.progress import progress

TIMEOUT = 60.0  # seconds without a byte
_CHUNK = 2**18  # bytes
_NETWORK = (OSError, http.client.HTTPException)


@dataclass(frozen=True)
class RemoteFile:
    """A file on the web. `urls` are tried in order; `digest` (`sha256:...`, `sha1:...`, `md5:...`) and `num_bytes` are
    what its publisher states, or None; MD5 and SHA-1 detect damage, not forgery. Of an archive, the members that fit
    `wanted` are unpacked. A file that is not `needed` is left out where no URL has it."""

    name: str
    urls: tuple[str, ...]
    digest: str | None = None
    num_bytes: int | None = None
    wanted: tuple[str, ...] = ("*",)
    needed: bool = True


class _Interrupted(Exception):
    """The network or the server ended the transfer early; it may be resumed."""


def obtain(file: RemoteFile, folder: Path, own: Path) -> Path:
    """Return the user's copy in the folder `own`, or the file in `folder`, resuming the download if it is incomplete.

    An interrupted transfer leaves `NAME.part`, which the next call resumes. Proxies come from the environment.

    Raises:
        DataError: the user's copy is not the published file, or no URL has that.
        OSError: the file can't be written.
    """
    copy, part = own / file.name, folder / f"{file.name}.part"
    if copy.is_file():
        if not pooch.hashes.hash_matches(str(copy), file.digest):
            raise DataError(f"{copy}: its content is not {file.digest} as published; remove it to download it again")
        return copy
    if file.digest is None:
        part.unlink(missing_ok=True)  # without a digest nothing could show that two parts belong to one file
    pooch.get_logger().setLevel(logging.WARNING)  # it would say what the progress bar shows
    problems, urls = [], list(file.urls)
    while urls:
        resumed = part.is_file()
        try:
            transfer = functools.partial(_transfer, file=file, part=part)
            return Path(pooch.retrieve(urls[0], file.digest, file.name, folder, downloader=transfer))
        except (_Interrupted, DataError) as error:
            problem = str(error)
        except ValueError as error:  # of pooch, for another hash; it has removed the file
            if resumed:
                continue  # the part may be of another version: once more, from the first byte
            problem = str(error)
        problems.append(f"{urls.pop(0)}: {problem}")
    digest = f" ({file.digest})" if file.digest else ""
    raise DataError(
        "\n".join(problems) + f"\n{file.name}: can't be downloaded; check the network (and https_proxy, behind a "
        f"proxy) and repeat the command, or save the file{digest} as {copy} first"
    )


def _transfer(url: str, output: str, _: Any, *, file: RemoteFile, part: Path) -> None:
    """Download to `part`, trying again while that makes it longer, and hand it to pooch as `output`."""
    pauses = iter(PAUSES)
    while True:
        have = part.stat().st_size if part.is_file() else 0
        try:
            _append(url, file, part, have)
            break
        except _Interrupted:
            if part.is_file() and part.stat().st_size > have:
                pauses = iter(PAUSES)
            if (pause := next(pauses, None)) is None:
                raise
            time.sleep(pause)
    part.replace(output)


def _append(url: str, file: RemoteFile, part: Path, have: int) -> None:
    """Append what follows the first `have` bytes; a server without ranges sends the whole file again."""
    headers = {"User-Agent": f"segkit/{__version__}", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 416 and have:
                return  # nothing follows: complete, or another file, as its digest will tell
            kind = _Interrupted if error.code in (408, 425, 429) or error.code >= 500 else DataError
            raise kind(f"the server answers {error.code} {error.reason}") from error
    except _NETWORK as error:
        raise _Interrupted(f"can't be reached ({first_line(error)})") from error
    with response:
        written = have if response.status == 206 else 0
        length = response.headers.get("Content-Length", "")
        total = written + int(length) if length.isdigit() else None
        if None not in (total, file.num_bytes) and total != file.num_bytes:
            part.unlink(missing_ok=True)
            raise DataError(f"found a file of {total} bytes, expected {file.num_bytes}")
        bar = progress(title=file.name, unit="B", total=total, first=written, in_bytes=True)
        with bar, part.open("ab" if written else "wb") as output:
            while chunk := _read(response):
                written += output.write(chunk)
                bar.update(len(chunk))
    if total is not None and written < total:
        raise _Interrupted(f"broke off after {written} of {total} bytes")


def _read(response: Any) -> bytes:
    try:
        return response.read(_CHUNK)
    except _NETWORK as error:  # so that it isn't taken for an error of writing
        raise _Interrupted(f"broke off ({first_line(error)})") from error
