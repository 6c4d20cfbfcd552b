import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segkit.imaging.codec import JPEG_MAX_SIDE, encode_jpeg, fits_jpeg, write_palette_png, write_png


def test_a_jpeg_keeps_the_order_of_channels() -> None:
    red = np.zeros((16, 16, 3), np.uint8)
    red[..., 0] = 200
    decoded = np.array(Image.open(io.BytesIO(encode_jpeg(red, quality=90))))
    assert np.abs(decoded.astype(int) - red).max() <= 3


def test_a_jpeg_of_higher_quality_is_nearer_to_the_image() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    errors = [
        np.abs(np.array(Image.open(io.BytesIO(encode_jpeg(noise, quality=quality)))).astype(int) - noise).mean()
        for quality in (30, 60, 90)
    ]
    assert errors == sorted(errors, reverse=True)


@pytest.mark.parametrize("hw", [(1, JPEG_MAX_SIDE), (JPEG_MAX_SIDE, 1)])
def test_a_jpeg_of_the_longest_side_can_be_encoded(hw: tuple[int, int]) -> None:
    assert fits_jpeg(hw)
    with Image.open(io.BytesIO(encode_jpeg(np.zeros((*hw, 3), np.uint8), quality=90))) as opened:
        assert opened.size == hw[::-1]


@pytest.mark.parametrize("hw", [(1, JPEG_MAX_SIDE + 1), (JPEG_MAX_SIDE + 1, 1)])
def test_a_longer_side_is_refused(hw: tuple[int, int]) -> None:
    assert not fits_jpeg(hw)
    with pytest.raises(ValueError, match=f"{hw[1]}x{hw[0]} pixels, a JPEG holds at most {JPEG_MAX_SIDE}"):
        encode_jpeg(np.zeros((*hw, 3), np.uint8), quality=90)


def test_a_png_holds_the_pixels(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    write_png(tmp_path / "a.png", noise)
    assert np.array_equal(np.array(Image.open(tmp_path / "a.png")), noise)


def test_a_palette_png_holds_ids_and_colors() -> None:
    file = io.BytesIO()
    ids = np.array([[0, 1], [255, 1]], np.uint8)
    palette = [7, 8, 9, 10, 20, 30, *[0] * 759, 1, 2, 3]
    write_palette_png(file, ids, palette)
    with Image.open(file) as opened:
        assert opened.mode == "P"
        assert np.array_equal(np.array(opened), ids)
        assert opened.getpalette() == palette
        assert opened.convert("RGB").getpixel((1, 0)) == (10, 20, 30)
