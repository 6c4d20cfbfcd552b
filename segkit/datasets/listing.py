"""What is there of a data set, sound or not: the pictures that it names, and the files that nobody asked for.

`list_items` refuses the first thing that is wrong; here everything is listed, so that all of it can be told at once.
Not here: what is inside the files (facts), and what it means (verdicts).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from segkit.config.schema import DataConfig
from segkit.datasets.files import File
from segkit.datasets.images import IMAGE_SUFFIXES
from segkit.datasets.layouts import (
    EVERYTHING,
    Place,
    find_layout,
    folders_place,
    hold_out,
    index_files,
    list_items,
    voc_place,
)
from segkit.datasets.masks import MASK_SUFFIXES
from segkit.datasets.split_files import parse_split
from segkit.errors import DataError

KNOWN_SPLITS = ("train", "val", "valid", "validation", "test")  # what a folder without a config is looked through for
JPEG_SUFFIXES = (".jpg", ".jpeg")
UNREAD_SUFFIXES = (".gif", ".heic", ".heif", ".avif", ".jp2", ".pgm", ".ppm", ".raw", ".dng", ".cr2", ".nef", ".psd")


@dataclass(frozen=True, slots=True)
class Pair:
    """A picture that a data set names, and its two files, as far as they are there."""

    name: str
    image: File | None
    mask: File | None


@dataclass
class Inventory:
    """The pictures of a data set; `splits` holds their places in `pairs`. A picture in two splits is one pair."""

    pairs: list[Pair] = field(default_factory=list)
    splits: dict[str, list[int]] = field(default_factory=dict)
    unlisted: list[Path] = field(default_factory=list)  # pictures with a label, in no split
    spare_labels: list[Path] = field(default_factory=list)  # labels without a picture
    same_names: list[str] = field(default_factory=list)  # files of which another has the name
    unread: list[Path] = field(default_factory=list)  # pictures of formats that segkit doesn't read
    problems: list[str] = field(default_factory=list)  # of split files

    def split_of(self) -> list[list[str]]:
        """Return for each pair the splits that it is in."""
        found: list[list[str]] = [[] for _ in self.pairs]
        for split, places in self.splits.items():
            for place in places:
                found[place].append(split)
        return found


def describe_folder(root: Path) -> DataConfig:
    """Return the config of a data set's folder that has none: its layout as it looks.

    Raises:
        DataError: the folder isn't there, or is of no layout that folders have.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; expected a data set's folder, or the config of a run")
    return DataConfig(root=str(root), layout=find_layout(root))


def take_inventory(data: DataConfig, splits: Sequence[str] | None = None, *, seed: int = 0) -> Inventory:
    """List the pictures of the given splits; by default of data.train, data.val and, in folders, a test split.

    With data.val_fraction the two are drawn from all pictures; those that a test split lists are in it as well.

    Raises:
        DataError: the folder, or one of those splits, isn't there.
    """
    if data.layout == "webdataset":
        return _of_shards(data, splits or (data.train, data.val), seed=seed)
    if data.val_fraction:
        return _held_out(data, seed=seed)
    names = splits or [data.train, data.val, *(["test"] if _is_there(data, "test") else [])]
    return _of_folders(data, list(dict.fromkeys(names)))


def splits_there(data: DataConfig) -> list[str]:
    """Return which of the usual splits a folder has; `all` if none of them."""
    return [split for split in KNOWN_SPLITS if _is_there(data, split)] or [EVERYTHING]


def _place(data: DataConfig, split: str | None) -> Place | None:
    return voc_place(data, split) if data.layout == "voc" else folders_place(data, split)


def _is_there(data: DataConfig, split: str) -> bool:
    place = _place(data, split)
    return place is not None and (place.names is None or place.names.is_file())


def _of_folders(data: DataConfig, splits: Sequence[str]) -> Inventory:
    found = Inventory()
    indices: dict[tuple[Path, Path], tuple[dict[str, Path], dict[str, Path]]] = {}
    places: dict[tuple[Path, str], int] = {}
    listed = False
    for split in splits:
        place = _place(data, None if split == EVERYTHING else split)
        if place is None:
            list_items(data, split)  # raises, and says where it was looked for
            raise AssertionError(split)
        folders = (place.images, place.masks)
        if folders not in indices:
            indices[folders] = _index_both(*folders, found)
        images, masks = indices[folders]
        if place.names is not None:
            names, problems = parse_split(place.names, images)
            found.problems += problems
            listed = True
        elif data.layout == "voc":  # without split files, what has a label
            names = sorted(images.keys() & masks.keys())
        else:
            names = sorted(images)
        found.splits[split] = []
        for name in names:
            key = (place.images, name)
            if key not in places:
                places[key] = len(found.pairs)
                found.pairs.append(Pair(name, images.get(name), masks.get(name)))
            found.splits[split].append(places[key])
    for (image_root, _), (images, masks) in indices.items():
        found.spare_labels += [path for name, path in sorted(masks.items()) if name not in images]
        if listed:
            both = sorted(images.keys() & masks.keys())
            found.unlisted += [images[name] for name in both if (image_root, name) not in places]
    return found


def _held_out(data: DataConfig, *, seed: int) -> Inventory:
    found = _of_folders(data, [EVERYTHING])
    drawn = hold_out(found.pairs, data.val_fraction, seed=seed)
    found.splits = {
        split: [place for place, pair in enumerate(found.pairs) if (pair.name in drawn) == (split == data.val)]
        for split in (data.train, data.val)
    }
    test = _place(data, "test")
    if test is not None and test.names is not None and test.names.is_file():
        listed = set(parse_split(test.names, {pair.name for pair in found.pairs})[0])
        found.splits["test"] = [place for place, pair in enumerate(found.pairs) if pair.name in listed]
    return found


def _of_shards(data: DataConfig, splits: Sequence[str], *, seed: int) -> Inventory:
    found = Inventory()
    for split in splits:
        items = list_items(data, split, seed=seed)
        found.splits[split] = list(range(len(found.pairs), len(found.pairs) + len(items)))
        found.pairs += [Pair(item.name, item.image, item.mask) for item in items]
    return found


def _index_both(image_root: Path, mask_root: Path, found: Inventory) -> tuple[dict[str, Path], dict[str, Path]]:
    images, same = index_files(image_root, IMAGE_SUFFIXES)
    masks, also = index_files(mask_root, MASK_SUFFIXES)
    masks = index_files(mask_root, JPEG_SUFFIXES)[0] | masks  # a JPEG label is no label, but better named than missed
    found.same_names += [f"{path} and {images[name].name}" for name, path in same.items()]
    found.same_names += [f"{path} and {masks[name].name}" for name, path in also.items()]
    found.unread += sorted(index_files(image_root, UNREAD_SUFFIXES)[0].values())
    return images, masks
