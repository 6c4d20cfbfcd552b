import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segkit.errors import DataError
from segkit.formats.masks.cityscapes import LABELS, read
from segkit.formats.options import ReadOptions

Find = Callable[[str], Path]


def lay_out(
    root: Path, mask: list[list[int]], *, kind: str = "labelIds", split: str = "val", truth: str = "gtFine"
) -> Path:
    labels = np.array(mask, np.uint8)
    image = root / "leftImg8bit" / split / "ulm" / f"ulm_{split}_000001_leftImg8bit.png"
    label = root / truth / split / "ulm" / f"ulm_{split}_000001_{truth}_{kind}.png"
    for path, pixels in ((image, np.zeros((*labels.shape, 3), np.uint8)), (label, labels)):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return root


def test_label_ids_and_train_ids_of_a_real_pair_agree(shared_data: Find, tmp_path: Path) -> None:
    """The pair was made smaller, each file by itself, so 77 of its 32768 pixels differ in the files themselves."""
    source = shared_data("format_zoo/pseudo_cityscapes_dataset")
    by_label = read(source, ReadOptions())
    copy = tmp_path / "cityscapes"
    shutil.copytree(source, copy, ignore=shutil.ignore_patterns("*_labelIds.png"))
    by_train = read(copy, ReadOptions())
    (first,), (second,) = by_label.splits["val"], by_train.splits["val"]
    assert first.name == second.name == "frankfurt/frankfurt_000000_000294"
    from_labels, from_trains = first.read_mask(), second.read_mask()
    assert (from_labels != from_trains).sum() == 77
    for class_id in np.unique(from_labels):
        assert np.bincount(from_trains[from_labels == class_id]).argmax() == class_id
    with Image.open(next(copy.rglob("*_labelTrainIds.png"))) as stored:
        assert (from_trains == np.array(stored)).all()


def test_every_label_id_has_its_train_id_or_none(tmp_path: Path) -> None:
    samples = read(lay_out(tmp_path, [list(range(34))]), ReadOptions())
    expected = [255] * 7 + [0, 1, 255, 255, 2, 3, 4, 255, 255, 255, 5, 255, *range(6, 16), 255, 255, 16, 17, 18]
    assert samples.splits["val"][0].read_mask().tolist() == [expected]
    assert samples.classes.names == tuple(name for name, _, _ in LABELS)
    assert samples.classes.colors[13] == (0, 0, 142)  # car


@pytest.mark.parametrize(("kind", "value"), [("labelIds", 34), ("labelTrainIds", 19)])
def test_a_value_that_is_no_id_is_named(tmp_path: Path, kind: str, value: int) -> None:
    samples = read(lay_out(tmp_path, [[7, value]], kind=kind), ReadOptions())
    with pytest.raises(DataError, match=rf"the value {value} at \(0, 1\)"):
        samples.splits["val"][0].read_mask()


def test_coarse_labels_are_read_where_there_are_no_fine_ones(tmp_path: Path) -> None:
    root = lay_out(tmp_path, [[7, 26]], split="train_extra", truth="gtCoarse")
    assert read(root, ReadOptions()).splits["train_extra"][0].read_mask().tolist() == [[0, 13]]


def test_chosen_classes_leave_others_out_or_to_the_background(tmp_path: Path) -> None:
    root = lay_out(tmp_path, [[0, 7, 23, 26]])  # void, road, sky, car
    assert read(root, ReadOptions(classes=("car", "road"))).splits["val"][0].read_mask().tolist() == [[255, 1, 255, 0]]
    options = ReadOptions(classes=("background", "car"), unlabeled="background")
    assert read(root, options).splits["val"][0].read_mask().tolist() == [[0, 0, 0, 1]]


def test_the_test_split_is_left_out_if_its_labels_hold_no_class(tmp_path: Path) -> None:
    lay_out(tmp_path, [[7, 8]])
    samples = read(lay_out(tmp_path, [[0, 3]], split="test"), ReadOptions())
    assert list(samples.splits) == ["val"]
    assert "test is left out" in samples.notes[0]
    assert list(read(lay_out(tmp_path, [[0, 7]], split="test"), ReadOptions()).splits) == ["test", "val"]


def test_a_image_without_its_label_is_an_error(tmp_path: Path) -> None:
    root = lay_out(tmp_path, [[7, 8]])
    image = next((root / "leftImg8bit").rglob("*.png"))
    shutil.copy(image, image.with_name("ulm_val_000002_leftImg8bit.png"))
    with pytest.raises(DataError, match=r"000002_leftImg8bit\.png: no label for this image, expected .*000002_gtFine"):
        read(root, ReadOptions())


@pytest.mark.parametrize(("missing", "message"), [("gtFine", "no gtFine/"), ("leftImg8bit", "no leftImg8bit/")])
def test_what_is_no_cityscapes_is_said(tmp_path: Path, missing: str, message: str) -> None:
    root = lay_out(tmp_path, [[7, 8]])
    shutil.rmtree(root / missing)
    with pytest.raises(DataError, match=message):
        read(root, ReadOptions())
