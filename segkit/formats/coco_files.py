"""The files of a data set in COCO's form: which JSON is which split, which pictures and categories it names, and where
the pictures are. Not here: what is in the annotations (coco, coco_panoptic).
"""

import os
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from segkit.data.images import IMAGE_SUFFIXES
from segkit.errors import DataError, summarize
from segkit.formats.pictures import NO_SPLIT
from segkit.formats.sources import field, is_split, load_json, optional_field

_KINDS = ("instances", "stuff", "panoptic")
_OTHER_FILES = ("captions", "person_keypoints", "image_info")  # of COCO's own folder
_NO_SPLIT_WORDS = ("", "default", "annotations", "coco", "_annotations", "result", "labels")


@dataclass(frozen=True)
class CocoImage:
    """A picture: its name in segkit, its file, and the (height, width) that the JSON says, where it does."""

    name: str
    file: Path
    size_hw: tuple[int, int] | None


@dataclass(frozen=True)
class CocoFile:
    """One JSON file. `kind` is instances, stuff or panoptic, by its name; instances where that says nothing."""

    path: Path
    kind: str
    split: str
    year: str  # as in train2017, or empty


def list_coco_files(source: Path, *, panoptic: bool) -> list[CocoFile]:
    """Return the JSON files of a source: itself, or those in annotations/, in the folder, or in its folders train,
    val and test.

    Raises:
        DataError: there are none.
    """
    if source.is_file():
        paths = [source]
    else:
        if not source.is_dir():
            raise DataError(f"{source}: no such file or folder, expected COCO's JSON file, or the folder of several")
        splits = sorted(path for path in source.iterdir() if path.is_dir() and is_split(path.name))
        folders = [source / "annotations", source, *splits]
        paths = [path for folder in folders for path in sorted(folder.glob("*.json"))]
    files = [_describe(path) for path in paths if not path.name.startswith(_OTHER_FILES)]
    if not source.is_file():
        files = [file for file in files if (file.kind == "panoptic") == panoptic]
    if len(files) == 1 and not is_split(files[0].split) and not files[0].path.name.startswith(_KINDS):
        files = [replace(files[0], split=NO_SPLIT)]  # one JSON of any name
    if not files:
        wanted = "panoptic_*.json" if panoptic else "instances_*.json, stuff_*.json or others of COCO's form"
        raise DataError(
            f"{source}: no annotations there, expected a JSON file, or a folder with {wanted} in it or in annotations/"
        )
    return files


def _describe(path: Path) -> CocoFile:
    words = path.stem.removesuffix(".coco").lower()
    kind = next((kind for kind in _KINDS if re.search(rf"(^|[_-]){kind}([_-]|$)", words)), "instances")
    words = re.sub(rf"(^|[_-]){kind}([_-]|$)", "", words, count=1)
    found = re.fullmatch(r"(.*?)((?:19|20)\d\d)?", words)
    assert found
    split, year = found[1].strip("_-"), found[2] or ""
    if split in (word.strip("_") for word in _NO_SPLIT_WORDS):
        split = path.parent.name if is_split(path.parent.name) else NO_SPLIT
    return CocoFile(path, kind, split, year)


def load_coco(file: CocoFile) -> dict[str, Any]:
    """Return a JSON file's object, in which images, annotations and categories are lists.

    Raises:
        DataError: it is broken, or not of COCO's form.
    """
    plain = load_json(file.path)
    if isinstance(plain, list):
        raise DataError(
            f"{file.path}: found a list, as of detection results, expected annotations: an object with images, "
            "annotations and categories"
        )
    for key in ("images", "annotations", "categories"):
        field(plain, key, list, where=str(file.path))
    return plain


def read_categories(plain: dict[str, Any], *, where: str) -> dict[int, str]:
    """Return the names of the categories by id, ascending.

    Raises:
        DataError: one is incomplete, or an id stands there twice.
    """
    categories: dict[int, str] = {}
    for number, entry in enumerate(plain["categories"], start=1):
        category = field(entry, "id", int, where=f"{where}: category {number}")
        if category in categories:
            raise DataError(f"{where}: category {number}: the id {category} stands there twice, expected one of each")
        categories[category] = field(entry, "name", str, where=f"{where}: category {number}").strip()
    return dict(sorted(categories.items()))


def read_images(
    plain: dict[str, Any], file: CocoFile, *, source: Path, images: Path | None
) -> dict[int | str, CocoImage]:
    """Return the pictures by id.

    Raises:
        DataError: entries are incomplete, an id or name stands there twice, or pictures are missing (the first ten).
    """
    folders = [*_image_folders(file, source, images)]
    found: dict[int | str, CocoImage] = {}
    names: set[str] = set()
    problems: list[str] = []
    for number, entry in enumerate(plain["images"], start=1):
        where = f"{file.path}: image {number}"
        identity: int | str = field(entry, "id", (int, str), where=where)
        place = _relative(field(entry, "file_name", str, where=where))
        name = place.with_suffix("").as_posix() if place.suffix.lower() in IMAGE_SUFFIXES else place.as_posix()
        if identity in found or name in names:
            raise DataError(
                f"{where}: {name} (id {identity}): its id or name stands there twice, expected one entry per picture"
            )
        path = _find(place, folders)
        if path is None:
            problems.append(
                f"{file.path}: {place}: no such picture in {', '.join(map(str, folders[:3]))}; put it there, or give "
                "their folder: --images DIR"
            )
            continue
        size = [optional_field(entry, key, int, where=where) for key in ("height", "width")]
        names.add(name)
        found[identity] = CocoImage(name, path, (size[0], size[1]) if size[0] and size[1] else None)
    if problems:
        raise DataError(summarize(problems))
    return found


def check_sizes(image: CocoImage, there_hw: tuple[int, int], *, where: str) -> None:
    """Compare the size that the JSON says with that of the upright picture.

    Raises:
        DataError: they differ.
    """
    if image.size_hw and image.size_hw != there_hw:
        raise DataError(
            f"{where}: {image.name} is said to have {image.size_hw[1]}x{image.size_hw[0]} pixels (width x height), but "
            f"{image.file} has {there_hw[1]}x{there_hw[0]} upright; expected the picture that was labelled (one that "
            "EXIF turns has to be turned for good, and its labels with it)"
        )


def join_splits(files: Iterable[CocoFile], kinds: Collection[str]) -> dict[str, list[CocoFile]]:
    """Return the files by split; a split has at most one file of each kind.

    Raises:
        DataError: it has several, as of two years.
    """
    splits: dict[str, list[CocoFile]] = {}
    for file in files:
        others = splits.setdefault(file.split, [])
        same = next((other for other in others if other.kind == file.kind), None)
        if same or (others and file.kind not in kinds):
            raise DataError(
                f"{(same or others[0]).path} and {file.path} are both of the split '{file.split}', expected one file; "
                "give the one you mean, or a folder that holds it alone"
            )
        others.append(file)
    return splits


def _image_folders(file: CocoFile, source: Path, images: Path | None) -> list[Path]:
    """Return where the pictures of a JSON file may be, the likeliest first."""
    words = list(dict.fromkeys([file.split + file.year, file.split]))
    base = file.path.parent.parent if file.path.parent.name == "annotations" else file.path.parent
    if images is not None:
        return [*(images / word for word in words), images]
    places = [base / "images", base, *([source] if source.is_dir() else [])]
    folders = [*(place / word for place in places for word in words), *places, file.path.parent]
    return list(dict.fromkeys(folder for folder in folders if folder.is_dir()))


def _find(place: PurePosixPath, folders: list[Path]) -> Path | None:
    for folder in folders:
        if os.path.isfile(folder / place):  # false for names that no file can have, too
            return folder / place
    return None


def _relative(file_name: str) -> PurePosixPath:
    """Return a file's name as a path that stays in its folder: of one that doesn't, the last part."""
    named = PureWindowsPath(file_name)  # takes / and \ alike
    parts = [part for part in named.parts if part != "."]
    if named.drive or named.root or ".." in parts or not parts:
        return PurePosixPath(named.name)
    return PurePosixPath(*parts)
