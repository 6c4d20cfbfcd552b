import pytest

from segkit.formats.sample import NO_SPLIT
from segkit.formats.splits import SPLIT_WORDS, is_split, rename_splits, split_by_folder


@pytest.mark.parametrize("word", [*SPLIT_WORDS, "Train", "VALID"])
def test_a_word_for_a_split_is_one_in_any_case(word: str) -> None:
    assert is_split(word)


@pytest.mark.parametrize("word", ["", "trainings", "fold0", "all", "images", "train1"])
def test_any_other_word_is_no_split(word: str) -> None:
    assert not is_split(word)


def test_splits_get_the_names_of_segkit_and_others_keep_theirs() -> None:
    assert rename_splits({"Training": 1, "valid": 2, "testing": 3, "fold0": 4}) == {
        "train": 1, "val": 2, "test": 3, "fold0": 4,
    }  # fmt: skip


def test_splits_are_not_renamed_where_two_would_be_one() -> None:
    assert rename_splits({"val": 1, "valid": 2, "training": 3}) == {"val": 1, "valid": 2, "training": 3}


def test_names_are_split_by_their_first_folder_and_sorted() -> None:
    assert split_by_folder(["valid/b", "train/x/c", "train/a"]) == {
        "train": {"train/a": "a", "train/x/c": "x/c"}, "val": {"valid/b": "b"},
    }  # fmt: skip


@pytest.mark.parametrize("other", ["a", "other/a", "train"])
def test_one_name_outside_of_the_splits_makes_it_a_set_without_splits(other: str) -> None:
    assert split_by_folder(["train/b", other]) == {NO_SPLIT: {name: name for name in sorted(["train/b", other])}}
