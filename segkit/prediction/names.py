"""The names of outputs: those of their inputs, and none twice on any file system."""

import itertools
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

SUFFIXES = (".png", ".jpg", ".tif", ".npz", ".json", ".geojson")  # that outputs add to a name


def output_names(relative: Sequence[Path]) -> list[str]:
    """Name the outputs of inputs, whose paths below their common folder all differ: `masks/<name>.png` and so on.

    A name is the path without its suffix. It keeps the suffix where it would be another's name, or that of a folder
    which outputs need, and gets a number where that is not enough. Names that differ only in case or in how an accent
    is stored count as equal, since they are on some file systems. `..` is left out: no output leaves its folder.
    """
    whole = [Path(*(part for part in path.parent.parts if part != ".."), path.name) for path in relative]
    folders = {_stored(parent.as_posix()) for path in whole for parent in path.parents}

    def is_free(name: str) -> bool:
        return not any(_stored(name + suffix) in folders for suffix in SUFFIXES)

    names = [path.with_suffix("").as_posix() for path in whole]
    settled = False
    while not settled:  # a kept suffix may make a name another's: a.jpg, a.png and a.jpg.png
        counts = Counter(map(_stored, names))
        unique = [counts[_stored(name)] == 1 and is_free(name) for name in names]
        longer = [name if alone else path.as_posix() for name, alone, path in zip(names, unique, whole, strict=True)]
        settled, names = longer == names, longer
    taken = {_stored(name) for name, alone in zip(names, unique, strict=True) if alone}
    for k in (k for k, alone in enumerate(unique) if not alone):
        numbered = itertools.chain([names[k]], (f"{names[k]}-{number}" for number in itertools.count(2)))
        names[k] = next(name for name in numbered if _stored(name) not in taken and is_free(name))
        taken.add(_stored(names[k]))
    return names


def _stored(name: str) -> str:
    """Return what is equal for two names where any file system takes them for one."""
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", name).casefold())
