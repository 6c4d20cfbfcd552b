"""Turn the stored values of label files into class ids, by a table of ids or of colours."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from segkit.classes import RGB
from segkit.datasets.files import File
from segkit.datasets.masks import ValueTable, color_codes, color_of, read_label_values
from segkit.errors import DataError, listed


def hex_color(text: str) -> RGB:
    """Return the colour that tools write as #rrggbb."""
    return color_of(int(text.removeprefix("#"), 16))


@dataclass(frozen=True)
class LabelTable:
    """Class id by stored id, or by colour code if `by_color`. Palette files hold ids, never colours."""

    ids: Mapping[int, int]
    by_color: bool = False
    remedy: str = "fix the label, or choose another format"

    def __call__(self, path: File) -> np.ndarray:
        """Return the label file as class ids uint8 [h, w].

        Raises:
            DataError: the file can't be read, holds ids for colours or the reverse, or a value that the table lacks.
        """
        return self.translate(path, read_label_values(path))

    def translate(self, path: File, stored: np.ndarray) -> np.ndarray:
        """Return what `read_label_values` returned as class ids uint8 [h, w]; raises as `__call__`."""
        if self.by_color != (stored.ndim == 3):
            kinds = ("RGB colours", "one id per pixel")
            found, expected = kinds[::-1] if self.by_color else kinds
            raise DataError(f"{path}: found {found}, expected {expected}; {self.remedy}")
        mask = self._table(stored)
        wrong = mask == self._table.unknown
        if wrong.any():
            row, column = np.argwhere(wrong)[0].tolist()
            value = int((color_codes(stored) if self.by_color else stored)[row, column])
            raise DataError(
                f"{path}: found {f'the colour {color_of(value)}' if self.by_color else f'the value {value}'} at "
                f"({row}, {column}), expected one of {self._listed()}; {self.remedy}"
            )
        return mask

    @functools.cached_property
    def _table(self) -> ValueTable:
        return ValueTable.build(self.ids, by_color=self.by_color)

    def _listed(self) -> str:
        return listed(color_of(value) if self.by_color else value for value in sorted(self.ids))


@dataclass(frozen=True)
class EitherTable:
    """Label files of ids, or of colours, or of both kinds."""

    ids: LabelTable
    colors: LabelTable

    def __call__(self, path: File) -> np.ndarray:
        """Return the label file as class ids uint8 [h, w]; raises as `LabelTable`."""
        stored = read_label_values(path)
        return (self.colors if stored.ndim == 3 else self.ids).translate(path, stored)
