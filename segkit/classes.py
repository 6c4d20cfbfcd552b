"""The classes of a data set: names, colours, and the id that means "no label".

On a low floor, since data, checkpoints, metrics and overlays all refer to classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segkit.errors import ConfigError, DataError

RGB = tuple[int, int, int]

VOC_NAMES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
    "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip

MAX_CLASSES = 254  # masks are uint8: ignore_index and the code of values that are neither need one id each


def voc_color(class_id: int) -> RGB:
    """Return the colour of `class_id` in the PASCAL VOC palette (VOC devkit, VOClabelcolormap.m).

    Bit k of each channel's high bits comes from bit 3j + channel of the id, so neighbouring ids differ strongly.
    """
    channels = [0, 0, 0]
    for bit in range(8):
        for channel in range(3):
            channels[channel] |= ((class_id >> channel) & 1) << (7 - bit)
        class_id >>= 3
    return channels[0], channels[1], channels[2]


@dataclass(frozen=True)
class Classes:
    """Names and colours (RGB, 0..255) by class id, and the id of pixels that have no label."""

    names: tuple[str, ...]
    colors: tuple[RGB, ...]
    ignore_index: int = 255

    @classmethod
    def build(cls, names: Sequence[str], *, colors: Sequence[RGB] | None = None, ignore_index: int = 255) -> "Classes":
        """Check the names and give classes without colours those of the VOC palette.

        Raises:
            ConfigError: fewer than two names, too many, one listed twice or of several lines; an ignore_index that is a
                class.
        """
        names = tuple(names)
        if len(names) < 2:
            raise ConfigError(
                f"data.classes: found {len(names)} class{'' if len(names) == 1 else 'es'} {list(names)}, expected at "
                "least 2; background is a class too: data.classes: [background, object]"
            )
        if len(names) > MAX_CLASSES:
            raise ConfigError(f"data.classes: found {len(names)} classes, expected at most {MAX_CLASSES} (uint8 masks)")
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ConfigError(f"data.classes: {', '.join(twice)} is listed more than once; each name must be unique")
        if broken := [name for name in names if len(name.splitlines()) != 1]:
            raise ConfigError(f"data.classes: found {broken[0]!r}, expected names of one line each; rename it")
        if not len(names) <= ignore_index <= 255:
            raise ConfigError(
                f"data.ignore_index: found {ignore_index}, expected {len(names)}..255 (ids 0..{len(names) - 1} are "
                "classes); 255 is the usual choice"
            )
        if colors is None:
            colors = [voc_color(class_id) for class_id in range(len(names))]
        return cls(names, tuple(colors), ignore_index)

    def __len__(self) -> int:
        return len(self.names)

    def lines(self) -> str:
        """Return the text of a class file: a name per line, in id order, as `read_class_names` reads it."""
        return "".join(f"{name}\n" for name in self.names)

    def palette(self) -> list[int]:
        """Return 768 numbers 0..255, R G B by id, for a palette PNG; ignore_index gets VOC's cream (224, 224, 192)."""
        rows = [list(voc_color(class_id)) for class_id in range(256)]
        for class_id, color in enumerate(self.colors):
            rows[class_id] = list(color)
        rows[self.ignore_index] = [224, 224, 192]
        return [value for row in rows for value in row]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as checkpoints hold them."""
        return {"names": list(self.names), "colors": [list(c) for c in self.colors], "ignore_index": self.ignore_index}

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> "Classes":
        """Return the classes of which `to_dict` made `plain`. Raises ConfigError as `build` does."""
        colors = [(int(r), int(g), int(b)) for r, g, b in plain["colors"]]
        return cls.build(plain["names"], colors=colors, ignore_index=plain["ignore_index"])


def read_class_names(path: Path) -> list[str]:
    """Read class names, one per line in id order; blank lines, a BOM and CRLF are fine.

    Raises:
        DataError: the file can't be read, is empty, or is not UTF-8 text.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise DataError(
            f"{path}: can't read this class file ({error.strerror}); expected one class name per line"
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not a text file; expected one class name per line, in UTF-8") from error
    names = [line.strip() for line in lines if line.strip()]
    if not names:
        raise DataError(f"{path}: the file is empty; expected one class name per line")
    return names
