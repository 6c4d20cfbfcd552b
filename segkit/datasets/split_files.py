"""Split files: which images belong to a split, one name per line."""

import re
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path, PurePosixPath

from segkit.datasets.images import IMAGE_SUFFIXES
from segkit.errors import DataError, summarize


def read_split(path: Path, known: Collection[str]) -> list[str]:
    """Read the names of a split, one per line. CRLF, a BOM, blank lines, trailing spaces and VOC's second column (an
    object label -1, 0 or 1 behind the name) are fine, and so is a file suffix behind a name.

    Raises:
        DataError: the file is missing, empty or no text, a name leaves the data set, or is listed twice.
    """
    names, problems = _names_in(_lines_of(path), path, known)
    if problems:
        raise DataError(summarize(problems))
    if not names:
        raise DataError(f"{path}: the split file is empty; expected one image name per line")
    return names


def parse_split(path: Path, known: Collection[str]) -> tuple[list[str], list[str]]:
    """Return the names of a split that can be used, each once, and what is wrong with the rest in `read_split`'s words.

    Raises:
        DataError: the file is missing or no text.
    """
    names, problems = _names_in(_lines_of(path), path, known)
    usable = [name for name in dict.fromkeys(names) if not _leaves(name)]
    return usable, problems


def _names_in(lines: Sequence[str], path: Path, known: Collection[str]) -> tuple[list[str], list[str]]:
    names, problems = [], []
    for number, line in enumerate(lines, start=1):
        name = line.strip()
        if not name:
            continue
        if name not in known:
            name = re.sub(r"\s+-?[01]$", "", name)
        if name not in known and name.lower().endswith(IMAGE_SUFFIXES):
            name = name.rpartition(".")[0]
        if _leaves(name):
            problems.append(
                f"{path} line {number}: '{name}' leaves the data set; expected a name below its image folder"
            )
        names.append(name)
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    problems += [f"{path}: '{name}' is listed twice; every image counts once, remove one" for name in twice]
    return names, problems


def _leaves(name: str) -> bool:
    return ".." in PurePosixPath(name).parts or re.match(r"[/\\]|[A-Za-z]:", name) is not None


def _lines_of(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError as error:
        others = sorted(other.stem for other in path.parent.glob("*.txt"))
        hint = f"there are: {', '.join(others)}" if others else f"{path.parent} holds no split files"
        raise DataError(
            f"{path}: no such split file; {hint}. Set data.train and data.val to the ones you mean"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: can't read this split file; expected UTF-8 text, one image name per line") from error
