"""Which words of files and folders mean a split. They have no common rule; segkit's names are train, val and test."""

from collections.abc import Iterable, Mapping
from typing import TypeVar

from segkit.formats.sample import NO_SPLIT

SPLIT_WORDS = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test",
    "testing": "test",
}  # fmt: skip

T = TypeVar("T")


def is_split(word: str) -> bool:
    """True for the name of a folder that is a split's."""
    return word.lower() in SPLIT_WORDS


def rename_splits(splits: Mapping[str, T]) -> dict[str, T]:
    """Call splits train, val and test, as segkit does, where they are called valid and the like; not if two are one."""
    renamed = {SPLIT_WORDS.get(word.lower(), word): content for word, content in splits.items()}
    return renamed if len(renamed) == len(splits) else dict(splits)


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
