from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segkit.errors import DataError
from segkit.formats.masks.camvid import COLORS, read
from segkit.formats.options import ReadOptions

ROAD, SKY, VOID = (128, 64, 128), (128, 128, 128), (0, 0, 0)


def save(path: Path, pixels: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.array(pixels, np.uint8)).save(path)


def original(root: Path, row: list[tuple[int, int, int]]) -> Path:
    save(root / "701_StillsRaw_full" / "0001TP_006690.png", np.zeros((1, len(row), 3)))
    save(root / "LabeledApproved_full" / "0001TP_006690_L.png", [row])
    return root


def segnet(root: Path, row: list[int]) -> Path:
    for split in ("train", "val", "test"):
        save(root / split / f"{split}_1.png", np.zeros((1, len(row), 3)))
        save(root / f"{split}annot" / f"{split}_1.png", [row])
        (root / f"{split}.txt").write_text(f"/SegNet/CamVid/{split}/{split}_1.png /SegNet/CamVid/{split}annot/...\n")
    return root


def test_the_original_has_31_classes_and_void_is_ignored(tmp_path: Path) -> None:
    samples = read(original(tmp_path, [ROAD, SKY, VOID]), ReadOptions())
    assert len(samples.classes) == 31
    names = samples.classes.names
    mask = samples.splits["all"][0].read_mask()
    assert mask.tolist() == [[names.index("Road"), names.index("Sky"), 255]]
    assert samples.classes.colors[names.index("Road")] == ROAD


def test_the_colors_are_32_different_ones() -> None:
    assert len(COLORS) == len(set(COLORS.values())) == 32


def test_the_data_sets_own_list_of_colors_goes_first(tmp_path: Path) -> None:
    root = original(tmp_path, [ROAD, SKY, VOID])
    (root / "label_colors.txt").write_text("128 64 128\tLane\n128 128 128\tAir\n0 0 0\t\tVoid\n")
    samples = read(root, ReadOptions())
    assert samples.classes.names == ("Lane", "Air")
    assert samples.splits["all"][0].read_mask().tolist() == [[0, 1, 255]]


def test_segnets_form_has_11_classes_and_11_is_ignored(tmp_path: Path) -> None:
    samples = read(segnet(tmp_path, [0, 10, 11, 255]), ReadOptions())
    assert sorted(samples.splits) == ["test", "train", "val"]
    assert samples.classes.names[3] == "road"
    assert samples.splits["val"][0].read_mask().tolist() == [[0, 10, 255, 255]]


def test_an_unknown_value_and_an_unknown_color_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the value 12"):
        read(segnet(tmp_path / "a", [0, 12]), ReadOptions()).splits["val"][0].read_mask()
    with pytest.raises(DataError, match=r"the colour \(1, 2, 3\)"):
        read(original(tmp_path / "b", [ROAD, (1, 2, 3)]), ReadOptions()).splits["all"][0].read_mask()


def test_labels_of_both_kinds_are_refused(tmp_path: Path) -> None:
    root = segnet(tmp_path, [0, 1])
    save(root / "valannot" / "val_1.png", [[ROAD, SKY]])
    with pytest.raises(DataError, match="found RGB colours, expected one id"):
        read(root, ReadOptions()).splits["val"][0].read_mask()


def test_void_becomes_background_if_asked(tmp_path: Path) -> None:
    options = ReadOptions(classes=("background", "Road"), unlabeled="background")
    mask = read(original(tmp_path / "a", [ROAD, SKY, VOID]), options).splits["all"][0].read_mask()
    assert mask.tolist() == [[1, 0, 0]]
    mask = read(segnet(tmp_path / "b", [0, 11]), ReadOptions(unlabeled="background")).splits["val"][0].read_mask()
    assert mask.tolist() == [[1, 0]]
