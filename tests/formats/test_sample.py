from pathlib import Path

import numpy as np
import pytest

from segkit.errors import DataError
from segkit.formats.sample import Sample, arrange, make_names_unique


def sample(file: str, name: str = "1") -> Sample:
    return Sample(name, Path(file), lambda: np.zeros((2, 2), np.uint8))


def names(splits: dict[str, list[Sample]]) -> dict[str, list[str]]:
    return {split: [each.name for each in samples] for split, samples in splits.items()}


def test_images_are_sorted_by_name_in_each_split() -> None:
    given = {"val": [sample("b", "2"), sample("a", "1")], "train": [sample("c", "1")]}
    assert names(arrange(given)) == {"val": ["1", "2"], "train": ["1"]}


def test_a_name_of_two_files_of_a_split_is_refused() -> None:
    with pytest.raises(DataError, match=r"1.png: 1.jpg has the same name, 1; give each"):
        arrange({"train": [sample("1.jpg"), sample("0.jpg", "0"), sample("1.png")]})


def test_only_files_that_differ_are_distinguished_by_their_splits() -> None:
    assert names(make_names_unique({"train": [sample("a")], "val": [sample("a")]})) == {"train": ["1"], "val": ["1"]}
    two = {"train": [sample("a"), sample("c", "3")], "val": [sample("b")]}
    assert names(make_names_unique(two)) == {"train": ["train/1", "train/3"], "val": ["val/1"]}
