"""A label file becomes class ids. Ids are read, never guessed.

Palette PNGs are read as indices, never as the colours or the luminance of their palette. Not here: repair of wrong
labels; a value that is neither a class nor ignored stops the run and is named.
"""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from segkit.classes import RGB, Classes
from segkit.config.schema import DataConfig
from segkit.datasets.files import File
from segkit.errors import ConfigError, DataError

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
class MaskReader:
    """Reads label files as class ids, by the value (or colour) that each class has in the files.

    `table` maps a stored id (or a colour as R * 65536 + G * 256 + B) to a class id, to `classes.ignore_index`, or to
    `unknown` for values that are neither.
    """

    classes: Classes
    table: np.ndarray
    unknown: int
    by_color: bool
    mapped: bool

    @classmethod
    def build(cls, data: DataConfig, classes: Classes) -> "MaskReader":
        """Prepare the table from `data.mask_values` and `data.ignore_values`.

        Raises:
            ConfigError: not one value per class, a value twice, or ids and colours mixed.
        """
        values = range(len(classes)) if data.mask_values is None else data.mask_values
        if len(values) != len(classes):
            raise ConfigError(
                f"data.mask_values: found {len(values)} values, expected {len(classes)}: one for each of "
                f"{', '.join(classes.names)}"
            )
        codes = [_code(value) for value in values]
        listed = () if data.ignore_values == "rest" else data.ignore_values
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

        unknown = next(code for code in range(255, -1, -1) if code >= len(classes) and code != classes.ignore_index)
        table = np.full(2**24 if by_color else 2**16, unknown, np.uint8)
        if data.ignore_values == "rest":
            table[:] = classes.ignore_index
        elif not by_color:
            table[classes.ignore_index] = classes.ignore_index
        table[ignored] = classes.ignore_index
        table[codes] = np.arange(len(classes))
        return cls(classes, table, unknown, by_color, mapped=data.mask_values is not None)

    def knows(self, values: np.ndarray) -> np.ndarray:
        """Return which stored values, integers [n], are classes or ignored: bool [n]."""
        inside = (values >= 0) & (values < len(self.table))
        known: np.ndarray = inside & (self.table[values.clip(0, len(self.table) - 1)] != self.unknown)
        return known

    def __call__(self, path: File) -> np.ndarray:
        """Return the label file as class ids uint8 [h, w]; pixels without a label hold `classes.ignore_index`.

        Raises:
            DataError: the file can't be read, or holds a value that is no class; names the value and its first pixel.
        """
        stored = read_label_values(path)
        if self.by_color != (stored.ndim == 3):
            raise DataError(self._explain_kind(path, stored))
        if stored.ndim == 3:
            stored = color_codes(stored)
        elif stored.dtype != np.uint8 and (stored.min() < 0 or stored.max() > 0xFFFF):
            raise DataError(f"{path}: found the value {stored.max()}, expected ids 0..65535")
        mask: np.ndarray = cv2.LUT(stored, self.table[:256]) if stored.dtype == np.uint8 else self.table[stored]
        wrong = mask == self.unknown
        if wrong.any():
            raise DataError(self._explain_value(path, stored, wrong))
        return mask

    def _explain_kind(self, path: File, stored: np.ndarray) -> str:
        if self.by_color:
            return f"{path}: found single values, expected colours: data.mask_values are colours; write ids there"
        colors = np.unique(stored.reshape(-1, 3), axis=0)[:8].tolist()
        return (
            f"{path}: found an RGB label, expected one id per pixel; if its colours are classes, list them in class "
            f"order: data.mask_values: {colors}" + (" (the first 8 colours of this file)" if len(colors) == 8 else "")
        )

    def _explain_value(self, path: File, stored: np.ndarray, wrong: np.ndarray) -> str:
        row, column = (int(place) for place in np.argwhere(wrong)[0])
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
        if len(self.classes) == 2 and len(values) == 2 and values[0] == 0:
            remedy = f"if your masks are 0/{values[1]}, set data.mask_values: [0, {values[1]}]"
        elif len(self.classes) == 2 and values[0] < 16 and values[-1] > 239:
            remedy = (
                "it looks like a black-and-white mask with soft edges (resized, or once a JPEG); best export it again "
                "with hard ones, or leave soft pixels out: data.mask_values: [0, 255] with data.ignore_values: rest"
            )
        elif values == list(range(1, len(self.classes) + 1)):
            remedy = f"if ids start at 1, set data.mask_values: {values}"
        else:
            shown = ", ".join(str(v) for v in values[:12]) + (", ..." if len(values) > 12 else "")
            remedy = (
                f"this file holds {shown}. Name the missing classes in data.classes, map values with data.mask_values, "
                f"or ignore them with data.ignore_values: [{value}]"
            )
        return f"{path}: value {value} at ({row}, {column}) is no class (0..{last}); {remedy}"


def write_mask(path: Path | BinaryIO, mask: np.ndarray, classes: Classes) -> None:
    """Write class ids uint8 [h, w] as a palette PNG, as PASCAL VOC stores them: the index is the id."""
    image = Image.fromarray(mask)
    image.putpalette(classes.palette())
    # level 1: four times faster than the default, a few percent larger
    image.save(path, format="PNG", compress_level=1)


def _code(value: int | RGB) -> int:
    return value if isinstance(value, int) else code_of(value)
