from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from segkit.classes import Classes
from segkit.errors import DataError
from segkit.formats.folders import write_voc
from segkit.formats.sample import Picture, PictureSet, arrange, tell_apart


def picture(file: str, name: str = "1") -> Picture:
    return Picture(name, Path(file), lambda: np.zeros((2, 2), np.uint8))


def names(splits: dict[str, list[Picture]]) -> dict[str, list[str]]:
    return {split: [each.name for each in pictures] for split, pictures in splits.items()}


def test_pictures_are_sorted_by_name_in_each_split() -> None:
    given = {"val": [picture("b", "2"), picture("a", "1")], "train": [picture("c", "1")]}
    assert names(arrange(given)) == {"val": ["1", "2"], "train": ["1"]}


def test_a_name_of_two_files_of_a_split_is_refused() -> None:
    with pytest.raises(DataError, match=r"1.png: 1.jpg has the same name, 1; give each"):
        arrange({"train": [picture("1.jpg"), picture("0.jpg", "0"), picture("1.png")]})


def test_only_files_that_differ_are_told_apart_by_their_splits() -> None:
    assert names(tell_apart({"train": [picture("a")], "val": [picture("a")]})) == {"train": ["1"], "val": ["1"]}
    two = {"train": [picture("a"), picture("c", "3")], "val": [picture("b")]}
    assert names(tell_apart(two)) == {"train": ["train/1", "train/3"], "val": ["val/1"]}


def test_one_folder_holds_pictures_of_one_name_in_two_splits(
    make_set: Callable[..., PictureSet], tmp_path: Path
) -> None:
    masks = {"train/1": np.zeros((2, 3), np.uint8), "val/1": np.ones((2, 3), np.uint8)}
    write_voc(PictureSet(make_set(masks, splits=True).splits, Classes.build(["background", "cat"])), tmp_path / "out")
    assert (tmp_path / "out/ImageSets/Segmentation/val.txt").read_text() == "val/1\n"
    assert (tmp_path / "out/SegmentationClass/train/1.png").is_file()
    assert (tmp_path / "out/SegmentationClass/val/1.png").is_file()
