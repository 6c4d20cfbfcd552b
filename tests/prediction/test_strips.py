from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.transform import Affine

from segkit.classes import Classes
from segkit.datasets.images import read_image
from segkit.errors import DataError
from segkit.imaging.overlay import overlay
from segkit.inference.backend import Array
from segkit.inference.windows import Windows
from segkit.prediction import strips
from segkit.prediction.strips import is_huge, predict_strips

CLASSES = Classes.build(["dark", "middle", "bright"], colors=[(0, 0, 0), (250, 0, 0), (0, 0, 250)])


@dataclass
class ByBrightness:
    """A backend of arrays without a network: of three classes the one whose level is nearest to a pixel's red."""

    classes: Classes = CLASSES
    canvas_hw: tuple[int, int] = (32, 32)
    device: None = None

    def __call__(self, images: Array) -> Array:
        assert isinstance(images, np.ndarray)
        levels = np.array([0, 128, 255], np.float32).reshape(1, 3, 1, 1)
        return -np.abs(images[:, :1].astype(np.float32) - levels) / 16


WINDOWS = Windows(ByBrightness(), (32, 32))


@pytest.fixture
def image() -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.kron(rng.choice([10, 128, 190, 250], (10, 13)), np.ones((9, 9))).astype(np.uint8)[..., None].repeat(3, 2)


def stored(image: np.ndarray, path: Path) -> Path:
    if path.suffix == ".tif":
        place = {"crs": "EPSG:32632", "transform": Affine(0.5, 0, 500_000.0, 0, -0.5, 5_400_000.0)}
        form = {"height": len(image), "width": image.shape[1], "count": 3, "dtype": "uint8", "driver": "GTiff"}
        with rasterio.open(path, "w", **form, **place) as dataset:
            dataset.write(image.transpose(2, 0, 1))
    else:
        Image.fromarray(image).save(path)
    return path


@pytest.mark.parametrize("suffix", [".tif", ".png", ".bmp"])
def test_a_mask_file_holds_what_windows_give_for_the_whole_image(
    image: np.ndarray, tmp_path: Path, suffix: str
) -> None:
    path = stored(image, tmp_path / f"a{suffix}")
    written = predict_strips(WINDOWS, path, tmp_path / "out", "deep/er/a")
    expected = WINDOWS.mask(image)
    assert written.hw == expected.shape
    assert written.mask == tmp_path / "out" / "masks" / "deep" / "er" / ("a.tif" if suffix == ".tif" else "a.png")
    assert np.array_equal(np.array(Image.open(written.mask)), expected)
    assert written.pixels == tuple(np.bincount(expected.ravel(), minlength=256))
    assert written.overlay is None
    assert [file.name for file in (tmp_path / "out").rglob("*.*")] == [written.mask.name]


def test_a_geotiff_s_mask_lies_where_its_image_lies(image: np.ndarray, tmp_path: Path) -> None:
    path = stored(image, tmp_path / "a.tif")
    written = predict_strips(WINDOWS, path, tmp_path / "out", "a")
    with rasterio.open(path) as given, rasterio.open(written.mask) as found:
        assert (found.crs, found.transform, found.shape) == (given.crs, given.transform, given.shape)
        assert found.colormap(1)[2][:3] == (0, 0, 250)


@pytest.mark.parametrize("suffix", [".tif", ".png"])
def test_pixels_below_the_confidence_are_ignored_and_no_others(image: np.ndarray, tmp_path: Path, suffix: str) -> None:
    path = stored(image, tmp_path / f"a{suffix}")
    written = predict_strips(WINDOWS, path, tmp_path / "out", "a", min_confidence=0.9)
    probabilities = WINDOWS.probabilities(image)
    expected = np.where(probabilities.max(axis=0) < 0.9, 255, probabilities.argmax(axis=0))
    assert 0 < (expected == 255).mean() < 1
    assert np.array_equal(np.array(Image.open(written.mask)), expected)
    assert written.pixels[255] == (expected == 255).sum()


def test_the_overlay_is_that_of_image_and_mask(image: np.ndarray, tmp_path: Path) -> None:
    path = stored(image, tmp_path / "a.png")

    def render(pixels: np.ndarray, mask: np.ndarray) -> np.ndarray:
        return overlay(pixels, mask, CLASSES)

    written = predict_strips(WINDOWS, path, tmp_path / "out", "a", render=render)
    assert written.overlay == tmp_path / "out" / "overlays" / "a.jpg"
    expected = overlay(image, WINDOWS.mask(image), CLASSES).astype(int)
    assert np.abs(read_image(written.overlay) - expected).mean() < 8  # a JPEG


@pytest.mark.parametrize("hw", [(90, 117), (1, 117), (117, 1), (95, 40), (1, 1)])
@pytest.mark.parametrize("heights", [[1, 3, 50], [7], [200]])
def test_an_overlay_is_reduced_by_a_whole_number_however_the_rows_come(
    monkeypatch: pytest.MonkeyPatch, hw: tuple[int, int], heights: list[int]
) -> None:
    monkeypatch.setattr(strips, "OVERLAY_SIDE", 30)
    rng = np.random.default_rng(0)
    pixels, ids = rng.integers(0, 256, (*hw, 3)).astype(np.uint8), rng.integers(0, 3, hw).astype(np.uint8)
    reduced = strips._Reduced(hw)
    top, number = 0, 0
    while top < hw[0]:
        rows = slice(top, min(hw[0], top + heights[number % len(heights)]))
        reduced.add(pixels[rows], ids[rows])
        top, number = rows.stop, number + 1
    factor = -(-max(hw) // 30)
    down, across = min(factor, hw[0]), min(factor, hw[1])
    height, width = hw[0] // down, hw[1] // across
    assert reduced.image.shape == (height, width, 3)
    assert max(height, width) <= 30
    cells = pixels[: height * down, : width * across].reshape(height, down, width, across, 3)
    assert np.abs(reduced.image - cells.mean(axis=(1, 3))).max() <= 0.5 + 1e-3
    middle = ids[: height * down, : width * across].reshape(height, down, width, across)[:, down // 2, :, across // 2]
    assert np.array_equal(reduced.mask, middle)


@pytest.mark.parametrize("suffix", [".tif", ".png"])
def test_a_broken_image_leaves_no_file(image: np.ndarray, tmp_path: Path, suffix: str) -> None:
    path = stored(image, tmp_path / f"a{suffix}")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match=rf"a\{suffix}"):
        predict_strips(WINDOWS, path, tmp_path / "out", "a", render=lambda pixels, _: pixels)
    assert not any(file.is_file() for file in (tmp_path / "out").rglob("*"))


@pytest.mark.parametrize("suffix", [".tif", ".png"])
def test_what_fails_halfway_leaves_the_older_files(image: np.ndarray, tmp_path: Path, suffix: str) -> None:
    class Failing(ByBrightness):
        calls = 0

        def __call__(self, images: Array) -> Array:
            self.calls += 1
            if self.calls > 8:
                raise RuntimeError("the device is gone")
            return super().__call__(images)

    path = stored(image, tmp_path / f"a{suffix}")
    mask = predict_strips(WINDOWS, path, tmp_path / "out", "a").mask
    before = mask.read_bytes()
    with pytest.raises(RuntimeError, match="gone"):
        predict_strips(Windows(Failing(), (32, 32)), path, tmp_path / "out", "a", render=lambda pixels, _: pixels)
    assert mask.read_bytes() == before
    assert [file.name for file in (tmp_path / "out").rglob("*") if file.is_file()] == [mask.name]


def test_an_image_is_huge_where_its_scores_would_fill_memory() -> None:
    assert not is_huge((4000, 3000), 21)
    assert is_huge((20_000, 20_000), 2)
    assert is_huge((4000, 3000), 200)
