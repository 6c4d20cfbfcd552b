import io
import subprocess
import sys
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
from PIL import Image

from segkit.datasets.images import _ends_well, image_size_hw, read_image, read_large_image
from segkit.errors import DataError

RNG = np.random.default_rng(0)
# smooth, so that lossy formats keep it nearly as it is
PIXELS = np.stack(
    np.broadcast_arrays(np.arange(0, 240, 8)[:, None], np.arange(40)[None] * 5, np.uint8(90)), axis=2
).astype(np.uint8)


def save(path: Path, image: Image.Image, **settings: object) -> Path:
    image.save(path, **settings)
    return path


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "jpg", "webp"])
def test_every_format_gives_rgb_in_that_order(tmp_path: Path, suffix: str) -> None:
    path = save(tmp_path / f"x.{suffix}", Image.fromarray(PIXELS), quality=95)
    image = read_image(path)
    assert image.shape == PIXELS.shape
    assert image.dtype == np.uint8
    tolerance = 12 if suffix in ("jpg", "webp") else 0
    assert np.abs(image.astype(int) - PIXELS).max() <= tolerance


def test_grey_becomes_three_equal_channels(tmp_path: Path) -> None:
    image = read_image(save(tmp_path / "x.png", Image.fromarray(PIXELS[:, :, 0])))
    assert np.array_equal(image, np.repeat(PIXELS[:, :, :1], 3, axis=2))


def test_palette_and_alpha_become_plain_rgb(tmp_path: Path) -> None:
    flat = Image.new("RGB", (8, 6), (10, 200, 30))
    assert read_image(save(tmp_path / "p.png", flat.quantize(2)))[0, 0].tolist() == [10, 200, 30]
    flat.putalpha(7)
    assert read_image(save(tmp_path / "a.png", flat))[0, 0].tolist() == [10, 200, 30]


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bit_is_scaled_to_eight(tmp_path: Path, suffix: str) -> None:
    deep = (PIXELS[:, :, 0].astype(np.uint16) << 8) + 17
    image = read_image(save(tmp_path / f"x.{suffix}", Image.fromarray(deep)))
    assert np.array_equal(image[:, :, 1], PIXELS[:, :, 0])


def test_cmyk_is_converted(tmp_path: Path) -> None:
    path = save(tmp_path / "x.jpg", Image.new("RGB", (16, 16), (250, 10, 10)).convert("CMYK"), quality=95)
    assert np.abs(read_image(path)[8, 8].astype(int) - (250, 10, 10)).max() < 12


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path: Path, suffix: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / f"x.{suffix}", Image.fromarray(PIXELS), exif=exif, quality=95)
    upright = PIXELS
    if orientation >= 5:
        upright = upright.transpose(1, 0, 2)
    turns = {2: (1,), 3: (0, 1), 4: (0,), 6: (1,), 7: (0, 1), 8: (0,)}
    upright = np.flip(upright, axis=turns.get(orientation, ()))
    image = read_image(path)
    assert image.shape == upright.shape
    assert np.abs(image.astype(int) - upright).max() <= 12
    assert image_size_hw(path) == upright.shape[:2]


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "tif", "webp"])
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_a_truncated_file_is_refused(tmp_path: Path, suffix: str, share: float) -> None:
    noise = Image.fromarray(RNG.integers(0, 255, (60, 80, 3), np.uint8))
    path = save(tmp_path / f"x.{suffix}", noise)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(DataError, match=rf"x\.{suffix}"):
        read_image(path)


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_the_quick_look_finds_truncation_as_well(tmp_path: Path, suffix: str) -> None:
    path = save(tmp_path / f"x.{suffix}", Image.fromarray(PIXELS))
    assert image_size_hw(path) == PIXELS.shape[:2]
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DataError, match="damaged or truncated"):
        image_size_hw(path)


MODES = {"jpg": "RGB L CMYK", "png": "RGB L RGBA P 1 I;16", "bmp": "RGB L P 1", "webp": "RGB RGBA", "tif": "RGB L I;16"}


@pytest.mark.parametrize(("suffix", "mode"), [(suffix, mode) for suffix in MODES for mode in MODES[suffix].split()])
def test_a_large_image_is_read_as_any_other(tmp_path: Path, suffix: str, mode: str) -> None:
    colors = np.random.default_rng(0).integers(0, 256, (30, 41, 3)).astype(np.uint8)
    deep = Image.fromarray(colors[..., 0].astype(np.uint16) * 200)
    path = tmp_path / f"a.{suffix}"
    (deep if mode == "I;16" else Image.fromarray(colors).convert(mode)).save(path)
    assert np.array_equal(read_large_image(path), read_image(path))


@pytest.mark.parametrize("suffix", ["jpg", "png"])
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_a_large_image_is_upright(tmp_path: Path, suffix: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    colors = np.random.default_rng(0).integers(0, 256, (30, 41, 3)).astype(np.uint8)
    Image.fromarray(colors).save(tmp_path / f"a.{suffix}", exif=exif)
    assert np.array_equal(read_large_image(tmp_path / f"a.{suffix}"), read_image(tmp_path / f"a.{suffix}"))


def test_a_damaged_exif_block_is_passed_over(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = save(tmp_path / "x.jpg", Image.fromarray(PIXELS), exif=exif)
    path.write_bytes(path.read_bytes().replace(b"Exif\x00\x00MM\x00*", b"Exif\x00\x00XXXXX"))
    assert image_size_hw(path) == read_image(path).shape[:2] == PIXELS.shape[:2]


def test_bytes_behind_the_end_do_no_harm(tmp_path: Path) -> None:
    path = save(tmp_path / "x.jpg", Image.fromarray(PIXELS), quality=95)
    expected = read_image(path)
    path.write_bytes(path.read_bytes() + b"trailing \xff\xda of a camera")
    assert np.array_equal(read_image(path), expected)


@pytest.mark.parametrize(("content", "words"), [(b"", "0 bytes"), (b"<html>", "not an image"), (None, "No such file")])
def test_what_is_no_image_is_named(tmp_path: Path, content: bytes | None, words: str) -> None:
    path = tmp_path / "x.jpg"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=words):
        read_image(path)


@pytest.mark.parametrize("offset", [18, 22])  # of the width and of the height
def test_a_size_beyond_any_image_is_refused(tmp_path: Path, offset: int) -> None:
    path = save(tmp_path / "x.bmp", Image.fromarray(PIXELS))
    content = bytearray(path.read_bytes())
    content[offset : offset + 4] = (2**31 + 4).to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(DataError, match="damaged or truncated"):
        read_image(path)


def test_floating_point_pixels_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "x.tif", Image.fromarray(np.ones((4, 4), np.float32)))
    with pytest.raises(DataError, match="floating-point"):
        read_image(path)


def test_fast_and_slow_decoding_agree(tmp_path: Path) -> None:
    path = save(tmp_path / "x.jpg", Image.fromarray(RNG.integers(0, 255, (60, 80, 3), np.uint8)))
    slow = np.asarray(Image.open(io.BytesIO(path.read_bytes())))
    assert np.abs(read_image(path).astype(int) - slow).max() <= 1


# ---- sizes are read from headers


class Counted:
    """A file in memory that counts the bytes which are read of it: what `Inner` promises, no more."""

    def __init__(self, name: str, content: bytes) -> None:
        self.name, self.content, self.num_read = name, content, 0

    @property
    def size(self) -> int:
        return len(self.content)

    def read_bytes(self) -> bytes:
        self.num_read += len(self.content)
        return self.content

    def open(self, mode: str, buffering: int) -> BinaryIO:
        counted = self

        class Stream(io.BytesIO):
            def read(self, size: int | None = -1, /) -> bytes:
                chunk = super().read(size)
                counted.num_read += len(chunk)
                return chunk

        return Stream(self.content)

    def fingerprint(self) -> str:
        return self.name


def encode(form: str, pixels: np.ndarray, **settings: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form, **settings)
    return file.getvalue()


def with_chunk_behind_the_pixels(png: bytes, kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(kind + content).to_bytes(4, "big")
    return png[:-12] + len(content).to_bytes(4, "big") + kind + content + checksum + png[-12:]


NOISE = RNG.integers(0, 255, (500, 700, 3), np.uint8)  # about a MiB in every format


@pytest.mark.parametrize("form", ["JPEG", "PNG", "BMP", "TIFF"])
def test_a_size_is_read_without_the_pixels(form: str) -> None:
    file = Counted(f"x.{form}", encode(form, NOISE))
    assert image_size_hw(file) == (500, 700)
    assert file.num_read < 16_000 < file.size / 10


def test_a_progressive_jpeg_is_sized_without_its_scans() -> None:
    file = Counted("x.jpg", encode("JPEG", NOISE, progressive=True))
    assert image_size_hw(file) == (500, 700)
    assert file.num_read < 16_000


@pytest.mark.parametrize("orientation", [1, 6])
def test_exif_behind_the_pixels_of_a_png_is_found(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    png = with_chunk_behind_the_pixels(encode("PNG", NOISE), b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0"))
    (tmp_path / "x.png").write_bytes(png)
    assert image_size_hw(tmp_path / "x.png") == ((500, 700) if orientation == 1 else (700, 500))
    assert read_image(tmp_path / "x.png").shape[:2] == image_size_hw(tmp_path / "x.png")


@pytest.mark.parametrize("length", [0, 1, 4093, 4094, 4095, 4096, 9000])
@pytest.mark.parametrize("body", [b"\xff\xda..\xff\xd9", b"\xff\xd9..\xff\xda..", b"\xff\xda..", b"...."])
def test_the_end_of_a_jpeg_is_found_before_whatever_a_camera_adds(body: bytes, length: int) -> None:
    content = b"\xff\xd8" + b"." * 5000 + body + b"." * length
    assert _ends_well(io.BytesIO(content)) == (body.startswith(b"\xff\xda") and body.endswith(b"\xff\xd9"))


@pytest.mark.parametrize(("content", "words"), [(b"", "0 bytes"), (b"<html>", "6 bytes, starting b'<html>'")])
def test_a_size_of_what_is_no_image_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "x.png").write_bytes(content)
    with pytest.raises(DataError, match=words):
        image_size_hw(tmp_path / "x.png")
    with pytest.raises(DataError, match="No such file"):
        image_size_hw(tmp_path / "y.png")


def test_reading_a_local_image_loads_neither_tar_nor_network_code() -> None:
    code = "import sys, segkit.datasets.images; print(*({'tarfile', 'http.client', 'torch'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
