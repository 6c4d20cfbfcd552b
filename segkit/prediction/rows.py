"""predictions.csv: a row per input, on the disk as soon as its outputs are, so that no end of a job loses it."""

import csv
import errno
import io
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from segkit.classes import Classes
from segkit.errors import RunFolderError
from segkit.prediction.cells import neutral
from segkit.runtime.files import write_bytes_durably

ELSEWHERE = "--output FOLDER"


@dataclass(frozen=True)
class Predicted:
    """What became of one input: its size, seconds and pixels by class, or its error."""

    name: str
    hw: tuple[int, int] | None = None
    pixels: tuple[int, ...] = ()
    seconds: float | None = None  # None where an earlier job, whose row is lost, has predicted it
    error: str = ""

    def cells(self, num_classes: int) -> list[Any]:
        """Return the row as the table holds it."""
        size = self.hw or ("", "")
        seconds = "" if self.seconds is None else f"{self.seconds:.4f}"
        return [neutral(self.name), *size, *(self.pixels or [""] * num_classes), seconds, neutral(self.error)]


class Rows:
    """A table of predictions that grows by a row at a time.

    It is UTF-8 whatever the names are: a byte that is none, E9 for instance, is written as \\udce9. Cells that a
    spreadsheet would take for a formula get an apostrophe in front.
    """

    def __init__(self, path: Path, classes: Classes, earlier: Iterable[Predicted] = ()) -> None:
        """Write the head and the rows of an earlier job.

        Raises:
            RunFolderError: no space or no permission.
        """
        self.path, self.classes = path, classes
        write_bytes_durably(path, self._table(earlier), elsewhere=ELSEWHERE)
        self._file = path.open("ab", buffering=0)

    def add(self, row: Predicted) -> None:
        """Append a row; on a disk without room for it, the table is left as it was.

        Raises:
            OSError: it can't be written.
        """
        end = self._file.tell()
        content = _encode([row.cells(len(self.classes))])
        try:
            written = self._file.write(content)
            if written != len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # a full disk takes a part first
        except OSError:
            self._file.truncate(end)
            raise

    def close(self) -> None:
        """End the table."""
        self._file.close()

    def _table(self, rows: Iterable[Predicted]) -> bytes:
        names = (f"pixels_{name}" for name in self.classes.names)
        head = ["input", "height", "width", *names, "seconds", "error"]
        return _encode([head, *(row.cells(len(self.classes)) for row in rows)])


def read_rows(path: Path, classes: Classes) -> dict[str, Predicted]:
    """Return the rows of an earlier job by their `input` cell, those with an error left out; none without a table.

    Raises:
        RunFolderError: the table is one of other classes.
    """
    if not path.is_file():
        return {}
    with path.open(encoding="utf-8", newline="") as file:
        table = list(csv.reader(file))
    names = [f"pixels_{name}" for name in classes.names]
    if not table or table[0] != ["input", "height", "width", *names, "seconds", "error"]:
        raise RunFolderError(
            f"{path}: not a table of these {len(classes)} classes, so what is in the folder is not of this model; "
            "choose another folder with --output, or start again with --overwrite"
        )
    rows = {}
    for name, *cells, error in (row for row in table[1:] if len(row) == len(table[0])):
        if not error:
            height, width, *pixels, seconds = cells
            rows[name] = Predicted(
                name, (int(height), int(width)), tuple(map(int, pixels)), float(seconds) if seconds else None
            )
    return rows


def earlier_row(rows: dict[str, Predicted], name: str) -> Predicted | None:
    """Return the row of an input by its path, whatever its cell looks like."""
    cell = neutral(name).encode("utf-8", "backslashreplace").decode()
    return replace(rows[cell], name=name) if cell in rows else None


def count_pixels(mask: np.ndarray, num_classes: int) -> tuple[int, ...]:
    """Return how many pixels of a mask, uint8 [h, w], each class has; those of no class aren't counted."""
    return tuple(np.bincount(mask.ravel(), minlength=num_classes)[:num_classes].tolist())


def _encode(rows: Sequence[Sequence[Any]]) -> bytes:
    table = io.StringIO(newline="")
    csv.writer(table, lineterminator="\n").writerows(rows)
    return table.getvalue().encode("utf-8", "backslashreplace")
