"""What a data set holds, sound or not: the images that it names, and the files that nobody asked for.

`list_items` refuses the first thing that is wrong; here everything is listed, so that all of it can be said at once.
Not here: what is inside the files (doctor/measure), and what it means (doctor/findings).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from segkit.config.schema import DataConfig
from segkit.datasets.layouts import EVERYTHING, check_root, hold_out, list_items
from segkit.datasets.split_files import parse_split
from segkit.datasets.split_folders import (
    FolderIndex,
    ListedItem,
    SplitFolders,
    find_layout,
    find_split,
    has_split,
    index_files,
    index_folders,
    split_folders,
)
from segkit.errors import DataError

KNOWN_SPLITS = ("train", "val", "valid", "validation", "test")  # what a folder without a config is looked through for
JPEG_SUFFIXES = (".jpg", ".jpeg")
UNREAD_SUFFIXES = (".gif", ".heic", ".heif", ".avif", ".jp2", ".pgm", ".ppm", ".raw", ".dng", ".cr2", ".nef", ".psd")


@dataclass
class Inventory:
    """The images of a data set; `splits` holds their indices in `items`. An image in two splits is one item."""

    items: list[ListedItem] = field(default_factory=list)
    splits: dict[str, list[int]] = field(default_factory=dict)
    unlisted: list[Path] = field(default_factory=list)  # images with a label, in no split
    spare_labels: list[Path] = field(default_factory=list)  # labels without an image
    same_names: list[str] = field(default_factory=list)  # files of which another has the name
    unread: list[Path] = field(default_factory=list)  # images of formats that segkit doesn't read
    problems: list[str] = field(default_factory=list)  # of split files

    def split_of(self) -> list[list[str]]:
        """Return for each item the splits that it is in."""
        found: list[list[str]] = [[] for _ in self.items]
        for split, indices in self.splits.items():
            for index in indices:
                found[index].append(split)
        return found


def describe_folder(root: Path) -> DataConfig:
    """Return the config of a data set's folder that has none: its layout as it looks.

    Raises:
        DataError: the folder is missing, or is of no layout that folders have.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; expected a data set's folder, or the config of a run")
    return DataConfig(root=str(root), layout=find_layout(root))


def take_inventory(data: DataConfig, splits: Sequence[str] | None = None, *, seed: int = 0) -> Inventory:
    """List the images of the given splits; by default of data.train, data.val and, in folders, a test split.

    With data.val_fraction the two are drawn from all images; those that a test split lists are in it as well.

    Raises:
        DataError: the folder, or one of those splits, is missing.
    """
    check_root(data)
    if data.layout == "webdataset":
        return _of_shards(data, splits or (data.train, data.val), seed=seed)
    if data.val_fraction:
        return _held_out(data, seed=seed)
    names = splits or [data.train, data.val, *(["test"] if has_split(data, "test") else [])]
    return _of_folders(data, list(dict.fromkeys(names)))


def splits_there(data: DataConfig) -> list[str]:
    """Return which of the usual splits a folder has; `all` if none of them."""
    return [split for split in KNOWN_SPLITS if has_split(data, split)] or [EVERYTHING]


def _of_folders(data: DataConfig, splits: Sequence[str]) -> Inventory:
    found = Inventory()
    indexed: dict[tuple[Path, Path], FolderIndex] = {}
    index_of: dict[tuple[Path, str], int] = {}
    listed = False
    for split in splits:
        folders = split_folders(data, None if split == EVERYTHING else split)
        both = (folders.images, folders.masks)
        if both not in indexed:
            indexed[both] = _index_all(folders, found)
        index = indexed[both]
        if folders.names is None:
            names = index.unnamed(folders)
        else:
            names, problems = parse_split(folders.names, index.images)
            found.problems += problems
            listed = True
        found.splits[split] = []
        for name in names:
            key = (folders.images, name)
            if key not in index_of:
                index_of[key] = len(found.items)
                found.items.append(index.item(name))
            found.splits[split].append(index_of[key])
    for (image_root, _), index in indexed.items():
        found.spare_labels += [path for name, path in sorted(index.masks.items()) if name not in index.images]
        if listed:
            labelled = sorted(index.images.keys() & index.masks.keys())
            found.unlisted += [index.images[name] for name in labelled if (image_root, name) not in index_of]
    return found


def _held_out(data: DataConfig, *, seed: int) -> Inventory:
    found = _of_folders(data, [EVERYTHING])
    drawn = hold_out(found.items, data.val_fraction, seed=seed)
    found.splits = {
        split: [index for index, item in enumerate(found.items) if (item.name in drawn) == (split == data.val)]
        for split in (data.train, data.val)
    }
    test = find_split(data, "test")
    if test is not None and test.names is not None and test.names.is_file():
        listed = set(parse_split(test.names, {item.name for item in found.items})[0])
        found.splits["test"] = [index for index, item in enumerate(found.items) if item.name in listed]
    return found


def _of_shards(data: DataConfig, splits: Sequence[str], *, seed: int) -> Inventory:
    found = Inventory()
    for split in splits:
        items = list_items(data, split, seed=seed)
        found.splits[split] = list(range(len(found.items), len(found.items) + len(items)))
        found.items += [ListedItem(item.name, item.image, item.mask) for item in items]
    return found


def _index_all(folders: SplitFolders, found: Inventory) -> FolderIndex:
    """Index two folders, with JPEG labels too: such a label is none, but better named than missed."""
    index = index_folders(folders)
    found.same_names += [f"{path} and {other.name}" for path, other in index.same_names]
    found.unread += sorted(index_files(folders.images, UNREAD_SUFFIXES)[0].values())
    return index._replace(masks=index_files(folders.masks, JPEG_SUFFIXES)[0] | index.masks)
