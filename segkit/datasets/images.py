"""Read an image of any usual format as uint8 RGB, upright, and notice when a file is broken.

OpenCV decodes JPEG and PNG, since it is fastest; but it reads a truncated file as half an image without an error,
so a file whose end marker is missing goes to Pillow, which raises. Everything else is Pillow's as well.
"""

import contextlib
import io
import os
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from PIL import Image, ImageOps
from PIL.TiffImagePlugin import TiffImageFile

from segkit.datasets.files import File
from segkit.errors import DataError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")

# Pillow's guard against decompression bombs; here the files are the user's own, and aerial images are that large.
Image.MAX_IMAGE_PIXELS = None

_ORIENTATION_TAG = 0x0112
_BITS_TAG = 258  # of TIFF: bits of each channel
_PNG_BITS = 24  # where a PNG's header has the bits of a channel
_DEEP_MODES = ("I;16", "I;16B", "I;16L", "I")
_BLOCK = 4096  # bytes from the end of a JPEG that are looked at first
QUARTER_TURNS = (5, 6, 7, 8)  # EXIF orientations that exchange height and width
_RGB = getattr(cv2, "IMREAD_COLOR_RGB", None)  # from OpenCV 4.11 on: RGB without another pass
_DECODE = {
    1: cv2.IMREAD_COLOR if _RGB is None else _RGB,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}


def read_image(path: File, *, reduction: int = 1, max_pixels: int | None = None) -> np.ndarray:
    """Return the image as uint8 RGB [h, w, 3], EXIF orientation applied, alpha dropped, CMYK and 16 bit converted.

    `reduction` 2, 4 or 8 allows the decoder to leave out detail: a JPEG is then decoded to [ceil(h / reduction),
    ceil(w / reduction), 3], several times faster. Other formats come in full.

    Raises:
        DataError: the file is missing, empty, truncated, of an unknown format, or its header says that it has more than
            `max_pixels`: a small file may claim to be an image that no memory holds.
    """
    encoded = read_encoded(path)
    with _open(path, io.BytesIO(encoded)) as opened:
        if max_pixels is not None:
            refuse_larger(path, opened.size[::-1], max_pixels)
        return _decode(path, encoded, opened, reduction)


def refuse_larger(path: File, size_hw: tuple[int, int], max_pixels: int) -> None:
    """Raises DataError if an image's (height, width), as its header says, make more than `max_pixels`."""
    height, width = size_hw
    if width * height > max_pixels:
        raise DataError(
            f"{path}: its header says {width}x{height} = {width * height / 1e6:,.0f} megapixels, expected at most "
            f"{max_pixels / 1e6:,.0f}; if that is its size, raise the limit with --max-megapixels, or tile it"
        )


def read_large_image(path: Path) -> np.ndarray:
    """Return the same pixels as `read_image`, uint8 RGB [h, w, 3], with less memory on the way where that is possible.

    OpenCV decodes a usual JPEG or PNG into the array itself; from bytes in memory it makes a copy of all pixels.

    Raises:
        DataError: as `read_image`.
    """
    size_hw = image_size_hw(path)
    with _streaming(path) as stream, _open(path, stream) as opened:
        usual = _is_plain_jpeg(opened) or opened.format == "PNG"
        upright = _orientation(opened, stream) == 1 and not (opened.format == "PNG" and "exif" in opened.info)
        if usual and upright and _RGB is not None and _ends_well(stream):
            pixels = cv2.imread(os.fspath(path), dst=np.empty((*size_hw, 3), np.uint8), flags=_RGB)
            if pixels is not None and pixels.shape[:2] == size_hw:
                return pixels
    return read_image(path)


@dataclass(frozen=True)
class Opened:
    """An image and what its file says of it: upright uint8 RGB [h, w, 3], the file's bytes, Pillow's word for its
    format, the EXIF orientation that was applied (1: none), and the highest stored value of an image of 16 bits or
    more a channel (0: one of 8 bits), of whose values the upper 8 of 16 bits are read.
    """

    pixels: np.ndarray
    encoded: bytes
    format: str
    orientation: int
    highest: int


def open_image(path: File) -> Opened:
    """Return the image with what its file says of it.

    Raises:
        DataError: as `read_image`.
    """
    encoded = read_encoded(path)
    stream = io.BytesIO(encoded)
    with _open(path, stream) as opened:
        form, orientation = str(opened.format), _orientation(opened, stream)
        pixels = _decode(path, encoded, opened, 1)
        return Opened(pixels, encoded, form, orientation, _highest_value(encoded, opened))


def _highest_value(encoded: bytes, opened: Image.Image) -> int:
    """Return the highest value of an image of more than 8 bits a channel, alpha left out; 0 for one of 8 bits."""
    if opened.mode in _DEEP_MODES:
        return int(np.asarray(opened).max())
    bits = opened.tag_v2.get(_BITS_TAG, (8,)) if isinstance(opened, TiffImageFile) else (8,)
    if max(bits) <= 8 and not (opened.format == "PNG" and encoded[_PNG_BITS] == 16):
        return 0
    # Pillow gives colours in 8 bits, whatever they are stored in
    stored = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_UNCHANGED)
    return 0 if stored is None or stored.dtype != np.uint16 else int(stored[..., :3].max())


def _decode(path: File, encoded: bytes, opened: Image.Image, reduction: int) -> np.ndarray:
    jpeg, png = _is_plain_jpeg(opened), opened.format == "PNG" and b"eXIf" not in encoded[:4096]
    if (jpeg or png) and _ends_well(io.BytesIO(encoded)):
        flags = _DECODE[reduction] if jpeg else _DECODE[1]
        image = cv2.imdecode(np.frombuffer(encoded, np.uint8), flags)
        if image is not None:
            return image if flags == _RGB else cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)
    return _decode_with_pillow(path, opened)


def image_size_hw(path: File) -> tuple[int, int]:
    """Return (height, width) in pixels of the upright image, from its header.

    Little else is read: of a JPEG and a PNG also the end, to notice truncation. WebP files are read whole, which
    Pillow needs, and so is a PNG with metadata behind its pixels.

    Raises:
        DataError: as `read_image`, except that damage inside the pixel data of other formats than JPEG and PNG
            is only found on reading.
    """
    with _streaming(path) as stream, _open(path, stream) as opened:
        return _size_hw(path, stream, opened)


def decoded_size_hw(path: File, reduction: Callable[[tuple[int, int]], int]) -> tuple[int, int]:
    """Return (height, width) of what `read_image` gives when it is allowed the reduction for the image's size.

    Raises:
        DataError: as `image_size_hw`.
    """
    with _streaming(path) as stream, _open(path, stream) as opened:
        size_hw = _size_hw(path, stream, opened)
        return reduced_hw(size_hw, reduction(size_hw)) if _is_plain_jpeg(opened) else size_hw


def _size_hw(path: File, stream: BinaryIO, opened: Image.Image) -> tuple[int, int]:
    if opened.format in ("JPEG", "PNG") and not _ends_well(stream):
        _decode_with_pillow(path, opened)
    width, height = opened.size
    # Pillow tells the upright size of a TIFF, but the stored size of every other format.
    turned = opened.format != "TIFF" and _orientation(opened, stream) in QUARTER_TURNS
    return (width, height) if turned else (height, width)


def _orientation(opened: Image.Image, stream: BinaryIO) -> int:
    """Return the EXIF orientation, 1 to 8.

    Pillow decodes all of a PNG to find metadata behind the pixels; here that happens only where there is some.
    """
    try:
        all_read = opened.format != "PNG" or _has_late_metadata(stream)
        exif = opened.getexif() if all_read else Image.Image.getexif(opened)
        orientation: int = exif.get(_ORIENTATION_TAG, 1)
    except (OSError, ValueError, SyntaxError, struct.error):
        return 1  # a damaged EXIF block says nothing; the decoders ignore it too
    return orientation if orientation in range(1, 9) else 1


def _has_late_metadata(stream: BinaryIO) -> bool:
    """True if a PNG has EXIF or text behind its first pixels, or its chunks can't be followed; leaves no trace."""
    here, seen_pixels = stream.tell(), False
    try:
        position = 8
        while True:
            stream.seek(position)
            head = stream.read(8)
            if len(head) < 8:
                return True
            length, kind = struct.unpack(">I4s", head)
            if kind == b"IEND":
                return False
            if seen_pixels and kind in (b"eXIf", b"tEXt", b"zTXt", b"iTXt"):
                return True
            seen_pixels = seen_pixels or kind == b"IDAT"
            position += length + 12  # length, kind and checksum
    finally:
        stream.seek(here)


def reduced_hw(size_hw: tuple[int, int], factor: int) -> tuple[int, int]:
    """Return the size of a JPEG that is decoded at 1 / factor."""
    return -(-size_hw[0] // factor), -(-size_hw[1] // factor)


_SUFFIXES_OF = {
    "JPEG": ("jpg", "jpeg"), "MPO": ("jpg", "jpeg"), "PNG": ("png",), "BMP": ("bmp",), "TIFF": ("tif", "tiff"),
    "WEBP": ("webp",), "GIF": ("gif",),
}  # fmt: skip


def suffix_fits(name: str, form: str) -> bool:
    """True if a file's suffix is one of its format's, in Pillow's words; of formats unknown here, any is."""
    suffix = name.lower().rpartition(".")[2]
    return form not in _SUFFIXES_OF or suffix in _SUFFIXES_OF[form]


def right_suffix(path: File, encoded: bytes) -> str:
    """Return the suffix of an image, in lower case and without the dot.

    That of its format, if its own is another's and segkit reads the format; else its own.

    Raises:
        DataError: not an image.
    """
    with _open(path, io.BytesIO(encoded)) as opened:
        form = str(opened.format)
    if suffix_fits(path.name, form) or f".{_SUFFIXES_OF[form][0]}" not in IMAGE_SUFFIXES:
        return path.name.lower().rpartition(".")[2]
    return _SUFFIXES_OF[form][0]


def read_encoded(path: File) -> bytes:
    """Return the file as it is.

    Raises:
        DataError: it is missing, empty or can't be read.
    """
    try:
        encoded = path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error
    if not encoded:
        raise _empty(path)
    return encoded


@contextlib.contextmanager
def _streaming(path: File) -> Iterator[BinaryIO]:
    """Open a file without a buffer: what isn't asked for isn't read. Raises as `read_encoded`."""
    try:
        stream: BinaryIO = path.open("rb", buffering=0)
    except OSError as error:
        raise _unreadable(path, error) from error
    with stream:
        if stream.seek(0, os.SEEK_END) == 0:
            raise _empty(path)
        stream.seek(0)
        yield stream


def _unreadable(path: File, error: OSError) -> DataError:
    return DataError(f"{path}: can't read the image ({error.strerror}); check the path and its permissions")


def _empty(path: File) -> DataError:
    return DataError(f"{path}: the file is empty (0 bytes), expected an image; copy it again or remove it")


def _open(path: File, stream: BinaryIO) -> Image.Image:
    try:
        return Image.open(stream)
    except (OSError, ValueError, SyntaxError) as error:
        num_bytes = stream.seek(0, os.SEEK_END)
        stream.seek(0)
        raise DataError(
            f"{path}: not an image that can be read ({num_bytes} bytes, starting {stream.read(8)!r}), expected one of "
            f"{' '.join(IMAGE_SUFFIXES)}; convert or remove it"
        ) from error


def _is_plain_jpeg(opened: Image.Image) -> bool:
    """True for what OpenCV decodes right: also several images in one (MPO; the first counts), but no CMYK."""
    return opened.format in ("JPEG", "MPO") and opened.mode != "CMYK"


def _ends_well(stream: BinaryIO) -> bool:
    """True if a JPEG's or PNG's last scan is complete; leaves no trace.

    In a JPEG's scan, FF is always stuffed, so the markers found last are real: the end of image (FFD9) must come
    after the last start of scan (FFDA). Trailing bytes of a camera may fool this towards False, never towards True.
    """
    here, end = stream.tell(), stream.seek(0, os.SEEK_END)
    try:
        if _read_at(stream, 0, 2) != b"\xff\xd8":
            return b"IEND" in _read_at(stream, max(0, end - 64), 64)
        while end > 0:  # backwards, by blocks that overlap by a byte
            start = max(0, end - _BLOCK)
            block = _read_at(stream, start, end - start)
            last_end, last_scan = block.rfind(b"\xff\xd9"), block.rfind(b"\xff\xda")
            if last_end != last_scan:
                return last_end > last_scan
            end = start + 1 if start else 0
        return False
    finally:
        stream.seek(here)


def _read_at(stream: BinaryIO, position: int, length: int) -> bytes:
    stream.seek(position)
    return stream.read(length)


def _decode_with_pillow(path: File, opened: Image.Image) -> np.ndarray:
    try:
        upright = ImageOps.exif_transpose(opened)
        if upright.mode in _DEEP_MODES:
            deep = np.asarray(upright)
            grey = (np.clip(deep, 0, 65535) >> 8).astype(np.uint8)
            return np.repeat(grey[:, :, None], 3, axis=2)
        if upright.mode == "F":
            raise DataError(f"{path}: found floating-point pixels, expected 8 or 16 bit; convert the image to 8 bit")
        return np.array(upright.convert("RGB"))
    except (OSError, ValueError, SyntaxError, OverflowError, struct.error) as error:
        raise DataError(
            f"{path}: the image is damaged or truncated ({error}); copy it again, or remove it from the split"
        ) from error
