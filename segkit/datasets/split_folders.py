"""Where the layouts voc and folders keep a split, and which files are there, whether they fit together or not."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import NamedTuple

from segkit.config.schema import DataConfig, LayoutName
from segkit.datasets.files import File
from segkit.datasets.images import IMAGE_SUFFIXES
from segkit.datasets.masks import MASK_SUFFIXES
from segkit.errors import DataError


@dataclass(frozen=True, slots=True)
class ListedItem:
    """An image that a data set names, and its files as far as they exist; an `Item` promises its image."""

    name: str
    image: File | None
    mask: File | None


@dataclass(frozen=True)
class SplitFolders:
    """The folders of a split's images and labels, and the file that names its images.

    Without such a file the split is all images there; with `labelled_only`, those that have a label.
    """

    images: Path
    masks: Path
    names: Path | None
    labelled_only: bool = False


def find_split(data: DataConfig, split: str | None) -> SplitFolders | None:
    """Return where the layout voc or folders has a split; of None, everything. None: it doesn't exist, as far as
    folders tell; a file that should name its images may still be missing.
    """
    root = Path(data.root)
    if data.layout == "voc":
        root = voc_root(root)
        names = None if split is None else root / "ImageSets" / "Segmentation" / f"{split}.txt"
        return SplitFolders(root / "JPEGImages", root / "SegmentationClass", names, labelled_only=True)
    if split is None:
        return SplitFolders(root / "images", root / "masks", None)
    for path in (root / f"{split}.txt", root / "splits" / f"{split}.txt"):
        if path.is_file():
            return SplitFolders(root / "images", root / "masks", path)
    for images, masks in ((f"{split}/images", f"{split}/masks"), (f"images/{split}", f"masks/{split}")):
        if (root / images).is_dir():
            return SplitFolders(root / images, root / masks, None)
    return None


def split_folders(data: DataConfig, split: str | None) -> SplitFolders:
    """Return where the layout voc or folders has a split; of None, everything.

    Raises:
        DataError: it is missing.
    """
    folders = find_split(data, split)
    if folders is None:
        raise DataError(
            f"{data.root}: no split '{split}': found neither {split}.txt, nor splits/{split}.txt, nor {split}/images/, "
            f"nor images/{split}/; add one, or set data.val_fraction: 0.2 to hold out a fifth"
        )
    return folders


def has_split(data: DataConfig, split: str) -> bool:
    """True if a data set of layout voc or folders has the split."""
    folders = find_split(data, split)
    return folders is not None and (folders.names is None or folders.names.is_file())


def find_layout(root: Path) -> LayoutName:
    """Tell by its folders which layout a data set has.

    Raises:
        DataError: neither of those that have split files.
    """
    if (voc_root(root) / "SegmentationClass").is_dir():
        return "voc"
    if (root / "images").is_dir() and (root / "masks").is_dir():
        return "folders"
    if any((inner / "images").is_dir() and (inner / "masks").is_dir() for inner in _folders_in(root)):
        return "folders"
    raise DataError(
        f"{root}: found neither images/ and masks/, nor JPEGImages/ and SegmentationClass/; expected the folder of a "
        "data set"
    )


def _folders_in(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []


def voc_root(root: Path) -> Path:
    """Return the folder that holds JPEGImages and SegmentationClass: the root, or where VOC's archives put it."""
    for inner in ("", "VOC2012", "VOC2007", "VOCdevkit/VOC2012", "VOCdevkit/VOC2007"):
        if (root / inner / "SegmentationClass").is_dir():
            return root / inner
    return root


class FolderIndex(NamedTuple):
    """Files by name: images, labels, and those whose name another one has, as (file, that other one)."""

    images: dict[str, Path]
    masks: dict[str, Path]
    same_names: list[tuple[Path, Path]]

    def unnamed(self, folders: SplitFolders) -> list[str]:
        """Return the names of a split that no file lists."""
        return sorted(self.images.keys() & self.masks.keys() if folders.labelled_only else self.images)

    def item(self, name: str) -> ListedItem:
        """Return what there is of a name."""
        return ListedItem(name, self.images.get(name), self.masks.get(name))


def index_folders(folders: SplitFolders) -> FolderIndex:
    """Return what two folders hold. Raises DataError where one doesn't exist."""
    images, same_images = index_files(folders.images, IMAGE_SUFFIXES)
    masks, same_masks = index_files(folders.masks, MASK_SUFFIXES)
    same_names = [(path, images[name]) for name, path in same_images.items()]
    same_names += [(path, masks[name]) for name, path in same_masks.items()]
    return FolderIndex(images, masks, same_names)


def index_files(folder: Path, suffixes: Sequence[str]) -> tuple[dict[str, Path], dict[str, Path]]:
    """Return {path below the folder, cut at the last dot: file} for every file with one of the suffixes.

    Hidden files are left out. The second is the same of files whose name another one has already.

    Raises:
        DataError: no such folder.
    """
    if not folder.is_dir():
        raise DataError(
            f"{folder}: no such folder; expected it there by data.layout, see 'your own data' in the README"
        )
    index: dict[str, Path] = {}
    twice: dict[str, Path] = {}
    for parent, inner, files in os.walk(folder):
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        below = os.path.relpath(parent, folder)
        prefix = "" if below == "." else PurePath(below).as_posix() + "/"
        for file in sorted(files):
            if file.startswith(".") or not file.lower().endswith(tuple(suffixes)):
                continue
            name = prefix + file.rpartition(".")[0]
            (twice if name in index else index)[name] = Path(parent, file)
    return index, twice
