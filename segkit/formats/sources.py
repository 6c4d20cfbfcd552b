"""The files around labels, of which nothing is trusted: JSON and its fields, pictures that are looked for by name.

Splits have no common rule; what the formats here share is that folders called train, val (valid) and test are splits.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from segkit.data.images import IMAGE_SUFFIXES
from segkit.data.prefetch import prefetch
from segkit.errors import DataError, summarize
from segkit.formats.pictures import NO_SPLIT
from segkit.runtime import count_threads

SPLIT_WORDS = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test",
    "testing": "test",
}  # fmt: skip

T = TypeVar("T")
R = TypeVar("R")


def load_json(path: Path) -> Any:
    """Return what a JSON file holds; NaN and Infinity, which are no JSON, are refused.

    Raises:
        DataError: it can't be read, or is broken.
    """
    try:
        return json.loads(path.read_bytes(), parse_constant=_refuse_constant)
    except OSError as error:
        raise DataError(f"{path}: can't be read ({error.strerror}); check the path and its permissions") from error
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{path}: broken JSON ({error}), expected a whole file; copy or save it again, or remove it"
        ) from error


def read_lines(path: Path) -> list[str]:
    """Return the lines of a text file in UTF-8, with or without a BOM.

    Raises:
        DataError: it can't be read, or is no text.
    """
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise DataError(f"{path}: can't be read ({error.strerror}); check the path and its permissions") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not a text file, expected one in UTF-8; copy or save it again") from error


def field(entry: object, key: str, kinds: type | tuple[type, ...], *, where: str) -> Any:
    """Return a field of a JSON object, which must be there and of a kind. A number is no boolean here.

    Raises:
        DataError: the entry is no object, or the field is missing or of another kind.
    """
    kinds = kinds if isinstance(kinds, tuple) else (kinds,)
    if not isinstance(entry, dict):
        raise DataError(f"{where}: found {_describe(entry)}, expected an object {{...}}; mend the file or make it anew")
    value = entry.get(key)
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        expected = " or ".join(_NAMES.get(kind, kind.__name__) for kind in kinds)
        found = _describe(value) if key in entry else "nothing"
        raise DataError(f"{where}: {key}: found {found}, expected {expected}; mend the file or make it anew")
    return value


def optional_field(entry: dict[str, Any], key: str, kinds: type | tuple[type, ...], *, where: str) -> Any:
    """As `field`, but None where it is missing or null."""
    return None if entry.get(key) is None else field(entry, key, kinds, where=where)


def collect(function: Callable[[T], R], inputs: Iterable[T]) -> Iterator[tuple[T, R]]:
    """Yield (x, function(x)), computed by threads, in order; errors come at the end, as one.

    Raises:
        DataError: with the first ten messages and how many there are.
    """

    def attempt(given: T) -> tuple[T, R | None, str | None]:
        try:
            return given, function(given), None
        except DataError as error:
            return given, None, str(error)

    problems = []
    for given, result, problem in prefetch(attempt, inputs, threads=count_threads(), ahead=32):
        if problem is None:
            yield given, result  # type: ignore[misc]
        else:
            problems.append(problem)
    if problems:
        raise DataError(summarize(problems))


def list_images(folder: Path) -> list[Path]:
    """Return the pictures of a folder and the folders in it, sorted; hidden ones are left out."""
    return list_files(folder, *IMAGE_SUFFIXES)


def list_files(folder: Path, *suffixes: str) -> list[Path]:
    """Return the files below a folder that end with one of the suffixes (lower case), sorted, hidden ones left out."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in suffixes
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
    )


def find_beside(stem: Path) -> Path | None:
    """Return the picture of this path without suffix, in whatever case its suffix is; None where there is none, or
    several.
    """
    found = [
        path
        for suffix in IMAGE_SUFFIXES
        for path in (stem.with_name(stem.name + suffix), stem.with_name(stem.name + suffix.upper()))
        if path.is_file()
    ]
    found = [path for path in found if not any(path.samefile(other) for other in found[: found.index(path)])]
    return found[0] if len(found) == 1 else None


def split_by_folder(names: Iterable[str]) -> dict[str, dict[str, str]]:
    """Return names (parts joined by '/') by split, each with what remains of it there, sorted.

    They have splits where the first folder of every one is called as a split is.
    """
    names = sorted(names)
    parts = [name.partition("/") for name in names]
    if not all(slash and is_split(first) for first, slash, _ in parts):
        return {NO_SPLIT: {name: name for name in names}}
    splits: dict[str, dict[str, str]] = {}
    for first, slash, rest in parts:
        splits.setdefault(first, {})[first + slash + rest] = rest
    return rename_splits(splits)


def is_split(word: str) -> bool:
    """True for the name of a folder that is a split's."""
    return word.lower() in SPLIT_WORDS


def rename_splits(splits: dict[str, T]) -> dict[str, T]:
    """Call splits train, val and test, as segkit does, where they are called valid and the like; not if two are one."""
    renamed = {SPLIT_WORDS.get(word.lower(), word): content for word, content in splits.items()}
    return renamed if len(renamed) == len(splits) else splits


def count(number: int, noun: str) -> str:
    """Return '1 picture', '2 pictures'."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


_NAMES: dict[type, str] = {
    dict: "an object {...}",
    list: "a list [...]",
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
}


def _describe(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _refuse_constant(name: str) -> None:
    raise ValueError(f"the value {name}")
