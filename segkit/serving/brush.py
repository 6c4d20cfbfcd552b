"""Masks as Label Studio's brush strokes: run lengths, packed into bits.

The form is that of its converter's `brush.encode_rle`, whose decoder reads it; segkit's own is in
segkit/formats/annotations/labelstudio.py. Over the bytes R, G, B, A of every pixel, row by row: 32 bits for their
number, 5 for a value's bits less 1, 4 x 4 for the four widths of a length, less 1; then blocks of a bit (1: one value
repeated, 0: values as they are), 2 bits for the width, the length less 1, and the value or the values.
"""

import numpy as np

WIDTHS = (3, 4, 8, 16)  # bits of a length
PAINTED = 255


def encode_brush(mask: np.ndarray) -> list[int]:
    """Return the bytes for a mask, bool [h, w], of one label: its pixels opaque, the others transparent."""
    flat = np.ascontiguousarray(mask).reshape(-1)
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    starts = np.concatenate([[0], changes])
    lengths = 4 * np.diff(np.concatenate([starts, [flat.size]]))
    bits = [_bits(4 * flat.size, 32), _bits(7, 5), *(_bits(width - 1, 4) for width in WIDTHS)]
    for start, length in zip(starts.tolist(), lengths.tolist(), strict=True):
        value = PAINTED if flat[start] else 0
        while length > 0:
            part = min(length, 2 ** WIDTHS[-1])
            number = next(k for k, width in enumerate(WIDTHS) if part <= 2**width)
            bits += ["1", _bits(number, 2), _bits(part - 1, WIDTHS[number]), _bits(value, 8)]
            length -= part
    text = "".join(bits)
    text += "0" * (-len(text) % 8)
    return list(int(text, 2).to_bytes(len(text) // 8, "big"))


def _bits(value: int, width: int) -> str:
    return format(value, f"0{width}b")
