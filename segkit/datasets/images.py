"""Read a picture of any usual format as uint8 RGB, upright, and notice when a file is broken.

OpenCV decodes JPEG and PNG, since it is fastest; but it reads a truncated file as half a picture without an error,
so a file whose end marker is missing goes to Pillow, which raises. Everything else is Pillow's as well.
"""

import io
import struct
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image, ImageOps

from segkit.datasets.shards import File
from segkit.errors import DataError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")

# Pillow's guard against decompression bombs; here the files are the user's own, and aerial pictures are that large.
Image.MAX_IMAGE_PIXELS = None

_ORIENTATION_TAG = 0x0112
QUARTER_TURNS = (5, 6, 7, 8)  # EXIF orientations that exchange height and width
_RGB = getattr(cv2, "IMREAD_COLOR_RGB", None)  # from OpenCV 4.11 on: RGB without another pass
_DECODE = {
    1: cv2.IMREAD_COLOR if _RGB is None else _RGB,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}


def read_image(path: File, *, reduction: int = 1) -> np.ndarray:
    """Return the picture as uint8 RGB [h, w, 3], EXIF orientation applied, alpha dropped, CMYK and 16 bit converted.

    `reduction` 2, 4 or 8 allows the decoder to leave out detail: a JPEG is then decoded to [ceil(h / reduction),
    ceil(w / reduction), 3], several times faster. Other formats come in full.

    Raises:
        DataError: the file is missing, empty, truncated or of an unknown format.
    """
    encoded = read_encoded(path)
    with _open(path, encoded) as opened:
        return _decode(path, encoded, opened, reduction)


@dataclass(frozen=True)
class Opened:
    """A picture and what its file says of it: upright uint8 RGB [h, w, 3], the file's bytes, Pillow's word for its
    format, and the EXIF orientation that was applied (1: none).
    """

    pixels: np.ndarray
    encoded: bytes
    format: str
    orientation: int


def open_image(path: File) -> Opened:
    """Return the picture with what its file says of it.

    Raises:
        DataError: as `read_image`.
    """
    encoded = read_encoded(path)
    with _open(path, encoded) as opened:
        form, orientation = str(opened.format), _orientation(opened)
        return Opened(_decode(path, encoded, opened, 1), encoded, form, orientation)


def _decode(path: File, encoded: bytes, opened: Image.Image, reduction: int) -> np.ndarray:
    jpeg, png = _is_plain_jpeg(opened), opened.format == "PNG" and b"eXIf" not in encoded[:4096]
    if (jpeg or png) and _has_end_marker(encoded):
        flags = _DECODE[reduction] if jpeg else _DECODE[1]
        image = cv2.imdecode(np.frombuffer(encoded, np.uint8), flags)
        if image is not None:
            return image if flags == _RGB else cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)
    return _decode_with_pillow(path, opened)


def image_size_hw(path: File) -> tuple[int, int]:
    """Return (height, width) in pixels of the upright picture, reading little more than its header.

    Raises:
        DataError: as `read_image`, except that damage inside the pixel data of other formats than JPEG and PNG
            is only found on reading.
    """
    return _size_hw(path, read_encoded(path))


def _size_hw(path: File, encoded: bytes) -> tuple[int, int]:
    with _open(path, encoded) as opened:
        if opened.format in ("JPEG", "PNG") and not _has_end_marker(encoded):
            _decode_with_pillow(path, opened)
        width, height = opened.size
        # Pillow tells the upright size of a TIFF, but the stored size of every other format.
        turned = opened.format != "TIFF" and _orientation(opened) in QUARTER_TURNS
        return (width, height) if turned else (height, width)


def _orientation(opened: Image.Image) -> int:
    try:
        orientation: int = opened.getexif().get(_ORIENTATION_TAG, 1)
    except (OSError, ValueError, SyntaxError, struct.error):
        return 1  # a damaged EXIF block says nothing; the decoders ignore it too
    return orientation if orientation in range(1, 9) else 1


def decoded_size_hw(path: File, reduction: Callable[[tuple[int, int]], int]) -> tuple[int, int]:
    """Return (height, width) of what `read_image` gives when it is allowed the reduction for the picture's size.

    Raises:
        DataError: as `image_size_hw`.
    """
    encoded = read_encoded(path)
    size_hw = _size_hw(path, encoded)
    with _open(path, encoded) as opened:
        return reduced_hw(size_hw, reduction(size_hw)) if _is_plain_jpeg(opened) else size_hw


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
    with _open(path, encoded) as opened:
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
        raise DataError(
            f"{path}: can't read the image ({error.strerror}); check the path and its permissions"
        ) from error
    if not encoded:
        raise DataError(f"{path}: the file is empty (0 bytes), expected an image; copy it again or remove it")
    return encoded


def _open(path: File, encoded: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(encoded))
    except (OSError, ValueError, SyntaxError) as error:
        raise DataError(
            f"{path}: not an image that can be read ({len(encoded)} bytes, starting {encoded[:8]!r}), expected one of "
            f"{' '.join(IMAGE_SUFFIXES)}; convert or remove it"
        ) from error


def _is_plain_jpeg(opened: Image.Image) -> bool:
    """True for what OpenCV decodes right: also several pictures in one (MPO; the first counts), but no CMYK."""
    return opened.format in ("JPEG", "MPO") and opened.mode != "CMYK"


def _has_end_marker(encoded: bytes) -> bool:
    """True if a JPEG's or PNG's last scan is complete.

    In a JPEG's scan, FF is always stuffed, so the markers found last are real: the end of image (FFD9) must come
    after the last start of scan (FFDA). Trailing bytes of a camera may fool this towards False, never towards True.
    """
    if encoded.startswith(b"\xff\xd8"):
        return encoded.rfind(b"\xff\xd9") > encoded.rfind(b"\xff\xda")
    return encoded.find(b"IEND", -64) > 0


def _decode_with_pillow(path: File, opened: Image.Image) -> np.ndarray:
    try:
        upright = ImageOps.exif_transpose(opened)
        if upright.mode in ("I;16", "I;16B", "I;16L", "I"):
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
