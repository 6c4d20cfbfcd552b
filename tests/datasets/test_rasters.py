import builtins
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.control import GroundControlPoint
from rasterio.enums import ColorInterp
from rasterio.transform import Affine

from segkit.classes import Classes
from segkit.datasets.images import read_image
from segkit.datasets.rasters import Georeference, mask_raster, open_raster
from segkit.errors import ConfigError, DataError

# rasterio takes an image without a place on the globe for a mistake; segkit doesn't, which tests without this show
no_place = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
CLASSES = Classes.build(["water", "land"], colors=[(0, 0, 250), (90, 60, 30)])


def draw(path: Path, bands: int = 3, dtype: str = "uint8", hw: tuple[int, int] = (70, 90), **form: Any) -> Path:
    """Write random pixels as a TIFF by GDAL."""
    highest = form.pop("highest", np.iinfo(dtype).max if "int" in dtype else 1)
    meanings = form.pop("meanings", None)
    values = np.random.default_rng(0).uniform(0, highest, (bands, *hw)).astype(dtype)
    form = {"driver": "GTiff", "height": hw[0], "width": hw[1], "count": bands, "dtype": dtype} | form
    with rasterio.open(path, "w", **form) as dataset:
        if meanings:
            dataset.colorinterp = meanings
        dataset.write(values)
    return path


def read_in_parts(path: Path, rows: int = 16) -> np.ndarray:
    with open_raster(path) as raster:
        height = raster.hw[0]
        parts = [raster.read(slice(top, min(height, top + rows))) for top in range(0, height, rows)]
    return np.concatenate(parts)


@no_place
@pytest.mark.parametrize(
    "form",
    [
        {},
        {"tiled": True, "blockxsize": 16, "blockysize": 32, "compress": "deflate", "predictor": 2},
        {"compress": "lzw", "interleave": "pixel"},
        {"compress": "zstd", "interleave": "band"},
        {"BIGTIFF": "YES"},
        {"bands": 1},
        {"bands": 1, "photometric": "MINISWHITE"},
        {"bands": 1, "NBITS": 1, "highest": 2},
        {"bands": 1, "NBITS": 4, "highest": 16},
        {"bands": 1, "dtype": "uint16"},
        {"bands": 1, "dtype": "int16"},
        {"bands": 2, "ALPHA": "YES"},
        {"bands": 4, "ALPHA": "YES", "photometric": "RGB"},
        {"dtype": "uint16", "photometric": "RGB"},
        {"bands": 4, "dtype": "uint16", "photometric": "RGB", "ALPHA": "YES"},
        {"bands": 4, "photometric": "CMYK"},
    ],
)
def test_rows_read_by_window_are_those_of_read_image(tmp_path: Path, form: dict[str, Any]) -> None:
    path = draw(tmp_path / "a.tif", **form)
    assert np.array_equal(read_in_parts(path), read_image(path))


@no_place
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_orientation_is_applied_as_read_image_does(tmp_path: Path, orientation: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.tif", tiffinfo={274: orientation})
    found = read_in_parts(tmp_path / "a.tif")
    assert np.array_equal(found, read_image(tmp_path / "a.tif"))
    assert found.shape == ((60, 40, 3) if orientation == 6 else (40, 60, 3))


def test_a_palette_gives_its_colours(tmp_path: Path) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30)).astype(np.uint8))
    image.putpalette(CLASSES.palette())
    image.save(tmp_path / "a.tif", compression="tiff_lzw")
    assert np.array_equal(read_in_parts(tmp_path / "a.tif"), read_image(tmp_path / "a.tif"))


@no_place
def test_of_many_bands_those_that_are_called_red_green_and_blue_are_read(tmp_path: Path) -> None:
    meanings = [ColorInterp.undefined, ColorInterp.blue, ColorInterp.green, ColorInterp.red, ColorInterp.undefined]
    path = draw(tmp_path / "a.tif", bands=5, meanings=meanings)
    with rasterio.open(path) as dataset:
        expected = dataset.read([4, 3, 2]).transpose(1, 2, 0)
    assert np.array_equal(read_in_parts(path), expected)


@no_place
@pytest.mark.parametrize(
    ("form", "message"),
    [
        ({"dtype": "float32"}, "found floating-point pixels, expected 8 or 16 bit; convert the image to 8 bit"),
        ({"dtype": "float64", "bands": 1}, "found floating-point pixels, expected 8 or 16 bit"),
        ({"dtype": "complex64", "bands": 1}, "found complex64 pixels, expected 8 or 16 bit"),
        ({"bands": 4, "photometric": "MINISBLACK"}, r"found 4 bands \(gray, .*gdal_translate -b RED"),
        ({"bands": 8, "dtype": "uint16"}, r"found 8 bands \(gray, .*doesn't say which are red, green and blue"),
    ],
)
def test_pixels_that_are_no_image_are_refused_with_a_remedy(tmp_path: Path, form: dict[str, Any], message: str) -> None:
    path = draw(tmp_path / "a.tif", **form)
    with pytest.raises(DataError, match=rf"a\.tif: {message}"):
        read_in_parts(path)


@no_place
@pytest.mark.parametrize("kept", [0.0, 0.01, 0.5])
def test_a_broken_file_is_refused_and_named(tmp_path: Path, kept: float) -> None:
    path = draw(tmp_path / "a.tif", hw=(300, 300))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    with pytest.raises(DataError, match=r"a\.tif: (not a TIFF that can be read|the image is damaged or truncated)"):
        read_in_parts(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no\.tif: not a TIFF that can be read"):
        read_in_parts(tmp_path / "no.tif")


def test_a_file_that_refers_to_others_is_not_followed(tmp_path: Path) -> None:
    other = draw(tmp_path / "other.tif", transform=Affine(1, 0, 5, 0, -1, 5), crs="EPSG:3857")
    referring = f"""<VRTDataset rasterXSize="90" rasterYSize="70"><VRTRasterBand dataType="Byte" band="1">
    <SimpleSource><SourceFilename>{other}</SourceFilename><SourceBand>1</SourceBand></SimpleSource>
    </VRTRasterBand></VRTDataset>"""
    (tmp_path / "a.tif").write_text(referring)
    with pytest.raises(DataError, match="not a TIFF that can be read"):
        read_in_parts(tmp_path / "a.tif")


def test_without_rasterio_the_message_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def missing(name: str, *args: Any, **words: Any) -> Any:
        if name == "rasterio":
            raise ImportError(name)
        return real(name, *args, **words)

    monkeypatch.setattr(builtins, "__import__", missing)
    with (
        pytest.raises(ConfigError, match=r"pip install 'segkit\[geo\]'.*--window off"),
        open_raster(tmp_path / "a.tif"),
    ):
        pass


# ---- writing


def write(path: Path, ids: np.ndarray, place: Georeference, heights: list[int]) -> None:
    with mask_raster(path, (ids.shape[0], ids.shape[1]), CLASSES, place) as raster:
        for part in np.split(ids, np.cumsum(heights)[:-1]):
            raster.write(part)


@pytest.mark.parametrize(("hw", "heights"), [((1, 1), [1]), ((40, 50), [40]), ((1200, 530), [100, 700, 1, 399])])
@no_place
def test_ids_come_back_with_the_colours_of_their_classes(
    tmp_path: Path, hw: tuple[int, int], heights: list[int]
) -> None:
    ids = np.random.default_rng(0).choice([0, 1, 255], hw).astype(np.uint8)
    write(tmp_path / "m.tif", ids, Georeference(), heights)
    with rasterio.open(tmp_path / "m.tif") as dataset:
        assert np.array_equal(dataset.read(1), ids)
        assert dataset.nodata == 255
        assert dataset.colormap(1)[1][:3] == (90, 60, 30)
        assert dataset.profile["tiled"]
        assert dataset.profile["compress"] == "deflate"
    with Image.open(tmp_path / "m.tif") as opened:
        assert opened.mode == "P"
        assert np.array_equal(np.array(opened), ids)
    assert [file.name for file in tmp_path.iterdir()] == ["m.tif"]


def test_transform_and_coordinate_system_are_kept(tmp_path: Path) -> None:
    place = {"crs": "EPSG:32632", "transform": Affine(0.2, 0.01, 500_000.0, 0.02, -0.2, 5_400_000.0)}
    draw(tmp_path / "a.tif", **place)
    with open_raster(tmp_path / "a.tif") as raster:
        write(tmp_path / "m.tif", np.zeros(raster.hw, np.uint8), raster.georeference, [raster.hw[0]])
    with rasterio.open(tmp_path / "a.tif") as given, rasterio.open(tmp_path / "m.tif") as found:
        assert found.crs == given.crs
        assert found.crs.to_epsg() == 32632
        assert found.transform == given.transform == place["transform"]
        assert found.tags()["AREA_OR_POINT"] == given.tags()["AREA_OR_POINT"]


@no_place
def test_ground_control_points_are_kept(tmp_path: Path) -> None:
    points = [GroundControlPoint(r, c, 10 + c / 100, 50 - r / 100) for r, c in ((0, 0), (0, 89), (69, 0))]
    draw(tmp_path / "a.tif", gcps=points, crs="EPSG:4326")
    with open_raster(tmp_path / "a.tif") as raster:
        write(tmp_path / "m.tif", np.zeros(raster.hw, np.uint8), raster.georeference, [raster.hw[0]])
    with rasterio.open(tmp_path / "m.tif") as found:
        places, system = found.gcps
    assert [(p.row, p.col, p.x, p.y) for p in places] == [(p.row, p.col, p.x, p.y) for p in points]
    assert system.to_epsg() == 4326


@no_place
def test_an_image_without_a_place_gives_a_mask_without_one(tmp_path: Path) -> None:
    draw(tmp_path / "a.tif")
    with open_raster(tmp_path / "a.tif") as raster:
        assert raster.georeference == Georeference(area_or_point=raster.georeference.area_or_point)


def test_a_full_disk_is_an_error_of_the_system(tmp_path: Path) -> None:
    folder = tmp_path / "disk"
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if subprocess.run(words, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a file system")
    try:
        ids = np.random.default_rng(0).integers(0, 2, (2048, 2048)).astype(np.uint8)
        with pytest.raises(OSError, match=r"m\.tif"):
            write(folder / "m.tif", ids, Georeference(), [512, 512, 512, 512])
    finally:
        subprocess.run(["umount", str(folder)], check=True)
