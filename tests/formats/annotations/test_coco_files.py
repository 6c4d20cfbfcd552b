"""Which files a data set in COCO's form is made of, read by coco and coco_panoptic alike."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from segkit.errors import DataError
from segkit.formats.annotations import coco_panoptic
from segkit.formats.annotations.coco import read
from segkit.formats.annotations.coco_files import CocoFile, join_splits, list_coco_files
from segkit.formats.options import ReadOptions
from segkit.formats.sample import NO_SPLIT, SampleSet

OPTIONS = ReadOptions()
SQUARE = {"image_id": 1, "category_id": 3, "iscrowd": 0, "segmentation": [[0, 0, 2, 0, 2, 2, 0, 2]]}
Save = Callable[..., Path]


def the_mask(samples: SampleSet) -> np.ndarray:
    ((sample,),) = samples.splits.values()
    return sample.read_mask()


@pytest.mark.parametrize(
    ("name", "folder", "split"),
    [
        ("annotations/instances_train2017.json", "train2017", "train"),
        ("annotations/instances_train2017.json", "images/train2017", "train"),
        ("annotations/instances_val.json", "images/val", "val"),
        ("annotations/instances_default.json", "images", NO_SPLIT),
        ("annotations/train.json", "images", "train"),
        ("valid/_annotations.coco.json", "valid", "val"),
        ("labels.json", ".", NO_SPLIT),
        ("mine.json", "images", NO_SPLIT),
        ("annotations/instances_fold0.json", "images/fold0", "fold0"),
    ],
)
def test_splits_and_images_are_found_by_the_names_of_files_and_folders(
    save: Save, tmp_path: Path, name: str, folder: str, split: str
) -> None:
    path = save(tmp_path, [SQUARE], name=name, folder=folder)
    for source in (path, tmp_path):
        samples = read(source, OPTIONS)
        assert list(samples.splits) == [split]
        assert the_mask(samples).sum() == 4


def test_the_folder_of_images_can_be_said(save: Save, tmp_path: Path) -> None:
    path = save(tmp_path / "x", [SQUARE])
    (tmp_path / "x" / "train2017").rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match=r"a\.jpg: no such image in "):
        read(path, OPTIONS)
    assert the_mask(read(path, ReadOptions(images=tmp_path / "elsewhere"))).sum() == 4


@pytest.mark.parametrize("named", ["/data/me/a.jpg", "C:\\data\\a.jpg", "../../a.jpg", ".\\a.jpg"])
def test_a_file_name_that_leaves_the_folder_is_looked_for_inside(save: Save, tmp_path: Path, named: str) -> None:
    path = save(tmp_path, [SQUARE])
    path.write_text(path.read_text().replace(json.dumps("a.jpg"), json.dumps(named)))
    (sample,) = read(path, OPTIONS).splits["train"]
    assert (sample.name, sample.image) == ("a", tmp_path / "train2017" / "a.jpg")


def test_captions_and_panoptic_files_beside_are_left_alone(save: Save, tmp_path: Path) -> None:
    save(tmp_path, [SQUARE])
    for name in ("captions", "panoptic", "person_keypoints", "image_info"):
        (tmp_path / "annotations" / f"{name}_train2017.json").write_text("{}")
    assert the_mask(read(tmp_path, OPTIONS)).sum() == 4


def test_two_files_of_a_split_are_refused(save: Save, tmp_path: Path) -> None:
    for year in (2014, 2017):
        save(tmp_path, [SQUARE], name=f"annotations/instances_train{year}.json")
    with pytest.raises(DataError, match="both of the split 'train'"):
        read(tmp_path, OPTIONS)


def test_missing_images_are_counted(save: Save, tmp_path: Path) -> None:
    path = save(tmp_path, [], images=tuple(f"{n:02d}.jpg" for n in range(13)))
    for sample in (tmp_path / "train2017").iterdir():
        sample.unlink()
    with pytest.raises(DataError, match=r"3 more \(13 in total\)"):
        read(path, OPTIONS)


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"images": None}, "images"),
        ({"annotations": {}}, "annotations"),
        ({"categories": 3}, "categories"),
        ({"images": [3]}, "image 1"),
        ({"images": [{"id": 1}]}, "image 1: file_name"),
        ({"images": [{"id": 1.5, "file_name": "a.jpg"}]}, "image 1: id"),
        ({"images": [{"id": 1, "file_name": "a.jpg", "height": "20"}]}, "image 1: height"),
        ({"images": [{"id": 1, "file_name": "a.jpg"}] * 2}, "image 2"),
        ({"images": [{"id": 1, "file_name": "a\x00.jpg"}]}, "a\x00.jpg: no such image"),
        ({"images": [{"id": 1, "file_name": ""}]}, ".: no such image"),
        ({"categories": ["cat"]}, "category 1"),
        ({"categories": [{"id": "1", "name": "cat"}]}, "category 1: id"),
        ({"categories": [{"id": 1}]}, "category 1: name"),
        ({"categories": [{"id": 1, "name": "cat"}, {"id": 1, "name": "dog"}]}, "category 2"),
    ],
    ids=str,
)
def test_a_wrong_field_is_named_with_its_file(
    save: Save, tmp_path: Path, fields: dict[str, object], place: str
) -> None:
    path = save(tmp_path, [SQUARE])
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))
    with pytest.raises(DataError) as caught:
        read(path, OPTIONS)
    assert f"instances_train2017.json: {place}" in str(caught.value)


@pytest.mark.parametrize(("content", "found"), [("", "broken JSON"), ('{"images": [', "broken JSON"), ("[]", "a list")])
def test_a_broken_file_is_named(save: Save, tmp_path: Path, content: str, found: str) -> None:
    path = save(tmp_path, [])
    path.write_text(content)
    with pytest.raises(DataError, match=rf"instances_train2017\.json: .*{found}"):
        read(path, OPTIONS)


def test_a_folder_without_annotations_says_what_is_expected(tmp_path: Path) -> None:
    for reader in (read, coco_panoptic.read):
        with pytest.raises(DataError, match="no annotations there"):
            reader(tmp_path, OPTIONS)
        with pytest.raises(DataError, match="no such file or folder"):
            reader(tmp_path / "none", OPTIONS)


@pytest.mark.parametrize(
    ("name", "kind", "split", "year"),
    [
        ("instances_train2017", "instances", "train", "2017"),
        ("stuff_val2017", "stuff", "val", "2017"),
        ("panoptic_val2017", "panoptic", "val", "2017"),
        ("train", "instances", "train", ""),
        ("instances_fold-1999", "instances", "fold", "1999"),
        ("Instances_Test", "instances", "test", ""),
    ],
)
def test_a_file_name_says_kind_split_and_year(tmp_path: Path, name: str, kind: str, split: str, year: str) -> None:
    (tmp_path / f"{name}.json").write_text("{}")
    (file,) = list_coco_files(tmp_path / f"{name}.json", panoptic=False)
    assert (file.kind, file.split, file.year) == (kind, split, year)


def test_files_of_different_kinds_share_a_split_only_where_both_are_read() -> None:
    files = [CocoFile(Path(f"{kind}.json"), kind, "train", "") for kind in ("instances", "stuff")]
    assert join_splits(files, ("instances", "stuff")) == {"train": files}
    with pytest.raises(DataError, match="both of the split 'train'"):
        join_splits(files, ("panoptic",))
