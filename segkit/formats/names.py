"""The names of the formats that table.py reads and writes, for --help, which imports nothing heavy."""

SOURCES = (
    "labelme", "coco", "coco-panoptic", "yolo", "cvat", "labelstudio", "supervisely", "cityscapes", "ade20k", "camvid",
    "voc", "folders", "id-masks", "color-masks", "binary-masks", "rle-csv",
)  # fmt: skip
TARGETS = ("voc", "folders", "webdataset", "labelme", "coco", "yolo")
