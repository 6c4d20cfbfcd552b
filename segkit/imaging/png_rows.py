"""A PNG of class ids that is written a few rows at a time, so that a mask of any size needs no memory of its size.

The format is that of ISO/IEC 15948 (PNG, third edition): one deflate stream, cut into IDAT chunks. What fits in memory
goes through segkit/imaging/codec.py.
"""

import struct
import zlib
from collections.abc import Sequence
from typing import BinaryIO

import numpy as np

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_INDEXED = 3  # the colour type of a palette PNG
LONGEST_SIDE = 2**31 - 1


class PaletteRows:
    """Writes ids uint8 as a palette PNG, from top to bottom, to a file that is open for writing bytes.

    `palette` holds the colours R, G, B, R, G, B, ... to show ids 0, 1, ... in. `close` ends the PNG, not the file.
    """

    def __init__(self, file: BinaryIO, size_hw: tuple[int, int], palette: Sequence[int]) -> None:
        if not 1 <= min(size_hw) <= max(size_hw) <= LONGEST_SIDE:
            raise ValueError(f"found {size_hw[1]}x{size_hw[0]} pixels, a PNG holds 1 to {LONGEST_SIDE} a side")
        self.file, self.size_hw, self._rows = file, size_hw, 0
        self._deflate = zlib.compressobj(level=1)  # as write_palette_png
        file.write(_SIGNATURE)
        height, width = size_hw
        self._chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, _INDEXED, 0, 0, 0))
        self._chunk(b"PLTE", bytes(palette))

    def write(self, ids: np.ndarray) -> None:
        """Append rows: ids uint8 [rows, w].

        Raises:
            ValueError: another dtype or width, or more rows than the image has.
        """
        height, width = self.size_hw
        if ids.dtype != np.uint8 or ids.ndim != 2 or ids.shape[1] != width or self._rows + len(ids) > height:
            raise ValueError(
                f"found {ids.dtype} {ids.shape}, expected uint8 [at most {height - self._rows} rows, {width}]"
            )
        filtered = np.zeros((len(ids), width + 1), np.uint8)  # filter type 0 before each row: ids are no slopes
        filtered[:, 1:] = ids
        self._rows += len(ids)
        self._data(self._deflate.compress(filtered.data))

    def close(self) -> None:
        """Write what ends the PNG.

        Raises:
            ValueError: rows are missing.
        """
        if self._rows != self.size_hw[0]:
            raise ValueError(f"found {self._rows} rows, expected {self.size_hw[0]}")
        self._data(self._deflate.flush())
        self._chunk(b"IEND", b"")

    def _data(self, compressed: bytes) -> None:
        if compressed:
            self._chunk(b"IDAT", compressed)

    def _chunk(self, kind: bytes, content: bytes) -> None:
        self.file.write(struct.pack(">I", len(content)) + kind)
        self.file.write(content)
        self.file.write(struct.pack(">I", zlib.crc32(content, zlib.crc32(kind))))
