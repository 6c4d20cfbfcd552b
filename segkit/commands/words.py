"""Settings among the words of a command line."""

from collections.abc import Iterable


def split_words(words: Iterable[str]) -> tuple[list[str], list[str]]:
    """Divide words into paths (or names) and settings, `key=value`. A path may hold a = behind a slash."""
    paths: list[str] = []
    overrides: list[str] = []
    for word in words:
        key, equals, _ = word.partition("=")
        (overrides if equals and "/" not in key else paths).append(word)
    return paths, overrides
