"""The files of a data set in COCO's form: which JSON is which split, which images and categories it names, and where
the images are. Not here: what is in the annotations (coco, coco_panoptic).
"""

import os
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Literal

from pydantic import BaseModel

from segkit.datasets.images import IMAGE_SUFFIXES
from segkit.errors import DataError, summarize
from segkit.formats.documents import check, load_json
from segkit.formats.sample import NO_SPLIT
from segkit.formats.splits import is_split

_EXPECTED = "COCO's form: an object with the lists images, annotations and categories"
_KINDS = ("instances", "stuff", "panoptic")
_OTHER_FILES = ("captions", "person_keypoints", "image_info")  # of COCO's own folder
_NO_SPLIT_WORDS = ("", "default", "annotations", "coco", "_annotations", "result", "labels")


Identity = int | str
Crowd = Literal[0, 1, False, True] | None


class CocoContent(BaseModel, strict=True):
    """What a JSON file holds; the entries are checked one by one."""

    images: list[Any]
    annotations: list[Any]
    categories: list[Any]


class _Category(BaseModel, strict=True):
    id: int
    name: str


class _Image(BaseModel, strict=True):
    id: Identity
    file_name: str
    height: int | None = None
    width: int | None = None


@dataclass(frozen=True)
class CocoImage:
    """An image: its name in segkit, its file, and the (height, width) that the JSON says, where it does."""

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


def load_coco(file: CocoFile) -> CocoContent:
    """Return the lists of a JSON file.

    Raises:
        DataError: it is broken, or not of COCO's form.
    """
    plain = load_json(file.path, expected=_EXPECTED)
    if isinstance(plain, list):
        raise DataError(
            f"{file.path}: found a list, as of detection results, expected {_EXPECTED}; choose the file of annotations"
        )
    return check(plain, CocoContent, where=str(file.path), expected=_EXPECTED)


def read_categories(content: CocoContent, *, where: str) -> dict[int, str]:
    """Return the names of the categories by id, ascending.

    Raises:
        DataError: one is incomplete, or an id is listed twice.
    """
    categories: dict[int, str] = {}
    for number, entry in enumerate(content.categories, start=1):
        here = f"{where}: category {number}"
        category = check(entry, _Category, where=here, expected="an id, a whole number, and a name")
        if category.id in categories:
            raise DataError(f"{here}: the id {category.id} is listed twice, expected one of each; fix the file")
        categories[category.id] = category.name.strip()
    return dict(sorted(categories.items()))


def read_images(
    content: CocoContent, file: CocoFile, *, source: Path, images: Path | None
) -> dict[Identity, CocoImage]:
    """Return the images by id.

    Raises:
        DataError: entries are incomplete, an id or name is listed twice, or images are missing (the first ten).
    """
    folders = [*_image_folders(file, source, images)]
    found: dict[Identity, CocoImage] = {}
    names: set[str] = set()
    problems: list[str] = []
    for number, entry in enumerate(content.images, start=1):
        where = f"{file.path}: image {number}"
        image = check(entry, _Image, where=where, expected="id, file_name, and height and width in whole pixels")
        relative = _relative(image.file_name)
        name = relative.with_suffix("").as_posix() if relative.suffix.lower() in IMAGE_SUFFIXES else relative.as_posix()
        if image.id in found or name in names:
            raise DataError(
                f"{where}: {name} (id {image.id}): its id or name is listed twice, expected one entry per image"
            )
        path = _find(relative, folders)
        if path is None:
            problems.append(
                f"{file.path}: {relative}: no such image in {', '.join(map(str, folders[:3]))}; put it there, or give "
                "their folder: --images DIR"
            )
            continue
        names.add(name)
        found[image.id] = CocoImage(name, path, (image.height, image.width) if image.height and image.width else None)
    if problems:
        raise DataError(summarize(problems))
    return found


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
    """Return where the images of a JSON file may be, the likeliest first."""
    words = list(dict.fromkeys([file.split + file.year, file.split]))
    base = file.path.parent.parent if file.path.parent.name == "annotations" else file.path.parent
    if images is not None:
        return [*(images / word for word in words), images]
    roots = [base / "images", base, *([source] if source.is_dir() else [])]
    folders = [*(root / word for root in roots for word in words), *roots, file.path.parent]
    return list(dict.fromkeys(folder for folder in folders if folder.is_dir()))


def _find(relative: PurePosixPath, folders: list[Path]) -> Path | None:
    for folder in folders:
        if os.path.isfile(folder / relative):  # false for names that no file can have, too
            return folder / relative
    return None


def _relative(file_name: str) -> PurePosixPath:
    """Return a file's name as a path that stays in its folder: of one that doesn't, the last part."""
    named = PureWindowsPath(file_name)  # takes / and \ alike
    parts = [part for part in named.parts if part != "."]
    if named.drive or named.root or ".." in parts or not parts:
        return PurePosixPath(named.name)
    return PurePosixPath(*parts)
