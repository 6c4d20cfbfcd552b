"""The formats by name: what `segkit convert` reads (--from) and writes (--to). A new one is a file and a line here."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from segkit.formats.annotations import coco, coco_panoptic, cvat, labelme, labelstudio, rle_csv, supervisely, yolo
from segkit.formats.configured import read_folders
from segkit.formats.folders import write_folders, write_voc
from segkit.formats.masks import ade20k, binary_masks, camvid, cityscapes, color_masks, id_masks, voc
from segkit.formats.sample import PictureSet, Reader
from segkit.formats.shards import write_shards


@dataclass(frozen=True)
class WriteOptions:
    """What a user may say about a target. `tolerance`: pixels by which polygons may be simplified; 0 is exact."""

    samples_per_shard: int = 1000
    tolerance: float = 0.0


Writer = Callable[[PictureSet, Path, WriteOptions], list[str]]  # returns notes for the user

READERS: dict[str, Reader] = {
    "labelme": labelme.read,
    "coco": coco.read,
    "coco-panoptic": coco_panoptic.read_panoptic,
    "yolo": yolo.read,
    "cvat": cvat.read,
    "labelstudio": labelstudio.read,
    "supervisely": supervisely.read,
    "cityscapes": cityscapes.read,
    "ade20k": ade20k.read,
    "camvid": camvid.read,
    "voc": voc.read,
    "folders": read_folders,
    "id-masks": id_masks.read,
    "color-masks": color_masks.read,
    "binary-masks": binary_masks.read,
    "rle-csv": rle_csv.read,
}

WRITERS: dict[str, Writer] = {
    "voc": lambda pictures, output, _: write_voc(pictures, output),
    "folders": lambda pictures, output, _: write_folders(pictures, output),
    "webdataset": lambda pictures, output, options: write_shards(
        pictures, output, samples_per_shard=options.samples_per_shard
    ),
    "labelme": lambda pictures, output, options: labelme.write(pictures, output, tolerance=options.tolerance),
    "coco": lambda pictures, output, options: coco.write(pictures, output, tolerance=options.tolerance),
    "yolo": lambda pictures, output, options: yolo.write(pictures, output, tolerance=options.tolerance),
}

TAKE_LABELS = ("ade20k", "camvid", "voc", "id-masks", "color-masks", "binary-masks")  # sources that take --labels
POLYGONS = ("labelme", "coco", "yolo")  # targets of other tools: they take a tolerance, and can be read again
