"""The formats by name: what `segkit convert` reads (--from) and writes (--to). A new one is a file and a line here."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from segkit.formats.configured import read_folders
from segkit.formats.folders import write_folders, write_voc
from segkit.formats.pictures import PictureSet, Reader
from segkit.formats.shards import write_shards


@dataclass(frozen=True)
class WriteOptions:
    """What a user may say about a target. `tolerance`: pixels by which polygons may be simplified; 0 is exact."""

    samples_per_shard: int = 1000
    tolerance: float = 0.0


Writer = Callable[[PictureSet, Path, WriteOptions], list[str]]  # returns notes for the user

READERS: dict[str, Reader] = {
    "folders": read_folders,
}

WRITERS: dict[str, Writer] = {
    "voc": lambda pictures, output, _: write_voc(pictures, output),
    "folders": lambda pictures, output, _: write_folders(pictures, output),
    "webdataset": lambda pictures, output, options: write_shards(
        pictures, output, samples_per_shard=options.samples_per_shard
    ),
}

POLYGONS = ("labelme", "coco", "yolo")  # targets that take a tolerance
