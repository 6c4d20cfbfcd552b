"""Which colour means which class, in the notations that such lists come in.

`name:r,g,b:parts:actions` (labelmap.txt of CVAT), `r g b name` (label_colors.txt of CamVid) and `name,r,g,b` (CSV, with
or without a header). Lines that start with # are comments. The name __ignore__ may be listed more than once: its
colours are left out.
"""

import re
from pathlib import Path

from segkit.classes import RGB
from segkit.errors import DataError, summarize
from segkit.formats.documents import read_text
from segkit.formats.vocabulary import IGNORED

TABLE_FILES = ("labelmap.txt", "label_colors.txt", "class_dict.csv", "colors.csv")

_NOTATIONS = (
    re.compile(r"(?P<name>[^:]+):\s*(?P<r>[0-9]+)\s*,\s*(?P<g>[0-9]+)\s*,\s*(?P<b>[0-9]+)\s*(:.*)?"),
    re.compile(r"(?P<r>[0-9]+)\s+(?P<g>[0-9]+)\s+(?P<b>[0-9]+)\s+(?P<name>\S.*)"),
    re.compile(r"\"?(?P<name>[^\"]+?)\"?\s*,\s*(?P<r>[0-9]+)\s*,\s*(?P<g>[0-9]+)\s*,\s*(?P<b>[0-9]+)"),
)
_HEADER = re.compile(r"\w+\s*,\s*r(ed)?\s*,\s*g(reen)?\s*,\s*b(lue)?", re.IGNORECASE)


def find_color_table(root: Path) -> Path | None:
    """Return the list of colours that a data set brings along in its root, if it does."""
    return next((root / name for name in TABLE_FILES if (root / name).is_file()), None)


def read_color_table(path: Path) -> dict[RGB, str]:
    """Return the name of each colour, in the order of the file.

    Raises:
        DataError: the file can't be read or is empty, a line has none of the notations, or a colour or name is
            listed twice.
    """
    lines = read_text(path, expected="lines like name,r,g,b").splitlines()
    table: dict[RGB, str] = {}
    problems = []
    for number, line in enumerate(map(str.strip, lines), start=1):
        if not line or line.startswith("#") or _HEADER.fullmatch(line):
            continue
        found = next((match for notation in _NOTATIONS if (match := notation.fullmatch(line))), None)
        color = (int(found["r"]), int(found["g"]), int(found["b"])) if found else (256, 0, 0)
        name = found["name"].strip() if found else ""
        if not name or max(color) > 255:
            problems.append(f"{path} line {number}: found '{line[:60]}', expected name,r,g,b with values 0..255")
        elif color in table:
            problems.append(f"{path} line {number}: {color} is {table[color]} and {name}, expected one name per colour")
        elif name in table.values() and name != IGNORED:
            problems.append(f"{path} line {number}: {name} has a colour already; expected one per class")
        else:
            table[color] = name
    if problems:
        raise DataError(summarize(problems))
    if not table:
        raise DataError(f"{path}: found no colour, expected lines like name,r,g,b")
    return table
