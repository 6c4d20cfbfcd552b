"""TIFFs that are larger than memory: pixels read by window, class ids written by strip, the georeference kept.

By rasterio (GDAL, the extra `geo`), which alone reads and writes parts of every kind of TIFF: BigTIFF, tiles, strips,
each compression, and the tags of a GeoTIFF. (tifffile would need zarr for windows, imagecodecs for LZW and JPEG, and
rasterio besides for the georeference.) Pixels become uint8 RGB by the rules of segkit/datasets/images.py, where whole
files of every format are read.
"""

import contextlib
import errno
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from segkit.classes import Classes
from segkit.datasets.images import read_image
from segkit.errors import ConfigError, DataError, first_line

RASTER_SUFFIXES = (".tif", ".tiff")

_TILE = 512  # pixels a side, of what is written
_CACHE_BYTES = 64 * 2**20  # of GDAL's cache of blocks, which by default takes 5 % of the machine's memory
_COMPRESSION, _PHOTOMETRIC, _ORIENTATION = 259, 262, 274  # tags of TIFF
_CMYK, _LAB = 5, 8  # photometric interpretations that Pillow converts and GDAL doesn't
_DEEP = ("uint16", "int16", "uint32", "int32")


def need_rasterio(for_what: str) -> Any:
    """Return the package rasterio.

    Raises:
        ConfigError: it isn't installed.
    """
    try:
        import rasterio
    except ImportError as error:
        raise ConfigError(
            f"{for_what}: needs the package rasterio to read a TIFF by window, which isn't installed; install it with "
            "pip install 'segkit[geo]', or predict the image as a whole with --window off"
        ) from error
    return rasterio


@dataclass(frozen=True)
class Georeference:
    """Where on the globe the pixels of a raster are, as far as its file says: any of a transform and its coordinate
    system, ground control points, and rational polynomials; and whether a coordinate is that of a pixel's centre.
    """

    crs: Any = None
    transform: Any = None
    control_points: Any = None
    control_points_crs: Any = None
    polynomials: Any = None
    area_or_point: str | None = None

    @classmethod
    def of(cls, dataset: Any) -> "Georeference":
        """Return what an open data set of rasterio says."""
        points, points_crs = dataset.gcps
        return cls(
            dataset.crs,
            None if dataset.transform.is_identity else dataset.transform,
            points or None,
            points_crs,
            dataset.rpcs,
            dataset.tags().get("AREA_OR_POINT"),
        )


class Raster:
    """An open TIFF whose rows are read as uint8 RGB; see `open_raster`."""

    def __init__(self, path: Path, dataset: Any) -> None:
        self.path, self.georeference = path, Georeference.of(dataset)
        self.hw: tuple[int, int] = (dataset.height, dataset.width)
        self._dataset, self._whole = dataset, None
        if _needs_pillow(path):
            self._whole = read_image(path)
            self.hw = self._whole.shape[:2]
        else:
            self._bands, self._levels = _choose_bands(path, dataset), _levels(path, dataset)

    def read(self, rows: slice) -> np.ndarray:
        """Return rows as uint8 RGB [rows, w, 3].

        Raises:
            DataError: the file is damaged or truncated there.
        """
        if self._whole is not None:
            return self._whole[rows]
        from rasterio.errors import RasterioError
        from rasterio.windows import Window

        window = Window(0, rows.start, self.hw[1], rows.stop - rows.start)
        try:
            stored = self._dataset.read(self._bands, window=window)  # [bands, rows, w]
        except RasterioError as error:
            why = first_line(error.__cause__ or error)
            raise DataError(
                f"{self.path}: the image is damaged or truncated at rows {rows.start} to {rows.stop - 1} ({why}); "
                "copy it again"
            ) from error
        if stored.dtype != np.uint8:
            stored = (np.clip(stored, 0, 65535) >> 8).astype(np.uint8)  # as read_image: the upper 8 of 16 bits
        pixels = stored if self._levels is None else self._levels[:, stored[0]]
        return np.ascontiguousarray(np.broadcast_to(pixels, (3, *pixels.shape[1:])).transpose(1, 2, 0))


@contextlib.contextmanager
def open_raster(path: Path) -> Iterator[Raster]:
    """Open a TIFF whose rows become uint8 RGB as `read_image` reads it whole: 16 bit by its upper 8, grey repeated, a
    palette's colours, alpha dropped. Of more than 3 bands the file must say which are red, green and blue.

    Few files are read whole after all: those that are turned by their orientation, CMYK and Lab.

    Raises:
        ConfigError: rasterio isn't installed.
        DataError: the file can't be read, or its bands can't be taken for an image.
    """
    rasterio = need_rasterio(str(path))
    from rasterio.errors import NotGeoreferencedWarning, RasterioError

    with contextlib.ExitStack() as stack:
        stack.enter_context(rasterio.Env(GDAL_CACHEMAX=_CACHE_BYTES))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", NotGeoreferencedWarning)
                # no other driver: a file that is called x.tif may be one that refers to other files
                dataset = stack.enter_context(rasterio.open(path, driver="GTiff"))
        except (RasterioError, UnicodeEncodeError) as error:
            raise DataError(
                f"{path}: not a TIFF that can be read ({first_line(error)}); copy it again, rename or convert it"
            ) from error
        yield Raster(path, dataset)


def _needs_pillow(path: Path) -> bool:
    """True for what GDAL gives as it is stored: turned or mirrored, CMYK, Lab."""
    try:
        with Image.open(path) as opened:
            if not isinstance(opened, TiffImageFile):
                return False
            tags = opened.tag_v2
            is_jpeg = tags.get(_COMPRESSION) in (6, 7)  # GDAL decodes CMYK there, as Pillow does
            return tags.get(_ORIENTATION, 1) != 1 or (tags.get(_PHOTOMETRIC) in (_CMYK, _LAB) and not is_jpeg)
    except (OSError, ValueError, SyntaxError):
        return False  # bands or types that Pillow doesn't know: no photograph


def _choose_bands(path: Path, dataset: Any) -> list[int]:
    """Return the numbers of the bands to read, counted from 1: red, green and blue, or a single one."""
    from rasterio.enums import ColorInterp

    kinds = {dtype for dtype in dataset.dtypes if dtype not in ("uint8", *_DEEP)}
    if kinds:
        what = "floating-point" if any("float" in kind for kind in kinds) else ", ".join(sorted(kinds))
        raise DataError(f"{path}: found {what} pixels, expected 8 or 16 bit; convert the image to 8 bit")
    meanings = list(dataset.colorinterp)
    colors = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
    if all(color in meanings for color in colors):
        return [meanings.index(color) + 1 for color in colors]
    if dataset.count <= 2:  # grey or a palette, and alpha
        return [1]
    if dataset.count == 3:
        return [1, 2, 3]
    found = ", ".join(meaning.name for meaning in meanings)
    raise DataError(
        f"{path}: found {dataset.count} bands ({found}), of which the file doesn't say which are red, green and blue; "
        "choose them with: gdal_translate -b RED -b GREEN -b BLUE -colorinterp red,green,blue"
    )


def _levels(path: Path, dataset: Any) -> np.ndarray | None:
    """Return the colours that the values of a single band stand for, uint8 [3, 256]; None where they are themselves."""
    from rasterio.enums import ColorInterp

    if dataset.count > 2 or dataset.dtypes[0] != "uint8":
        return None
    if dataset.colorinterp[0] == ColorInterp.palette:
        colors = np.zeros((256, 3), np.uint8)
        for value, color in dataset.colormap(1).items():
            colors[value] = color[:3]
        return colors.T.copy()
    structure = {**dataset.tags(ns="IMAGE_STRUCTURE"), **dataset.tags(1, ns="IMAGE_STRUCTURE")}
    largest = 2 ** int(structure.get("NBITS", 8)) - 1
    grey = (np.arange(256).clip(max=largest) * 255 // largest).astype(np.uint8)
    if structure.get("MINISWHITE") == "YES":
        grey = 255 - grey
    elif largest == 255:
        return None
    return np.broadcast_to(grey, (3, 256))


class MaskRaster:
    """Class ids that are written as a tiled TIFF from top to bottom; see `mask_raster`."""

    def __init__(self, path: Path, dataset: Any) -> None:
        self.path, self._dataset = path, dataset
        self._waiting = np.empty((0, dataset.width), np.uint8)  # rows that don't fill a row of tiles yet
        self._written = 0

    def write(self, ids: np.ndarray) -> None:
        """Append rows: ids uint8 [rows, w].

        Raises:
            OSError: no space, or no permission.
        """
        rows = np.concatenate([self._waiting, ids])
        ready = len(rows) if self._written + len(rows) == self._dataset.height else len(rows) // _TILE * _TILE
        if ready:  # whole tiles only: each is compressed once
            self._put(rows[:ready])
        self._waiting = rows[ready:]

    def _put(self, ids: np.ndarray) -> None:
        from rasterio.windows import Window

        self._dataset.write(ids, 1, window=Window(0, self._written, ids.shape[1], len(ids)))
        self._written += len(ids)


@contextlib.contextmanager
def mask_raster(
    path: Path, size_hw: tuple[int, int], classes: Classes, georeference: Georeference
) -> Iterator[MaskRaster]:
    """Write class ids as a TIFF of tiles, deflated, with the classes' colours and a georeference; a BigTIFF if it needs
    to be. `ignore_index` is its "no data" value.

    Raises:
        OSError: no space, no permission, or what was written can't be read.
    """
    rasterio = need_rasterio(str(path))
    from rasterio.errors import NotGeoreferencedWarning, RasterioError

    height, width = size_hw
    form = {
        "driver": "GTiff", "height": height, "width": width, "count": 1, "dtype": "uint8", "tiled": True,
        "blockxsize": _TILE, "blockysize": _TILE, "compress": "deflate", "BIGTIFF": "IF_SAFER",
        "nodata": classes.ignore_index,
    }  # fmt: skip
    places = {"crs": georeference.crs, "transform": georeference.transform}
    palette = np.array(classes.palette()).reshape(256, 3)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            dataset = rasterio.open(path, "w", **form, **{name: value for name, value in places.items() if value})
        with dataset:
            if georeference.control_points:
                dataset.gcps = (georeference.control_points, georeference.control_points_crs)
            if georeference.polynomials:
                dataset.rpcs = georeference.polynomials
            if georeference.area_or_point:
                dataset.update_tags(AREA_OR_POINT=georeference.area_or_point)
            dataset.write_colormap(1, {k: (*color, 255) for k, color in enumerate(palette.tolist())})
            yield MaskRaster(path, dataset)
        _check_end(path, size_hw)
    except RasterioError as error:
        raise OSError(errno.EIO, first_line(error.__cause__ or error), os.fspath(path)) from error


def _check_end(path: Path, size_hw: tuple[int, int]) -> None:
    """Read the last tile back: GDAL writes it on closing, where it doesn't tell of a full disk."""
    with open_raster(path) as written:
        try:
            written.read(slice(size_hw[0] - 1, size_hw[0]))
        except DataError as error:
            raise OSError(errno.ENOSPC, "what was written can't be read; is the disk full?", os.fspath(path)) from error
