"""A folder on disk becomes items: which image, which label file, under which name, in which split.

To add a layout, write a function `(data, split) -> list[Item]` and give it a line in `LAYOUTS`. A split of None means
every item there is. Not here: what is inside the files (images, masks), and where in a tar they are (shard_index).
"""

import hashlib
import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from segkit.classes import VOC_NAMES, Classes, read_class_names
from segkit.config.schema import DataConfig
from segkit.datasets.files import File
from segkit.datasets.images import IMAGE_SUFFIXES
from segkit.datasets.remote import is_remote
from segkit.datasets.shard_index import Part, read_split_index
from segkit.datasets.shards import Member, Shard
from segkit.datasets.split_files import read_split
from segkit.datasets.split_folders import SplitFolders, index_folders, split_folders, voc_root
from segkit.errors import ConfigError, DataError, summarize

EVERYTHING = "all"  # the split that needs no split file


class Named(Protocol):
    """What has a name that no other of its data set has."""

    @property
    def name(self) -> str: ...


@dataclass(frozen=True)
class Item:
    """One image of a data set. `name` is its path below the image folder, without suffix."""

    name: str
    image: File
    mask: File | None


def list_items(data: DataConfig, split: str, *, seed: int = 0, held_out: Collection[str] | None = None) -> list[Item]:
    """Return the items of a split, in the order of its file (or sorted, where there is no file).

    The split `all` is every image that has a label. With `data.val_fraction`, `data.val` is a seeded share of
    everything and `data.train` the rest; `held_out` gives the names of that share as an earlier run drew it, so that
    new images can't move old ones between the two.

    Raises:
        DataError: the folder or the split is missing or empty, a name has no image or no label, or leaves the data set.
    """
    check_root(data)
    root = Path(data.root)
    if split == EVERYTHING:
        items = LAYOUTS[data.layout](data, None)
    elif data.val_fraction == 0:
        items = LAYOUTS[data.layout](data, split)
    else:
        if split not in (data.train, data.val):
            raise DataError(
                f"{root}: no split '{split}': with data.val_fraction there are '{data.train}', '{data.val}' and "
                f"'{EVERYTHING}'; for splits of the data set itself set data.val_fraction=0"
            )
        everything = LAYOUTS[data.layout](data, None)
        if not everything:
            raise DataError(f"{root}: no images below images/, expected files with one of {' '.join(IMAGE_SUFFIXES)}")
        if held_out is None:
            held_out = hold_out(everything, data.val_fraction, seed=seed)
        missing = set(held_out) - {item.name for item in everything}
        if missing:
            raise DataError(
                f"{root}: {sorted(missing)[0]} and {len(missing) - 1} more images were held out for validation by "
                "the run, but are missing; put them back, or set data.root to the run's own data set (segkit eval "
                f"scores all that exists with --split {EVERYTHING})"
            )
        items = [item for item in everything if (item.name in held_out) == (split == data.val)]
    if not items:
        raise DataError(f"{root}: split '{split}' is empty; expected at least one image with its label")
    return items


def check_root(data: DataConfig) -> None:
    """Raises DataError if no data set can be where `data.root` says."""
    root = Path(data.root)
    if not data.root or not (root.is_dir() or (data.layout == "webdataset" and is_remote(data.root))):
        problem = f"data.root: {root.resolve()} is not a folder" if data.root else "data.root: not set"
        raise DataError(f"{problem}; expected the data set's folder, as in data.root=path/to/dataset")


def hold_out(items: Sequence[Named], fraction: float, *, seed: int) -> set[str]:
    """Draw the names of a validation share: those whose hash with the seed is smallest; at least one, never all.

    A name's rank doesn't depend on the others, so the draw is the same on every machine and little moved by new files.
    """
    if len(items) < 2:
        raise DataError(f"data.val_fraction: found {len(items)} image(s), expected at least 2 to split")
    count = min(max(1, round(len(items) * fraction)), len(items) - 1)
    ranked = sorted((hashlib.sha256(f"{seed}/{item.name}".encode()).digest(), item.name) for item in items)
    return {name for _, name in ranked[:count]}


def resolve_classes(data: DataConfig) -> Classes:
    """Return the classes of a data set: from `data.classes` (a list or a file), the root's classes.txt, or the layout.

    Colours given as `data.mask_values` become the classes' colours.

    Raises:
        ConfigError: no classes are given, or their names or count are wrong.
        DataError: the class file can't be read.
    """
    if isinstance(data.classes, tuple):
        names: Sequence[str] = data.classes
    elif isinstance(data.classes, str):
        names = read_class_names(Path(data.classes))
    elif has_class_file(data):
        names = _own_class_names(data)
    elif data.layout == "voc":
        names = VOC_NAMES
    else:
        there = f"{data.root} names none" if is_remote(data.root) else f"{_class_file(data)} is missing"
        raise ConfigError(
            f"data.classes: not set, and {there}; list the names in id order, as in data.classes: [background, object]"
        )
    colors = [value for value in data.mask_values or () if isinstance(value, tuple)]
    return Classes.build(names, colors=colors if len(colors) == len(names) else None, ignore_index=data.ignore_index)


def has_class_file(data: DataConfig) -> bool:
    """True if the data set brings its class names along: classes.txt in its root, or the index of remote shards."""
    return bool(_own_class_names(data))


def _own_class_names(data: DataConfig) -> list[str]:
    if not is_remote(data.root):
        file = _class_file(data)
        return read_class_names(file) if file.is_file() else []
    if data.layout != "webdataset" or "{" in data.val or data.val.endswith(".tar"):
        return []
    return list((read_split_index(data, data.val).classes or {}).get("names", []))


def _class_file(data: DataConfig) -> Path:
    root = Path(data.root)
    return (voc_root(root) if data.layout == "voc" else root) / "classes.txt"


def list_images(folder: Path, unreadable: list[Path] | None = None) -> list[Path]:
    """Return every image below `folder`; see `list_files`."""
    return list_files(folder, IMAGE_SUFFIXES, unreadable)


def list_files(folder: Path, suffixes: Sequence[str], unreadable: list[Path] | None = None) -> list[Path]:
    """Return every file below `folder` with one of the suffixes, sorted by path; hidden ones are skipped.

    Raises:
        DataError: a folder can't be listed; not where a list is given, which such folders are added to.
    """

    def note(error: OSError) -> None:
        if unreadable is None:
            raise DataError(
                f"{error.filename}: the folder can't be listed ({error.strerror}); change its permissions, or move it "
                "away"
            ) from error
        unreadable.append(Path(error.filename))

    found = []
    for parent, folders, files in os.walk(folder, onerror=note):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [
            Path(parent, name) for name in files if name.lower().endswith(tuple(suffixes)) and not name.startswith(".")
        ]
    return sorted(found)


# ---- layouts


def voc(data: DataConfig, split: str | None) -> list[Item]:
    """PASCAL VOC: JPEGImages/, SegmentationClass/, ImageSets/Segmentation/<split>.txt.

    The root is VOC2012 or VOC2007, or VOCdevkit, or the folder that holds VOCdevkit (VOC2012 goes first). Images may
    have any suffix. Without a split, every image that has a label.
    """
    return _complete_items(split_folders(data, split))


def folders(data: DataConfig, split: str | None) -> list[Item]:
    """images/ and masks/, paired by name without suffix.

    A split is the first of these that exists: `<split>.txt` in the root or in splits/; the sub-folders <split>/images
    and <split>/masks; the sub-folders images/<split> and masks/<split>. Without a split, everything below images/.
    """
    return _complete_items(split_folders(data, split))


def webdataset(data: DataConfig, split: str | None) -> list[Item]:
    """Tar shards in a folder or below a URL: files of one sample share the path up to the first dot of its base name.

    A split is <split>.json, an index that `segkit convert` wrote; or the shards <split>-*.tar or <split>/*.tar of other
    tools; or a list of shards, train-{000000..000012}.tar. Items come shard by shard. Without a split, all there is
    that has a label.
    """
    index = read_split_index(data, split)
    if index.classes and data.mask_values is not None:
        raise ConfigError(
            f"data.mask_values: set, but the labels in the shards of {data.root} hold class ids (segkit convert "
            "resolved the values); leave it out: data.mask_values: null"
        )
    if index.classes and index.classes.get("ignore_index") != data.ignore_index:
        raise ConfigError(
            f"data.ignore_index: found {data.ignore_index}, expected {index.classes.get('ignore_index')} as the index "
            f"in {data.root} says; set it to that"
        )
    items, problems = [], []
    for entry in index.shards:
        shard = Shard(data.root, entry.name, entry.bytes, entry.sha256, data.cache_gib)

        def member(name: str, part: Part, shard: Shard = shard) -> Member:
            return Member(shard, f"{name}{part.suffix}", part.offset, part.size)

        for name, image, label in entry.samples:
            if label is not None:
                items.append(Item(name, member(name, image), member(name, label)))
            elif split is not None:
                problems.append(
                    f"{member(name, image)}: no label for this image, expected {name}.png in the same shard; add it"
                )
    if problems:
        raise DataError(summarize(problems))
    return items


def _complete_items(folders: SplitFolders) -> list[Item]:
    """Return the items of a split, all of which must be as they should be."""
    index = index_folders(folders)
    for path, other in index.same_names[:1]:
        raise DataError(f"{path}: {other.name} has the same name; which one is meant? Remove one")
    names = index.unnamed(folders) if folders.names is None else read_split(folders.names, index.images)
    listed = [index.item(name) for name in names]
    problems = [
        f"{folders.images / item.name}: no image of that name with one of {' '.join(IMAGE_SUFFIXES)}; add it or remove "
        "the name"
        for item in listed
        if item.image is None
    ]
    problems += [
        f"{item.image}: no label for this image, expected {folders.masks / item.name}.png; add it, or take the image "
        "out"
        for item in listed
        if item.image is not None and item.mask is None
    ]
    if problems:
        raise DataError(summarize(problems))
    return [Item(item.name, item.image, item.mask) for item in listed if item.image is not None]


LAYOUTS: dict[str, Callable[[DataConfig, str | None], list[Item]]] = {
    "voc": voc,
    "folders": folders,
    "webdataset": webdataset,
}
