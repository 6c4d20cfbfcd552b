import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segkit.formats.convert import convert
from segkit.formats.options import WriteOptions
from segkit.formats.recognize import recognize
from segkit.formats.sample import SampleSet
from segkit.formats.table import SOURCES, names_with

COCO = {"images": [], "annotations": [], "categories": []}
LABELSTUDIO = [{"id": 1, "data": {}, "annotations": []}]


def lay_out(root: Path, files: dict[str, object]) -> Path:
    """Write files: text, bytes, JSON of lists and dicts, and images of arrays."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, np.ndarray):
            Image.fromarray(content).save(path)
        else:
            path.write_text(content if isinstance(content, str) else json.dumps(content))
    return root


@pytest.mark.parametrize(
    ("files", "name"),
    [
        ({"objectInfo150.txt": ""}, "ade20k"),
        ({"ADEChallengeData2016/images/a.jpg": ""}, "ade20k"),
        ({"gtFine/train/aachen/a.png": ""}, "cityscapes"),
        ({"gtCoarse/train/aachen/a.png": ""}, "cityscapes"),
        ({"label_colors.txt": ""}, "camvid"),
        ({"LabeledApproved_full/a_L.png": ""}, "camvid"),
        ({"meta.json": {}, "ds/ann/a.jpg.json": {}}, "supervisely"),
        ({"data.yaml": "", "labels/train/a.txt": ""}, "yolo"),
        ({"labelmap.txt": ""}, "cvat"),
        ({"annotations.xml": "<?xml version='1.0'?><annotations/>"}, "cvat"),
        ({"train.csv": "ImageId,EncodedPixels\n"}, "rle-csv"),
        ({"train.csv": "id,RLE\n"}, "rle-csv"),
        ({"a.json": {"shapes": [], "imagePath": "a.jpg"}}, "labelme"),
        ({"a.json": {"lineColor": [0, 0, 0]}}, "labelme"),
        ({"instances.json": COCO}, "coco"),
        ({"panoptic_val.json": COCO}, "coco-panoptic"),
        ({"val.json": {"annotations": [{"segments_info": []}]}}, "coco-panoptic"),
        ({"export.json": LABELSTUDIO}, "labelstudio"),
        ({"export.json": [{"completions": []}]}, "labelstudio"),
    ],
)
def test_a_format_is_known_by_its_files(tmp_path: Path, files: dict[str, object], name: str) -> None:
    assert recognize(lay_out(tmp_path / "set", files)) == name
    assert name in SOURCES


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"meta.json": {}},  # without ann/
        {"data.yaml": ""},  # without labels/
        {"a.xml": "<html/>"},
        {"a.csv": "name,age\n"},
        {"a.json": "{ broken"},
        {"a.json": {"shapes": []}},  # without imagePath
        {"a.json": {"images": []}},  # without annotations
        {"a.json": [{"id": 1}]},
        {"a.json": []},
        {"a.jpg": np.zeros((2, 2, 3), np.uint8)},  # without a label
    ],
    ids=str,
)
def test_a_folder_of_other_things_looks_like_nothing(tmp_path: Path, files: dict[str, object]) -> None:
    (tmp_path / "set").mkdir()
    assert recognize(lay_out(tmp_path / "set", files)) is None


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ([0, 255], "binary-masks"),
        ([0, 1], "binary-masks"),
        ([7, 7], "binary-masks"),
        ([0, 1, 2], "id-masks"),
        ([1, 2], "id-masks"),
    ],
)
def test_masks_are_known_by_their_values(tmp_path: Path, values: list[int], name: str) -> None:
    image = np.zeros((1, len(values), 3), np.uint8)
    root = lay_out(tmp_path, {"images/a.png": image, "masks/a.png": np.array([values], np.uint8)})
    assert recognize(root) == name


def test_masks_of_colours_are_known(tmp_path: Path) -> None:
    image = np.zeros((1, 2, 3), np.uint8)
    assert recognize(lay_out(tmp_path, {"images/a.png": image, "masks/a.png": image + 9})) == "color-masks"


def test_a_single_file_is_recognized_too(tmp_path: Path) -> None:
    assert recognize(lay_out(tmp_path, {"x.json": COCO}) / "x.json") == "coco"


@pytest.mark.parametrize("target", names_with("polygons"))
def test_what_segkit_writes_for_another_tool_is_recognized(
    make_set: Callable[..., SampleSet], tmp_path: Path, target: str
) -> None:
    convert(make_set({"a": np.eye(5, dtype=np.uint8)}), target, tmp_path / "out", options=WriteOptions())
    assert recognize(tmp_path / "out") == target
