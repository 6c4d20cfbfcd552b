"""Fetch a public data set by its name, and leave a folder that can be trained on at once.

One folder holds it all: archives/ with what is being fetched, .unpacking/ with what is being made of it, and at the
end the data set, with download.json as the last file. Whatever interrupts that, the same command goes on. Which sets
there are: segkit/datasets/public/catalog.py.
"""

import contextlib
import difflib
import json
import logging
import os
import shlex
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segkit.config.schema import DataConfig
from segkit.datasets.layouts import list_items, resolve_classes
from segkit.datasets.masks import build_mask_reader
from segkit.datasets.public.arrange import need_scipy
from segkit.datasets.public.catalog import PUBLIC_SETS, PublicSet, Source
from segkit.datasets.public.fetch import ELSEWHERE, check_room, digest_of, discard, obtain
from segkit.datasets.public.unpack import is_archive, unpack
from segkit.datasets.survey import survey
from segkit.errors import ConfigError, DataError, RunFolderError
from segkit.runtime.files import write_bytes_durably

log = logging.getLogger(__name__)

RECORD = "download.json"
ARCHIVES = "archives"
UNPACKING = ".unpacking"
MIB = 2**20
_UNPACKED = 1.5  # times its archives that a data set takes, about


@dataclass(frozen=True)
class Downloaded:
    """A data set on disk; `was_there` if this call had nothing to do."""

    name: str
    folder: Path
    was_there: bool

    def describe(self) -> str:
        """Return what a user reads: how to train on it."""
        known = PUBLIC_SETS[self.name]
        lines = [f"{self.folder}: {self.name} is there{' already' if self.was_there else ''}"]
        if known.notes:
            lines.append(f"note:  {known.notes}")
        root = shlex.quote(str(self.folder))
        lines.append(f"train: data.root={root} data.layout=voc data.train={known.train} data.val={known.val}")
        return "\n".join(lines)


def download(name: str, output: Path | None = None, *, keep_archives: bool = False) -> Downloaded:
    """Fetch, check, unpack and arrange a data set in `output` (data/NAME), which is new, empty, or holds a part of it.

    What was fetched is removed in the end unless it is to be kept. A file in `output`/archives that somebody put there
    is used if it is the right one, and stays.

    Raises:
        ConfigError: no such name, or a package is missing.
        RunFolderError: the folder holds something else, another segkit works in it, or there is too little room.
        DataError: a file can't be had, or isn't what was published.
    """
    if name not in PUBLIC_SETS:
        near = next(iter(difflib.get_close_matches(name, PUBLIC_SETS, n=1)), None)
        hint = f"; did you mean {near}?" if near else ""
        raise ConfigError(f"download: found {name!r}, expected one of: {', '.join(PUBLIC_SETS)}{hint}")
    known, folder = PUBLIC_SETS[name], output or Path("data", name)
    if _holds(folder, name):
        return Downloaded(name, folder, was_there=True)
    if known.needs_scipy:
        need_scipy(name)
    with _alone(folder):
        _refuse_other_content(folder)
        log.info(f"{known.title}: {known.num_images} labelled pictures, {known.num_classes} classes")
        log.info(f"home:    {known.home}\nlicence: {known.terms}")
        try:
            if not _holds(folder / UNPACKING / "set", name):
                shutil.rmtree(folder / UNPACKING, ignore_errors=True)  # of a call that was interrupted
                archives = _fetch(known, folder, name)
                _arrange(known, folder, name, archives)
            _move_into_place(folder)
        except KeyboardInterrupt:
            kept = sum(_num_bytes_of(folder / ARCHIVES, source) for source in known.sources)
            options = ["--output", str(folder), *["--keep-archives"][: int(keep_archives)]]
            again = shlex.join(["segkit", "download", name, *options])
            log.info(f"stopped; {kept / MIB:.1f} MiB are kept in {folder / ARCHIVES}. Go on with: {again}")
            raise
    if not keep_archives:
        for source in known.sources:
            discard(folder / ARCHIVES / source.file.name)
        with contextlib.suppress(OSError):  # not empty: somebody's own files are in it
            (folder / ARCHIVES).rmdir()
    return Downloaded(name, folder, was_there=False)


def list_sets(width: int) -> str:
    """Return a line for each set, cut to `width` characters."""
    rows = [("name", "pictures", "classes", "download", "licence")]
    for name, known in PUBLIC_SETS.items():
        size = "not said" if known.num_bytes is None else f"{known.num_bytes / MIB:,.0f} MiB"
        rows.append((name, f"{known.num_images:,}", str(known.num_classes), size, known.licence))
    lines = [
        f"{name:<10}  {images:>8}  {classes:>7}  {size:>9}  {licence}" for name, images, classes, size, licence in rows
    ]
    return "\n".join(line if len(line) <= width else f"{line[: max(width - 1, 0)]}…" for line in lines)


# ---- steps


def _fetch(known: PublicSet, folder: Path, name: str) -> dict[Source, Path]:
    """Return where each source of a set lies; without those that aren't needed and can't be had."""
    there = folder / ARCHIVES
    missing = sum(max(0, (source.file.num_bytes or 0) - _num_bytes_of(there, source)) for source in known.sources)
    check_room(folder, missing + _UNPACKED * (known.num_bytes or 0), f"{name} with its archives")
    _make(there)
    found = {}
    for source in known.sources:
        log.info(f"fetching {source.file.name}")
        try:
            found[source] = obtain(source.file, there)
        except DataError as error:
            if source.needed:
                raise
            log.info(f"{error}\n{source.file.name} isn't needed: the set is made without it")
        if source in found and source.file.digest is None:
            log.info(
                f"{source.file.name}: no checksum is published, so the archive's own checks and the number of pictures "
                f"have to do; its sha256 is {digest_of(found[source])}"
            )
    return found


def _arrange(known: PublicSet, folder: Path, name: str, archives: dict[Source, Path]) -> None:
    """Unpack the archives beside, make a data set of them, count its pictures, and describe it in its last file."""
    work = folder / UNPACKING
    size = sum(path.stat().st_size for path in archives.values())
    check_room(folder, _UNPACKED * size, f"unpacking {name}")
    unpacked, root = work / "source", work / "set"
    _make(unpacked)
    _make(root)
    for source, path in archives.items():
        log.info(f"unpacking {path.name}")
        if is_archive(path):
            unpack(path, unpacked, wanted=source.wanted)
        else:
            write_bytes_durably(unpacked / path.name, path.read_bytes(), elsewhere=ELSEWHERE)
    known.arrange(unpacked, root)
    shutil.rmtree(unpacked, ignore_errors=True)
    left_out = {source.file.name for source in known.sources if source not in archives}
    splits = _check(known, root, name, left_out=left_out)
    record = {
        "name": name,
        "title": known.title,
        "home": known.home,
        "licence": known.terms,
        "splits": splits,
        "sources": [
            {"file": path.name, "urls": source.file.urls, "digest": source.file.digest or f"sha256:{digest_of(path)}"}
            for source, path in archives.items()
        ],
        "content": sorted(path.name for path in root.iterdir()),
    }
    write_bytes_durably(root / RECORD, f"{json.dumps(record, indent=1)}\n".encode(), elsewhere=ELSEWHERE)


def _check(known: PublicSet, root: Path, name: str, *, left_out: set[str]) -> dict[str, int]:
    """Return the number of pictures by split, all of which have a label file; a split whose list is left out is left
    out too. Where no checksum is published, every file is looked at.

    Raises:
        DataError: a split isn't as large as it was published, or a file is missing.
    """
    counts = {}
    for split, expected in known.splits.items():
        if f"{split}.txt" in left_out:
            continue
        data = DataConfig(root=str(root), train=split)
        items = list_items(data, split)
        counts[split] = len(items)
        if len(items) != expected:
            raise DataError(
                f"{name}: found {len(items)} pictures in its split {split}, expected {expected}; its publisher may "
                f"have changed it, see {known.home}"
            )
        classes = resolve_classes(data)
        if len(classes) != known.num_classes:
            raise DataError(f"{name}: found {len(classes)} classes, expected {known.num_classes}; see {known.home}")
        if any(source.file.digest is None for source in known.sources):
            survey(items, build_mask_reader(data, classes), title=f"checking {split}")
    return counts


def _move_into_place(folder: Path) -> None:
    """Give what was arranged its place; the record goes last, since it says that all is there."""
    arranged = folder / UNPACKING / "set"
    try:
        for path in [*(path for path in arranged.iterdir() if path.name != RECORD), arranged / RECORD]:
            path.rename(folder / path.name)
    except OSError as error:
        raise RunFolderError(f"{folder}: can't be written ({error.strerror or error}); see its permissions") from error
    shutil.rmtree(folder / UNPACKING, ignore_errors=True)


# ---- the folder


def _holds(folder: Path, name: str) -> bool:
    """True if a folder holds this set, all of it.

    Raises:
        RunFolderError: it holds another one.
    """
    record = _read_record(folder / RECORD)
    if record is not None and record.get("name") != name:
        raise RunFolderError(
            f"{folder}: holds {record.get('name')}, expected a new folder for {name}; choose another with {ELSEWHERE}"
        )
    return record is not None


def _refuse_other_content(folder: Path) -> None:
    """Make sure that nothing of somebody else's is in the way."""
    content = (_read_record(folder / UNPACKING / "set" / RECORD) or {}).get("content", [])
    ours = {ARCHIVES, UNPACKING, *content}
    others = sorted(path.name for path in folder.iterdir() if path.name not in ours)
    if others:
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        raise RunFolderError(
            f"{folder}: found {others[0]}{more} there, expected an empty folder, or a download to go on with; choose "
            f"another with {ELSEWHERE}"
        )


def _read_record(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        record = None
    if not isinstance(record, dict):
        raise RunFolderError(
            f"{path}: can't be read as what segkit download wrote; choose another folder with {ELSEWHERE}"
        )
    return record


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Make the folder, and keep other processes of this machine from downloading into it in the meantime."""
    _make(folder)
    if sys.platform == "win32":
        yield
        return
    import fcntl

    opened = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(opened)
        raise RunFolderError(
            f"{folder}: another segkit is downloading into it, expected one at a time; wait for it, or choose another "
            f"folder with {ELSEWHERE}"
        ) from error
    except OSError:  # a file system without locks
        pass
    try:
        yield
    finally:
        os.close(opened)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunFolderError(
            f"{folder}: can't be made ({error.strerror or error}), expected a folder to write to; choose another with "
            f"{ELSEWHERE}"
        ) from error


def _num_bytes_of(folder: Path, source: Source) -> int:
    """Return how much of a file is there."""
    paths = [folder / source.file.name, folder / f"{source.file.name}.part"]
    return max((path.stat().st_size for path in paths if path.is_file()), default=0)
