from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segkit.classes import VOC_NAMES, voc_color
from segkit.errors import DataError
from segkit.formats.masks.voc import read
from segkit.formats.options import ReadOptions

Find = Callable[[str], Path]


def lay_out(root: Path, labels: dict[str, np.ndarray]) -> Path:
    for folder in ("JPEGImages", "SegmentationClass", "SegmentationObject", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for name, label in labels.items():
        Image.fromarray(np.zeros((*label.shape[:2], 3), np.uint8)).save(root / "JPEGImages" / f"{name}.jpg")
        Image.fromarray(label).save(root / "SegmentationClass" / f"{name}.png")
        Image.fromarray(label).save(root / "SegmentationObject" / f"{name}.png")
    return root


def ids(*row: int) -> np.ndarray:
    return np.array([row], np.uint8)


def colors(*row: tuple[int, int, int]) -> np.ndarray:
    return np.array([row], np.uint8)


def test_ids_and_colors_are_read_side_by_side_and_borders_are_ignored(tmp_path: Path) -> None:
    root = lay_out(tmp_path, {"a": ids(0, 15, 255), "b": colors(voc_color(0), voc_color(15), (224, 224, 192))})
    samples = read(root, ReadOptions())
    assert samples.classes.names == VOC_NAMES
    assert [sample.read_mask().tolist() for sample in samples.splits["all"]] == [[[0, 15, 255]]] * 2
    assert "PASCAL VOC's 21 are taken" in samples.notes[0]


def test_a_palette_file_holds_ids_whatever_its_colors(tmp_path: Path) -> None:
    root = lay_out(tmp_path, {"a": ids(0, 1)})
    image = Image.fromarray(ids(0, 1))
    image.putpalette([200, 0, 0, 0, 0, 0] + [0] * 762)
    image.save(root / "SegmentationClass" / "a.png")
    assert read(root, ReadOptions()).splits["all"][0].read_mask().tolist() == [[0, 1]]


@pytest.mark.parametrize("file", ["class_names.txt", "classes.txt", "labels.txt"])
def test_names_come_from_a_file_and_ignore_is_no_class(tmp_path: Path, file: str) -> None:
    root = lay_out(tmp_path, {"a": ids(0, 1, 255)})
    (root / file).write_text("__ignore__\n_background_\nleaf\n")
    samples = read(root, ReadOptions())
    assert samples.classes.names == ("background", "leaf")
    assert samples.splits["all"][0].read_mask().tolist() == [[0, 1, 255]]


def test_a_labelmap_tells_names_colors_and_ids(tmp_path: Path) -> None:
    root = lay_out(tmp_path, {"a": colors((0, 0, 0), (9, 8, 7), (1, 2, 3)), "b": ids(1, 2, 0)})
    (root / "labelmap.txt").write_text(
        "# label:color_rgb:parts:actions\ncow:9,8,7::\nbackground:0,0,0::\ndog:1,2,3::\n"
    )
    samples = read(root, ReadOptions())
    assert samples.classes.names == ("background", "cow", "dog")
    assert samples.classes.colors == ((0, 0, 0), (9, 8, 7), (1, 2, 3))
    assert [p.read_mask().tolist() for p in samples.splits["all"]] == [[[0, 1, 2]], [[0, 2, 1]]]


def test_classes_that_arent_chosen_become_background(tmp_path: Path) -> None:
    root = lay_out(tmp_path, {"a": ids(0, 8, 12, 255)})  # cat, dog
    samples = read(root, ReadOptions(classes=("background", "dog")))
    assert samples.splits["all"][0].read_mask().tolist() == [[0, 0, 1, 255]]
    ignoring = read(root, ReadOptions(classes=("background", "dog"), unlabeled="ignore"))
    assert ignoring.splits["all"][0].read_mask().tolist() == [[0, 255, 1, 255]]


@pytest.mark.parametrize(
    ("label", "found"), [(ids(0, 21), "the value 21"), (colors((1, 1, 1)), r"the colour \(1, 1, 1\)")]
)
def test_what_is_no_class_is_named_with_a_remedy(tmp_path: Path, label: np.ndarray, found: str) -> None:
    with pytest.raises(DataError, match=f"{found}(.|\n)*class_names.txt"):
        read(lay_out(tmp_path, {"a": label}), ReadOptions()).splits["all"][0].read_mask()


def test_a_name_twice_and_a_line_that_is_no_color_are_refused(tmp_path: Path) -> None:
    root = lay_out(tmp_path, {"a": ids(0)})
    (root / "classes.txt").write_text("a\nb\na\n")
    with pytest.raises(DataError, match="a is listed more than once"):
        read(root, ReadOptions())
    (root / "labelmap.txt").write_text("background:0,0,0::\ncow;9,8,7\ndog:300,0,0::\nelk:0,0,0::\n")
    with pytest.raises(DataError, match=r"line 2(.|\n)*line 3(.|\n)*line 4: .* is background and elk"):
        read(root, ReadOptions())


def test_the_archive_may_hold_the_folder(tmp_path: Path) -> None:
    lay_out(tmp_path / "VOCdevkit" / "VOC2012", {"a": ids(0)})
    assert len(read(tmp_path, ReadOptions()).splits["all"]) == 1


def test_a_labelling_tools_own_export(shared_data: Find) -> None:
    root = shared_data("voc_labelme_example")
    samples = read(root, ReadOptions())
    assert {split: len(found) for split, found in samples.splits.items()} == {"train": 2, "val": 1}
    assert samples.classes.names[16] == "potted plant"
    for sample in samples.splits["train"]:
        with Image.open(root / "SegmentationClass" / f"{sample.name}.png") as stored:
            assert (sample.read_mask() == np.array(stored)).all()
        assert (sample.read_mask() == 255).any()
