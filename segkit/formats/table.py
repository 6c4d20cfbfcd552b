"""The formats by name: what `segkit convert` reads (--from) and writes (--to).

To add a format, write a file with a reader, a writer or both, and give it a line here; --help, the checks of options
and the tests read this table. (`recognize` may learn how it looks, to hint at it where --from is missing.)

A reader is `(source: Path, options: ReadOptions) -> SampleSet`, a writer is
`(samples: SampleSet, output: Path, options: WriteOptions) -> list[str]`, which returns notes for the user. They are
imported when they are used, so that this file is light enough for --help.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, cast

from segkit.formats.options import ReadOptions, WriteOptions

if TYPE_CHECKING:
    from segkit.formats.sample import SampleSet

Reader = Callable[[Path, ReadOptions], "SampleSet"]
Writer = Callable[["SampleSet", Path, WriteOptions], list[str]]


@dataclass(frozen=True)
class Format:
    """Where a format's reader and writer are, each as "module:function" below segkit.formats; None: it has none.

    `takes_labels`: its reader takes ReadOptions.labels. `polygons`: its writer writes polygons for another tool, takes
    WriteOptions.tolerance, and its reader reads them again. `shards`: its writer takes WriteOptions.samples_per_shard.
    """

    read: str | None = None
    write: str | None = None
    takes_labels: bool = False
    polygons: bool = False
    shards: bool = False

    def load_reader(self) -> Reader:
        """Import and return the function that reads this format, which must have one."""
        assert self.read is not None, self
        return cast(Reader, _load(self.read))

    def load_writer(self) -> Writer:
        """Import and return the function that writes this format, which must have one."""
        assert self.write is not None, self
        return cast(Writer, _load(self.write))


FORMATS: dict[str, Format] = {
    "voc": Format("masks.voc:read", "folders:write_voc", takes_labels=True),
    "folders": Format("configured:read_folders", "folders:write_folders"),
    "webdataset": Format(write="shards:write", shards=True),
    "labelme": Format("annotations.labelme:read", "annotations.labelme:write", polygons=True),
    "coco": Format("annotations.coco:read", "annotations.coco:write", polygons=True),
    "yolo": Format("annotations.yolo:read", "annotations.yolo:write", polygons=True),
    "coco-panoptic": Format("annotations.coco_panoptic:read"),
    "cvat": Format("annotations.cvat:read"),
    "labelstudio": Format("annotations.labelstudio:read"),
    "supervisely": Format("annotations.supervisely:read"),
    "rle-csv": Format("annotations.rle_csv:read"),
    "cityscapes": Format("masks.cityscapes:read"),
    "ade20k": Format("masks.ade20k:read", takes_labels=True),
    "camvid": Format("masks.camvid:read", takes_labels=True),
    "id-masks": Format("masks.id_masks:read", takes_labels=True),
    "color-masks": Format("masks.color_masks:read", takes_labels=True),
    "binary-masks": Format("masks.binary_masks:read", takes_labels=True),
}

SOURCES = tuple(name for name, form in FORMATS.items() if form.read)
TARGETS = tuple(name for name, form in FORMATS.items() if form.write)


def names_with(flag: str) -> list[str]:
    """Return the names of the formats that have a flag of `Format`."""
    return [name for name, form in FORMATS.items() if getattr(form, flag)]


def _load(where: str) -> object:
    module, function = where.split(":")
    return getattr(import_module(f"segkit.formats.{module}"), function)
