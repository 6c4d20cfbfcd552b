from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segkit.errors import ConfigError, DataError
from segkit.formats.masks.binary_masks import read
from segkit.formats.options import ReadOptions

Find = Callable[[str], Path]


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def lay_out(root: Path, masks: dict[str, np.ndarray]) -> Path:
    for name, mask in masks.items():
        save(root / "images" / f"{Path(name).name}.jpg", np.zeros((*mask.shape[:2], 3), np.uint8))
        save(root / "masks" / f"{name}.png", mask)
    return root


def row(*values: int) -> np.ndarray:
    return np.array([values], np.uint8)


@pytest.mark.parametrize(
    "mask",
    [
        row(0, 1),
        row(0, 255),
        row(0, 7),
        row(0, 1) > 0,
        np.stack([row(0, 255)] * 3, axis=2),
        row(0, 200).astype(np.uint16),
    ],
)
def test_the_other_value_is_the_object(tmp_path: Path, mask: np.ndarray) -> None:
    samples = read(lay_out(tmp_path, {"a": mask}), ReadOptions())
    assert samples.classes.names == ("background", "object")
    assert samples.splits["all"][0].read_mask().tolist() == [[0, 1]]


def test_files_may_differ_and_hold_one_value_only(tmp_path: Path) -> None:
    masks = {"a": row(0, 1), "b": row(0, 255), "c": row(0, 0), "d": row(255, 255)}
    samples = read(lay_out(tmp_path, masks), ReadOptions())
    assert [p.read_mask().tolist() for p in samples.splits["all"]] == [[[0, 1]], [[0, 1]], [[0, 0]], [[1, 1]]]


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (row(0, 1, 2), "found 0, 1, 2, expected 0 and one other value; for more than one class"),
        (row(1, 2), "found 1, 2, expected 0"),
        (row(*range(0, 256, 5)), "52 values.*soft edges"),
    ],
)
def test_other_values_are_an_error_that_names_them(tmp_path: Path, mask: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(lay_out(tmp_path, {"a": mask}), ReadOptions()).splits["all"][0].read_mask()


def test_a_jpeg_is_refused(tmp_path: Path) -> None:
    root = lay_out(tmp_path, {"a": row(0, 255)})
    (root / "masks/a.png").unlink()
    save(root / "masks" / "a.jpg", row(0, 255))
    with pytest.raises(DataError, match="JPEG label"):
        read(root, ReadOptions()).splits["all"][0].read_mask()


def test_names_are_the_users(tmp_path: Path) -> None:
    root = lay_out(tmp_path, {"a": row(0, 1)})
    assert read(root, ReadOptions(classes=("skin", "wound"))).classes.names == ("skin", "wound")
    with pytest.raises(ConfigError, match="found 3 names, expected two"):
        read(root, ReadOptions(classes=("a", "b", "c")))
    with pytest.raises(ConfigError, match="--unlabeled"):
        read(root, ReadOptions(unlabeled="ignore"))


def test_a_folder_per_class_is_a_class_and_later_ones_cover_earlier(tmp_path: Path) -> None:
    root = lay_out(tmp_path, {"cat/1": row(0, 255, 255), "dog/1": row(0, 0, 1), "dog/2": row(1, 0, 0)})
    save(root / "images" / "3.jpg", np.zeros((1, 3, 3), np.uint8))
    samples = read(root, ReadOptions())
    assert samples.classes.names == ("background", "cat", "dog")
    assert [p.read_mask().tolist() for p in samples.splits["all"]] == [[[0, 1, 2]], [[2, 0, 0]]]
    assert "1 image without a mask left out" in samples.notes[0]
    chosen = read(root, ReadOptions(classes=("background", "dog")))
    assert chosen.splits["all"][0].read_mask().tolist() == [[0, 0, 2 - 1]]


def test_folders_that_images_have_too_are_no_classes(tmp_path: Path) -> None:
    for place in ("patient1", "patient2"):
        save(tmp_path / "images" / place / "1.jpg", np.zeros((1, 2, 3), np.uint8))
        save(tmp_path / "masks" / place / "1.png", row(0, 1))
    samples = read(tmp_path, ReadOptions())
    assert samples.classes.names == ("background", "object")
    assert [sample.name for sample in samples.splits["all"]] == ["patient1/1", "patient2/1"]


def test_real_vessels(shared_data: Find) -> None:
    root = shared_data("drive/original_tif_gif")
    sample = read(root, ReadOptions()).splits["all"][0]
    with Image.open(root / "01_test_manual1.gif") as stored:
        assert (sample.read_mask() == (np.array(stored) == 255)).all()
    assert sample.read_mask().any()
