"""A folder on disk becomes items: which image, which label file, under which name, in which split.

To add a layout, write a function `(data, split) -> list[Item]` and give it a line in `LAYOUTS`. A split of None means
every item there is. Not here: what is inside the files (images, masks), and where in a tar they are (shard_index).
"""

import hashlib
import os
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from segkit.classes import VOC_NAMES, Classes, read_class_names
from segkit.config import DataConfig
from segkit.data.fetch import is_remote
from segkit.data.images import IMAGE_SUFFIXES
from segkit.data.masks import MASK_SUFFIXES
from segkit.data.shard_index import Part, read_split_index
from segkit.data.shards import File, Member, Shard
from segkit.errors import ConfigError, DataError, summarize

EVERYTHING = "all"  # the split that needs no split file


@dataclass(frozen=True)
class Item:
    """One picture of a data set. `name` is its path below the image folder, without suffix."""

    name: str
    image: File
    mask: File | None


def list_items(data: DataConfig, split: str, *, seed: int = 0, held_out: Collection[str] | None = None) -> list[Item]:
    """Return the items of a split, in the order of its file (or sorted, where there is no file).

    The split `all` is every picture that has a label. With `data.val_fraction`, `data.val` is a seeded share of
    everything and `data.train` the rest; `held_out` gives the names of that share as an earlier run drew it, so that
    new pictures can't move old ones between the two.

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
            raise DataError(f"{root}: no pictures below images/, expected files with one of {' '.join(IMAGE_SUFFIXES)}")
        if held_out is None:
            held_out = hold_out(everything, data.val_fraction, seed=seed)
        missing = set(held_out) - {item.name for item in everything}
        if missing:
            raise DataError(
                f"{root}: {sorted(missing)[0]} and {len(missing) - 1} more pictures were held out for validation by "
                "the run, but aren't there; put them back, or set data.root to the run's own data set (segkit eval "
                f"scores all that is there with --split {EVERYTHING})"
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


def hold_out(items: Sequence[Item], fraction: float, *, seed: int) -> set[str]:
    """Draw the names of a validation share: those whose hash with the seed is smallest; at least one, never all.

    A name's rank doesn't depend on the others, so the draw is the same on every machine and little moved by new files.
    """
    if len(items) < 2:
        raise DataError(f"data.val_fraction: found {len(items)} picture(s), expected at least 2 to split")
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
        there = f"{data.root} names none" if is_remote(data.root) else f"{_class_file(data)} isn't there"
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


def list_images(folder: Path) -> list[Path]:
    """Return every picture below `folder`, sorted by path; hidden files and folders are passed over."""
    found = []
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [
            Path(place, name) for name in files if name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith(".")
        ]
    return sorted(found)


# ---- layouts


def voc(data: DataConfig, split: str | None) -> list[Item]:
    """PASCAL VOC: JPEGImages/, SegmentationClass/, ImageSets/Segmentation/<split>.txt.

    The root is VOC2012 or VOC2007, or VOCdevkit, or the folder that holds VOCdevkit (VOC2012 goes first). Images may
    have any suffix. Without a split, every image that has a label.
    """
    root = voc_root(Path(data.root))
    images = _index(root / "JPEGImages", IMAGE_SUFFIXES)
    masks = _index(root / "SegmentationClass", MASK_SUFFIXES)
    if split is None:
        names = sorted(images.keys() & masks.keys())
    else:
        names = read_split(root / "ImageSets" / "Segmentation" / f"{split}.txt", images)
    return _pair(names, images, masks, root / "JPEGImages", root / "SegmentationClass")


def folders(data: DataConfig, split: str | None) -> list[Item]:
    """images/ and masks/, paired by name without suffix.

    A split is, whichever is there first: `<split>.txt` in the root or in splits/; the sub-folders <split>/images and
    <split>/masks; the sub-folders images/<split> and masks/<split>. Without a split, everything below images/.
    """
    root = Path(data.root)
    lists = [] if split is None else [root / f"{split}.txt", root / "splits" / f"{split}.txt"]
    split_file = next((path for path in lists if path.is_file()), None)
    image_root, mask_root = root / "images", root / "masks"
    if split is not None and split_file is None:
        if (root / split / "images").is_dir():
            image_root, mask_root = root / split / "images", root / split / "masks"
        elif (image_root / split).is_dir():
            image_root, mask_root = image_root / split, mask_root / split
        else:
            raise DataError(
                f"{root}: no split '{split}': found neither {lists[0].name}, nor splits/{lists[0].name}, nor "
                f"{split}/images/, nor images/{split}/; add one, or set data.val_fraction: 0.2 to hold out a fifth"
            )
    images, masks = _index(image_root, IMAGE_SUFFIXES), _index(mask_root, MASK_SUFFIXES)
    names = sorted(images) if split_file is None else read_split(split_file, images)
    return _pair(names, images, masks, image_root, mask_root)


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


LAYOUTS: dict[str, Callable[[DataConfig, str | None], list[Item]]] = {
    "voc": voc,
    "folders": folders,
    "webdataset": webdataset,
}


# ---- files and names


def read_split(path: Path, known: Collection[str]) -> list[str]:
    """Read the names of a split, one per line. CRLF, a BOM, blank lines, trailing spaces and VOC's second column (an
    object label -1, 0 or 1 behind the name) are fine, and so is a file suffix behind a name.

    Raises:
        DataError: the file is missing, empty or no text, a name leaves the data set, or stands there twice.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError as error:
        others = sorted(other.stem for other in path.parent.glob("*.txt"))
        hint = f"there are: {', '.join(others)}" if others else f"{path.parent} holds no split files"
        raise DataError(
            f"{path}: no such split file; {hint}. Set data.train and data.val to the ones you mean"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: can't read this split file; expected UTF-8 text, one image name per line") from error
    names, problems = [], []
    for number, line in enumerate(lines, start=1):
        name = line.strip()
        if not name:
            continue
        if name not in known:
            name = re.sub(r"\s+-?[01]$", "", name)
        if name not in known and name.lower().endswith(IMAGE_SUFFIXES):
            name = name.rpartition(".")[0]
        if ".." in PurePosixPath(name).parts or re.match(r"[/\\]|[A-Za-z]:", name):
            problems.append(
                f"{path} line {number}: '{name}' leaves the data set; expected a name below its image folder"
            )
        names.append(name)
    twice = sorted(name for name, count in _count(names).items() if count > 1)
    problems += [
        f"{path}: '{name}' stands there more than once; every picture counts once, remove one" for name in twice
    ]
    if problems:
        raise DataError(summarize(problems))
    if not names:
        raise DataError(f"{path}: the split file is empty; expected one image name per line")
    return names


def _pair(
    names: Sequence[str], images: dict[str, Path], masks: dict[str, Path], image_root: Path, mask_root: Path
) -> list[Item]:
    problems = [
        f"{image_root / name}: no image of that name with one of {' '.join(IMAGE_SUFFIXES)}; add it or remove the name"
        for name in names
        if name not in images
    ]
    problems += [
        f"{images[name]}: no label for this image, expected {mask_root / name}.png; add it, or take the image out"
        for name in names
        if name in images and name not in masks
    ]
    if problems:
        raise DataError(summarize(problems))
    return [Item(name, images[name], masks[name]) for name in names]


def _index(folder: Path, suffixes: Sequence[str]) -> dict[str, Path]:
    """Return {path below the folder, cut at the last dot: file} for every file with one of the suffixes."""
    if not folder.is_dir():
        raise DataError(
            f"{folder}: no such folder; expected it there by data.layout, see 'your own data' in the README"
        )
    index: dict[str, Path] = {}
    for place, inner, files in os.walk(folder):
        inner[:] = [name for name in inner if not name.startswith(".")]
        for file in files:
            if file.startswith(".") or not file.lower().endswith(tuple(suffixes)):
                continue
            path = Path(place, file)
            name = path.relative_to(folder).as_posix().rpartition(".")[0]
            if name in index:
                raise DataError(f"{path}: {index[name].name} has the same name; which one is meant? Remove one")
            index[name] = path
    return index


def _class_file(data: DataConfig) -> Path:
    root = Path(data.root)
    return (voc_root(root) if data.layout == "voc" else root) / "classes.txt"


def voc_root(root: Path) -> Path:
    """Return the folder that holds JPEGImages and SegmentationClass: the root, or where VOC's archives put it."""
    for inner in ("", "VOC2012", "VOC2007", "VOCdevkit/VOC2012", "VOCdevkit/VOC2007"):
        if (root / inner / "SegmentationClass").is_dir():
            return root / inner
    return root


def _count(names: Sequence[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for name in names:
        counts[name] = counts.get(name, 0) + 1
    return counts
