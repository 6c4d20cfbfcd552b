"""Fetch a public data set by its name, and leave a folder that can be trained on at once.

Everything is first in the folder's .download/; the data set is moved out of it at the end, download.json
last. After any interruption the same command resumes. Which sets exist: catalog.
"""

import difflib
import importlib.util
import json
import logging
import os
import shutil
from pathlib import Path

import filelock
import pooch

from segkit.config.schema import DataConfig
from segkit.datasets.layouts import list_items, resolve_classes
from segkit.datasets.masks import build_mask_reader
from segkit.datasets.public.catalog import PUBLIC_SETS, PublicSet
from segkit.datasets.public.fetch import obtain
from segkit.datasets.public.unpack import SUFFIXES, unpack
from segkit.datasets.survey import survey
from segkit.errors import ConfigError, DataError, RunFolderError, listed
from segkit.runtime.files import lock, recall, writing
from segkit.runtime.machine import free_disk

log = logging.getLogger(__name__)

RECORD = "download.json"
ARCHIVES = "archives"
WORK = ".download"
_UNPACKED = 1.5  # times its archives that a data set takes, about
_REMEDY = "free some space, check the permissions, or choose another folder with --output DIR"


def download(name: str, folder: Path, *, keep_archives: bool = False) -> bool:
    """Fetch, check, unpack and arrange a data set in `folder`, which is new, empty, or holds a part of it; False if it
    is complete already. A file that the user saved in `folder`/archives is used if it is the right one, and stays.

    Raises:
        ConfigError: no such name, or a package is missing.
        RunFolderError: the folder holds something else, another segkit works in it, or it can't be written.
        DataError: a file can't be downloaded, or isn't what was published.
    """
    if name not in PUBLIC_SETS:
        near = difflib.get_close_matches(name, PUBLIC_SETS, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ConfigError(f"download: found {name!r}, expected one of: {', '.join(PUBLIC_SETS)}{hint}")
    known, work = PUBLIC_SETS[name], folder / WORK
    if _holds(folder, name):
        return False
    if known.needs_scipy and importlib.util.find_spec("scipy") is None:
        raise ConfigError(f"{name}: needs the package scipy to read MATLAB files; pip install 'segkit[sbd]'")
    ours = {WORK, ARCHIVES, *(recall(work / "set" / RECORD) or {}).get("content", [])}
    others = sorted({path.name for path in folder.iterdir()} - ours) if folder.is_dir() else []
    if others:
        raise RunFolderError(
            f"{folder}: found {listed(others, shown=1)}, expected an empty folder, or a download to resume; choose "
            "another with --output DIR"
        )
    with writing(folder, remedy=_REMEDY):
        work.mkdir(parents=True, exist_ok=True)
        try:
            held = lock(work / "lock", wait=False)
        except filelock.Timeout as error:
            raise RunFolderError(
                f"{folder}: another segkit is downloading into it, expected one at a time; wait for it, or choose "
                "another folder with --output DIR"
            ) from error
        try:
            log.info(f"{known.title}: {known.num_images} labelled images, {known.num_classes} classes")
            log.info(f"home:    {known.home}\nlicence: {known.terms}")
            if not _holds(work / "set", name):
                _arrange(known, folder, name, _fetch(known, folder, name))
            _move(work / ARCHIVES, folder / ARCHIVES, [file.name for file in known.files if keep_archives])
            _move(work / "set", folder, [*recall(work / "set" / RECORD)["content"], RECORD])
            shutil.rmtree(work, ignore_errors=True)
        finally:
            held.release()
    return True


def num_bytes_kept(folder: Path) -> int:
    """Return the size of all archives, and parts of them, below the folder of a set."""
    paths = [*(folder / WORK / ARCHIVES).glob("*"), *(folder / ARCHIVES).glob("*")]
    return sum(path.stat().st_size for path in paths)


def _fetch(known: PublicSet, folder: Path, name: str) -> dict[str, Path]:
    """Return the path of each file of a set; without those that aren't needed and can't be downloaded."""
    if known.num_bytes:
        _check_room(folder, (1 + _UNPACKED) * known.num_bytes - num_bytes_kept(folder), f"{name} with its archives")
    found = {}
    for file in known.files:
        log.info(f"fetching {file.name}")
        try:
            path = found[file.name] = obtain(file, folder / WORK / ARCHIVES, folder / ARCHIVES)
        except DataError as error:
            if file.needed:
                raise
            log.info(f"{error}\n{file.name} isn't needed: the set is made without it")
            continue
        if file.digest is None:
            log.info(
                f"{file.name}: no checksum is published, so the archive's own checks and the number of images have to "
                f"do; its sha256 is {pooch.file_hash(str(path))}"
            )
    return found


def _arrange(known: PublicSet, folder: Path, name: str, archives: dict[str, Path]) -> None:
    """Unpack the archives, make a data set of them, count its images, and describe it in its last file."""
    unpacked, root = folder / WORK / "source", folder / WORK / "set"
    _check_room(folder, _UNPACKED * sum(path.stat().st_size for path in archives.values()), f"unpacking {name}")
    for path in (unpacked, root):
        shutil.rmtree(path, ignore_errors=True)  # of an interrupted call
        path.mkdir()
    sources = []
    for file in (file for file in known.files if file.name in archives):
        log.info(f"unpacking {file.name}")
        path = archives[file.name]
        if file.name.endswith(SUFFIXES):
            unpack(path, unpacked, wanted=file.wanted)
        else:
            shutil.copyfile(path, unpacked / file.name)
        digest = file.digest or f"sha256:{pooch.file_hash(str(path))}"
        sources.append({"file": file.name, "urls": file.urls, "digest": digest})
    try:
        known.arrange(unpacked, root)
    except FileNotFoundError as error:
        raise DataError(f"{error.filename}: is missing in the archive; is it another version?") from error
    record = {
        "name": name, "title": known.title, "home": known.home, "licence": known.terms,
        "splits": _check(known, root, name), "sources": sources, "content": sorted(os.listdir(root)),
    }  # fmt: skip
    part = root / f"{RECORD}.part"
    part.write_text(f"{json.dumps(record, indent=1)}\n", encoding="utf-8", newline="\n")
    part.rename(root / RECORD)


def _check(known: PublicSet, root: Path, name: str) -> dict[str, int]:
    """Return the number of images by split, all of which have a label file. Where no checksum is published, decode
    every file. A DataError if a split, but for one whose list couldn't be downloaded, isn't as it was published."""
    counts = {}
    optional = {Path(file.name).stem for file in known.files if not file.needed}
    for split, expected in known.splits.items():
        if split in optional and not (root / "ImageSets" / "Segmentation" / f"{split}.txt").is_file():
            continue
        data = DataConfig(root=str(root), train=split)
        items, classes = list_items(data, split), resolve_classes(data)
        counts[split] = len(items)
        if (len(items), len(classes)) != (expected, known.num_classes):
            raise DataError(
                f"{name}: found {len(items)} images and {len(classes)} classes in its split {split}, expected "
                f"{expected} and {known.num_classes}; its publisher may have changed it, see {known.home}"
            )
        if any(file.digest is None for file in known.files):
            survey(items, build_mask_reader(data, classes), title=f"checking {split}")
    return counts


def _holds(folder: Path, name: str) -> bool:
    """True if a folder holds this set, complete; a RunFolderError if it holds another one."""
    found = (recall(folder / RECORD) or {}).get("name")
    if found not in (None, name):
        raise RunFolderError(
            f"{folder}: holds {found}, expected a new folder for {name}; choose another with --output DIR"
        )
    return found == name


def _move(source: Path, target: Path, names: list[str]) -> None:
    """Move those files and folders that aren't moved yet."""
    for name in names:
        if (source / name).exists():
            target.mkdir(exist_ok=True)
            (source / name).rename(target / name)


def _check_room(folder: Path, num_bytes: float, what: str) -> None:
    if num_bytes > (free := free_disk(folder)):
        raise RunFolderError(
            f"{folder}: {what} needs about {num_bytes / 2**20:.0f} MiB, {free / 2**20:.0f} MiB are free; free some "
            "space, or choose another disk with --output DIR"
        )
