"""Shards from elsewhere, fetched whole into the user's cache folder: once per machine, and within a budget.

Several ranks and loading processes may want the same shard at the same time; one fetches it, the others wait. What was
used least recently makes room. Not here: what is inside a shard (shards, shard_index).
"""

import contextlib
import errno
import hashlib
import importlib
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from segkit.errors import ConfigError, DataError, first_line
from segkit.runtime.files import lock
from segkit.runtime.machine import user_cache

PAUSES = (1.0, 4.0)  # seconds before the second and the third attempt
GIB = 2**30
_STALE = 86400.0  # seconds after which half a shard that nobody finished makes room


def is_remote(root: str) -> bool:
    """True for what is no folder: https://..., s3://..., gs://..., or pipe: and a shell command."""
    return root.startswith("pipe:") or re.match(r"[a-z][a-z0-9+.-]+://", root) is not None


def locate(root: str, name: str) -> str:
    """Return the address of a file below a root: behind it, or where the root holds {}.

    The name must have gone through `shard_index.check_name`: after `pipe:` it becomes part of a shell command.
    """
    if "{}" in root:
        return root.replace("{}", name)
    if root.startswith("pipe:"):
        return root + name
    return f"{root.rstrip('/')}/{name}"


def need_webdataset(for_what: str) -> Any:
    """Return the package webdataset.

    Raises:
        ConfigError: it isn't installed.
    """
    try:
        import webdataset
    except ImportError as error:
        raise ConfigError(
            f"{for_what}: needs the package webdataset, which isn't installed; install it with "
            "pip install 'segkit[webdataset]'"
        ) from error
    return webdataset


def fetch(url: str, *, budget_gib: float, sha256: str | None = None, num_bytes: int | None = None) -> Path:
    """Return a local copy of a shard, fetched now if it is missing. Another process may remove it at any time.

    `budget_gib` bounds all copies together, beside those that are on their way in, and those that were removed but are
    still open somewhere.

    Raises:
        ConfigError: the shard alone is larger than the budget, or webdataset isn't installed.
        DataError: it can't be fetched, or isn't what `sha256` and `num_bytes` say, three times in a row.
    """
    folder = user_cache() / "shards"
    path = folder / f"{hashlib.sha256(f'{url} {sha256}'.encode()).hexdigest()[:32]}.tar"
    if _used_now(path):
        return path
    _check_budget(url, num_bytes or 0, budget_gib)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with lock(folder / f"{path.stem[:2]}.lock", wait=True):
            if _used_now(path):
                return path
            part = path.with_suffix(".part")
            try:
                size = _fetch(url, part, sha256=sha256, num_bytes=num_bytes)
                _check_budget(url, size, budget_gib)
                with lock(folder / "room.lock", wait=True):
                    _make_room(folder, size, budget_gib)
                    os.replace(part, path)
            finally:
                part.unlink(missing_ok=True)
    except OSError as error:
        full = error.errno == errno.ENOSPC
        raise DataError(
            f"{folder}: can't hold fetched shards ({error.strerror or error}), {budget_gib:g} GiB expected there by "
            f"data.cache_gib; {'lower that or free some space' if full else 'check its permissions'}, or set "
            "XDG_CACHE_HOME to another folder"
        ) from error
    return path


def fetch_small(url: str) -> bytes:
    """Return the content of a small remote file, such as an index; nothing is kept.

    Raises:
        DataError: as `fetch`.
    """
    chunks: list[bytes] = []

    def attempt() -> str | None:
        chunks.clear()
        chunks.extend(_read(url))
        return None if any(chunks) else "found 0 bytes, expected a file"

    _try_thrice(url, attempt)
    return b"".join(chunks)


# ---- one transfer


def _fetch(url: str, part: Path, *, sha256: str | None, num_bytes: int | None) -> int:
    """Write what is at `url` to `part`, and return how many bytes that is."""
    written = 0

    def attempt() -> str | None:
        nonlocal written
        digest, written = hashlib.sha256(), 0
        with part.open("wb") as file:
            for chunk in _read(url):
                file.write(chunk)
                digest.update(chunk)
                written += len(chunk)
        if written == 0 or num_bytes not in (None, written):
            return f"found {written} bytes, expected {num_bytes or 'a shard'}"
        if sha256 not in (None, digest.hexdigest()):
            return f"found a content of SHA-256 {digest.hexdigest()}, expected {sha256} as the index says"
        return None

    _try_thrice(url, attempt)
    return written


class _Unreachable(Exception):
    """A transfer broke off, by the network or the other side; it may go well the next time."""


def _try_thrice(url: str, attempt: Callable[[], str | None]) -> None:
    problem: str | None = None
    for pause in (*PAUSES, None):
        try:
            problem = attempt()
        except _Unreachable as error:
            problem = f"can't be read ({first_line(error)})"
        if problem is None:
            return
        if pause is not None:
            time.sleep(pause)
    raise DataError(
        f"{url}: {problem}, in {len(PAUSES) + 1} attempts; check data.root, the network and your rights there, or copy "
        "the shards again together with their index"
    )


def _read(url: str) -> Iterator[bytes]:
    try:
        with contextlib.closing(_open(url)) as stream:
            while chunk := stream.read(2**20):
                yield chunk
    except OSError as error:  # the program that reads is missing, or ended with an error
        # webdataset writes the whole command as a list, and its exit code behind it
        ended = re.search(r"(?:\['([^']+)'.*)?exit (\d+)", str(error), re.DOTALL)
        reason = f"{ended[1] or 'the command'} ended with exit code {ended[2]}" if ended else first_line(error)
        raise _Unreachable(reason) from error


def _open(url: str) -> Any:
    need_webdataset("data.root")
    gopen = importlib.import_module("webdataset.gopen")  # webdataset.gopen is also the name of a function

    if url.startswith("s3://"):  # the one that gopen has no program for
        return gopen.Pipe(["aws", "s3", "cp", "--only-show-errors", url, "-"], mode="rb")
    try:
        return gopen.gopen(url, "rb")
    except ValueError as error:
        raise DataError(
            f"data.root: found {url}, which nothing here can read; expected http://, https://, s3://, gs://, or pipe: "
            "and a command that writes the file to its output"
        ) from error


# ---- room


def _check_budget(url: str, num_bytes: int, budget_gib: float) -> None:
    if num_bytes > budget_gib * GIB:
        raise ConfigError(
            f"data.cache_gib: found {budget_gib:g}, but {url} alone takes {num_bytes / GIB:.3g} GiB; expected room for "
            "about as many shards as train.batch_size; raise it"
        )


def _make_room(folder: Path, needed: int, budget_gib: float) -> None:
    """Remove the least recently used shards, until `needed` bytes more are within the budget."""
    shards = []
    for entry in os.scandir(folder):
        with contextlib.suppress(FileNotFoundError):
            stat = entry.stat()
            if entry.name.endswith(".tar"):
                shards.append((stat.st_mtime_ns, stat.st_size, entry.path))
            elif entry.name.endswith(".part") and stat.st_mtime < time.time() - _STALE:
                os.unlink(entry.path)
    total = sum(size for _, size, _ in shards) + needed
    for _, size, path in sorted(shards):
        if total <= budget_gib * GIB:
            return
        Path(path).unlink(missing_ok=True)  # who reads it is not disturbed: an open file outlives its name
        total -= size


def _used_now(path: Path) -> bool:
    try:
        os.utime(path)
    except FileNotFoundError:
        return False
    return True
