import io

import cv2
import numpy as np
import pytest
from PIL import Image

from segkit.classes import Classes
from segkit.imaging.png_rows import PaletteRows

PALETTE = Classes.build(["a", "b"]).palette()


def written(ids: np.ndarray, heights: list[int]) -> bytes:
    file = io.BytesIO()
    rows = PaletteRows(file, (ids.shape[0], ids.shape[1]), PALETTE)
    for part in np.split(ids, np.cumsum(heights)[:-1]):
        rows.write(part)
    rows.close()
    return file.getvalue()


@pytest.mark.parametrize(("hw", "heights"), [((1, 1), [1]), ((300, 200), [300]), ((300, 200), [1, 0, 128, 171])])
def test_pillow_and_opencv_read_what_was_written_in_parts(hw: tuple[int, int], heights: list[int]) -> None:
    ids = np.random.default_rng(0).integers(0, 256, hw).astype(np.uint8)
    content = written(ids, heights)
    with Image.open(io.BytesIO(content)) as opened:
        assert opened.mode == "P"
        assert opened.getpalette() == PALETTE
        assert np.array_equal(np.array(opened), ids)
    colors = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    assert colors is not None
    assert np.array_equal(colors[..., ::-1], np.array(PALETTE, np.uint8).reshape(256, 3)[ids])


def test_a_view_that_is_not_contiguous_is_written_as_its_pixels() -> None:
    ids = np.arange(64, dtype=np.uint8).reshape(8, 8)[:, ::2]
    with Image.open(io.BytesIO(written(ids, [8]))) as opened:
        assert np.array_equal(np.array(opened), ids)


@pytest.mark.parametrize("ids", [np.zeros((1, 3), np.uint8), np.zeros((5, 4), np.uint8), np.zeros((1, 4), np.int64)])
def test_rows_that_do_not_fit_are_refused(ids: np.ndarray) -> None:
    rows = PaletteRows(io.BytesIO(), (4, 4), PALETTE)
    with pytest.raises(ValueError, match=r"expected uint8 \[at most 4 rows, 4\]"):
        rows.write(ids)


def test_an_image_without_all_its_rows_does_not_end() -> None:
    rows = PaletteRows(io.BytesIO(), (4, 4), PALETTE)
    rows.write(np.zeros((3, 4), np.uint8))
    with pytest.raises(ValueError, match="found 3 rows, expected 4"):
        rows.close()


@pytest.mark.parametrize("hw", [(0, 4), (4, 0), (2**31, 1)])
def test_sizes_that_a_png_cannot_have_are_refused(hw: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="a PNG holds 1 to"):
        PaletteRows(io.BytesIO(), hw, PALETTE)
