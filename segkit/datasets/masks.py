"""A label file becomes class ids, by a table of stored values. Ids are read, never guessed.

Palette PNGs are read as indices, never as the colours or the luminance of their palette. Not here: repair of wrong
labels; a value that is neither a class nor ignored stops the run and is named.
"""

import io
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from segkit.classes import RGB, Classes
from segkit.config.schema import DataConfig
from segkit.datasets.files import File
from segkit.datasets.label_faults import looks_soft, map_from_one, map_object, object_value, start_at_one
from segkit.errors import ConfigError, DataError
from segkit.imaging.codec import write_palette_png

MASK_SUFFIXES = (".png", ".bmp", ".tif", ".tiff", ".gif", ".webp")
COLOR_MODES = ("RGB", "RGBA")
JPEG_FORMATS = ("JPEG", "MPO")  # as Pillow names them


@dataclass(frozen=True)
class StoredLabel:
    """What a label file stores, sound or not: ids uint8 or int32 [h, w], or colours uint8 RGB [h, w, 3].

    `format` (PNG, JPEG, ...) and `mode` (P, L, 1, I;16, RGB, RGBA, ...) are Pillow's words; `palette` holds R G B.
    """

    values: np.ndarray
    format: str
    mode: str
    palette: bytes = b""


def read_stored_label(path: File, *, palette: bool = True) -> StoredLabel:
    """Return what the file stores, a JPEG's pixels too; its palette, which takes a moment to unpack, where wanted.

    Raises:
        DataError: the file is missing, empty or broken, or its pixels can be neither ids nor colours.
    """
    try:
        with Image.open(path if isinstance(path, Path) else io.BytesIO(path.read_bytes())) as opened:
            form, mode = str(opened.format), opened.mode
            if mode == "P":
                values = np.array(opened)
                colors = bytes(opened.getpalette("RGB") or ()) if palette else b""
                return StoredLabel(values, form, mode, colors)
            if mode == "L":
                return StoredLabel(np.array(opened), form, mode)
            if mode == "1":
                return StoredLabel(np.array(opened, dtype=np.uint8), form, mode)
            if mode.startswith("I"):
                return StoredLabel(np.array(opened, dtype=np.int32), form, mode)
            if mode in COLOR_MODES:
                return StoredLabel(np.array(opened.convert("RGB")), form, mode)
    except UnidentifiedImageError as error:
        found = "no known image format" if path.read_bytes() else "0 bytes"
        raise DataError(f"{path}: the label can't be read ({found}); export or copy it again") from error
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such label file; every image of a split needs one") from error
    except (OSError, ValueError, SyntaxError) as error:
        raise DataError(f"{path}: the label can't be read ({error}); export or copy it again") from error
    raise DataError(f"{path}: found label pixels of mode '{mode}', expected ids (palette, grey, 1 or 16 bit) or RGB")


def read_label_values(path: File) -> np.ndarray:
    """Return what the file stores: ids uint8 or int32 [h, w], or colours uint8 RGB [h, w, 3].

    Raises:
        DataError: as `read_stored_label`, or the label is a JPEG, whose compression changes label values.
    """
    stored = read_stored_label(path, palette=False)
    if stored.format in JPEG_FORMATS:
        raise DataError(
            f"{path}: found a JPEG label, expected a lossless file; JPEG changes ids near every edge. Export the "
            "labels again as PNG"
        )
    return stored.values


def color_codes(colors: np.ndarray) -> np.ndarray:
    """Turn colours uint8 RGB [h, w, 3] into one number each, R * 65536 + G * 256 + B, int32 [h, w]."""
    codes: np.ndarray = colors[..., 0].astype(np.int32)
    for channel in (1, 2):
        codes <<= 8
        codes |= colors[..., channel]
    return codes


def code_of(color: RGB) -> int:
    """Return a colour as one number, as `color_codes` does."""
    return color[0] << 16 | color[1] << 8 | color[2]


def color_of(code: int) -> RGB:
    """Return the colour that `code_of` made a number of."""
    return code >> 16, code >> 8 & 255, code & 255


@dataclass(frozen=True)
class ValueTable:
    """Class id of every stored value: `ids` is uint8 [65536] from the value `lowest` on, or [2**24] by colour code.

    `unknown` is what values of no class have there, a number that no class has; `outside` is what those beyond the
    table become.
    """

    ids: np.ndarray
    unknown: int
    outside: int
    by_color: bool = False
    lowest: int = 0  # some tools write -1

    @classmethod
    def build(
        cls, ids: Mapping[int, int], *, by_color: bool = False, rest: int | None = None, reserved: Collection[int] = ()
    ) -> "ValueTable":
        """Make a table of stored value -> class id. All other values become `rest`, or are unknown.

        `reserved` are ids that `unknown` must not be, beside those in use.
        """
        taken = {*ids.values(), *reserved, rest}
        unknown = next(code for code in range(255, -1, -1) if code not in taken)
        outside = unknown if rest is None else rest
        lowest = min(0, *ids)
        table = np.full((2**24 if by_color else 2**16) - lowest, outside, np.uint8)
        table[np.array(list(ids)) - lowest] = list(ids.values())
        return cls(table, unknown, outside, by_color, lowest)

    def knows(self, values: np.ndarray) -> np.ndarray:
        """Return which stored values, integers of any shape, have an id: bool of that shape."""
        known: np.ndarray = (self(values) != self.unknown) & self._holds(values)
        return known

    def __call__(self, stored: np.ndarray) -> np.ndarray:
        """Return the id of each value, uint8, for integers of any shape, or colours uint8 RGB [h, w, 3]."""
        codes = color_codes(stored) if stored.ndim == 3 else stored
        if codes.dtype == np.uint8 and codes.ndim == 2:
            return cv2.LUT(codes, self.ids[-self.lowest : 256 - self.lowest])
        if self.lowest:
            codes = codes.astype(np.int64) - self.lowest
        if not codes.size or (codes.min() >= 0 and codes.max() < len(self.ids)):
            found: np.ndarray = self.ids[codes]
            return found
        inside = (codes >= 0) & (codes < len(self.ids))
        return np.where(inside, self.ids[codes.clip(0, len(self.ids) - 1)], np.uint8(self.outside))

    def ignoring_unknown(self, ignored: int) -> "ValueTable":
        """Return the same table, in which values of no class are ignored."""
        ids = np.where(self.ids == self.unknown, np.uint8(ignored), self.ids)
        return ValueTable(ids, self.unknown, ignored, self.by_color, self.lowest)

    def _holds(self, values: np.ndarray) -> np.ndarray:
        inside: np.ndarray = (values >= self.lowest) & (values < len(self.ids) + self.lowest)
        return inside


@dataclass(frozen=True)
class MaskReader:
    """Reads label files as class ids, by the value (or colour) that each class has in the files.

    `table` gives `classes.ignore_index` to what is ignored; `mapped` is true where values were given.
    """

    classes: Classes
    table: ValueTable
    mapped: bool

    @classmethod
    def build(
        cls,
        classes: Classes,
        *,
        mask_values: Sequence[int | RGB] | None = None,
        ignore_values: Sequence[int | RGB] | Literal["rest"] = (),
    ) -> "MaskReader":
        """Prepare the table from the stored value of each class (by default its id), and the values to ignore.

        Raises:
            ConfigError: not one value per class, a value twice, or ids and colours mixed.
        """
        values = range(len(classes)) if mask_values is None else mask_values
        if len(values) != len(classes):
            raise ConfigError(
                f"data.mask_values: found {len(values)} values, expected {len(classes)}: one for each of "
                f"{', '.join(classes.names)}"
            )
        codes = [_code(value) for value in values]
        listed = () if ignore_values == "rest" else ignore_values
        ignored = [_code(value) for value in listed]
        twice = sorted({code for code in codes + ignored if (codes + ignored).count(code) > 1})
        if twice:
            raise ConfigError(f"data.mask_values: {twice[0]} stands for two classes, or for a class and ignore")
        kinds = {isinstance(value, tuple) for value in (*values, *listed)}
        if len(kinds) == 2:
            raise ConfigError("data.ignore_values: ids and colours are mixed; write them as data.mask_values are")
        by_color = kinds == {True}
        channels = [channel for value in (*values, *listed) if isinstance(value, tuple) for channel in value]
        largest = max([*codes, *ignored, 0])
        if (
            min([*codes, *ignored, *channels, 0]) < 0
            or max([*channels, 0]) > 255
            or largest > (0xFFFFFF if by_color else 0xFFFF)
        ):
            raise ConfigError("data.mask_values: expected ids 0..65535, or colours [R, G, B] with values 0..255")

        unmapped = () if by_color else (classes.ignore_index,)
        ids = dict.fromkeys((*unmapped, *ignored), classes.ignore_index) | {code: k for k, code in enumerate(codes)}
        rest = classes.ignore_index if ignore_values == "rest" else None
        table = ValueTable.build(ids, by_color=by_color, rest=rest, reserved=(classes.ignore_index,))
        return cls(classes, table, mapped=mask_values is not None)

    @property
    def by_color(self) -> bool:
        return self.table.by_color

    def __call__(self, path: File) -> np.ndarray:
        """Return the label file as class ids uint8 [h, w]; pixels without a label hold `classes.ignore_index`.

        Raises:
            DataError: the file can't be read, or holds a value that is no class; names the value and its first pixel.
        """
        stored = self._codes(path)
        mask = self.table(stored)
        wrong = mask == self.table.unknown
        if wrong.any():
            raise DataError(self._explain_value(path, stored, wrong))
        return mask

    def prediction(self, path: File) -> np.ndarray:
        """Return a predicted mask as class ids uint8 [h, w]; values that are no class become `table.unknown`.

        Raises:
            DataError: the file can't be read, or holds colours where ids are expected, or the other way round.
        """
        return self.table(self._codes(path))

    def _codes(self, path: File) -> np.ndarray:
        """Return what a label file stores, one number per pixel: [h, w]."""
        stored = read_label_values(path)
        if self.by_color != (stored.ndim == 3):
            raise DataError(self._explain_kind(path, stored))
        if stored.ndim == 3:
            stored = color_codes(stored)
        elif stored.dtype != np.uint8 and (stored.min() < 0 or stored.max() > 0xFFFF):
            raise DataError(f"{path}: found the value {stored.max()}, expected ids 0..65535")
        return stored

    def _explain_kind(self, path: File, stored: np.ndarray) -> str:
        if self.by_color:
            return f"{path}: found single values, expected colours: data.mask_values are colours; write ids there"
        colors = np.unique(stored.reshape(-1, 3), axis=0)[:8].tolist()
        return (
            f"{path}: found an RGB label, expected one id per pixel; if its colours are classes, list them in class "
            f"order: data.mask_values: {colors}" + (" (the first 8 colours of this file)" if len(colors) == 8 else "")
        )

    def _explain_value(self, path: File, stored: np.ndarray, wrong: np.ndarray) -> str:
        row, column = np.argwhere(wrong)[0].tolist()
        value = int(stored[row, column])
        values = np.unique(stored).tolist()
        if self.by_color:
            color = list(color_of(value))
            return (
                f"{path}: colour {color} at ({row}, {column}) is none of data.mask_values; add its class there, or add "
                "the colour to data.ignore_values (data.ignore_values: rest ignores all others)"
            )
        if self.mapped:
            return (
                f"{path}: value {value} at ({row}, {column}) is none of data.mask_values; add its class there, or add "
                "the value to data.ignore_values"
            )
        last = len(self.classes) - 1
        two = len(self.classes) == 2
        if two and values[0] == 0 and (other := object_value(values)) is not None:
            remedy = f"if your masks are 0/{other}, set {map_object(other)}"
        elif two and looks_soft(values):
            remedy = (
                "it looks like a black-and-white mask with soft edges (resized, or once a JPEG); best export it again "
                f"with hard ones, or leave soft pixels out: {map_object(255)} with data.ignore_values: rest"
            )
        elif start_at_one(values, len(self.classes), ignored=self.classes.ignore_index):
            remedy = f"if ids start at 1, set {map_from_one(len(self.classes))}"
        else:
            shown = ", ".join(str(v) for v in values[:12]) + (", ..." if len(values) > 12 else "")
            remedy = (
                f"this file holds {shown}. Name the missing classes in data.classes, map values with data.mask_values, "
                f"or ignore them with data.ignore_values: [{value}]"
            )
        return f"{path}: value {value} at ({row}, {column}) is no class (0..{last}); {remedy}"


def build_mask_reader(data: DataConfig, classes: Classes) -> MaskReader:
    """Return the reader that `data.mask_values` and `data.ignore_values` describe; raises as `MaskReader.build`."""
    return MaskReader.build(classes, mask_values=data.mask_values, ignore_values=data.ignore_values)


def write_mask(path: Path | BinaryIO, mask: np.ndarray, classes: Classes) -> None:
    """Write class ids uint8 [h, w] as a palette PNG, as PASCAL VOC stores them: the index is the id."""
    write_palette_png(path, mask, classes.palette())


def _code(value: int | RGB) -> int:
    return value if isinstance(value, int) else code_of(value)
