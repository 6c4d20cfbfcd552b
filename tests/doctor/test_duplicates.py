from collections.abc import Sequence

import numpy as np
import pytest

from segkit.datasets.split_folders import ListedItem
from segkit.doctor.duplicates import MOST_BITS, copies, near_copies, sequences
from segkit.doctor.measure import IMAGE_FACTS, LABEL_FACTS, Facts

RNG = np.random.default_rng(0)
UNLIKE = RNG.integers(0, 2**63, 64, dtype=np.uint64)  # about 32 bits apart
SMALL = RNG.integers(0, 255, (16, 16), np.uint8)


def facts(names: Sequence[str], *, digests: Sequence[int] = (), hashes: Sequence[int] = ()) -> Facts:
    """Facts of images that were read; those of digest 0 were not."""
    images = np.zeros(len(names), IMAGE_FACTS)
    images["digest"] = digests or range(1, len(names) + 1)
    images["look"] = hashes or UNLIKE[: len(names)]
    images["small"] = SMALL
    items = [ListedItem(name, None, None) for name in names]
    return Facts(items, images, np.zeros(len(names), LABEL_FACTS), [], [], {}, {}, {})


def flip(bits: int) -> int:
    """Return a hash that differs from UNLIKE[0] in that many bits, spread over its bands."""
    changed = int(UNLIKE[0])
    for k in range(bits):
        changed ^= 1 << (17 * k % 64)
    return changed


def test_copies_are_groups_of_equal_digests_among_images_that_were_read() -> None:
    assert copies(facts("abcdef", digests=[7, 5, 7, 0, 0, 5])) == [[1, 5], [0, 2]]
    assert copies(facts("abc")) == []


@pytest.mark.parametrize("bits", range(6))
def test_near_copies_differ_in_a_few_bits_whichever_they_are(bits: int) -> None:
    found = near_copies(facts("ab", hashes=[int(UNLIKE[0]), flip(bits)]), [["train"], ["val"]])
    assert found == ([(0, 1)] if bits <= MOST_BITS else [])


@pytest.mark.parametrize(
    ("split_of", "digests", "found"),
    [
        ([["train"], ["val"]], [1, 2], [(0, 1)]),
        ([["train"], ["train"]], [1, 2], []),
        ([["train"], []], [1, 2], []),
        ([["train", "val"], ["val"]], [1, 2], []),  # one split has both
        ([["train"], ["val"]], [1, 1], []),  # an identical file is a copy
    ],
)
def test_near_copies_are_of_different_splits_and_files(
    split_of: list[list[str]], digests: list[int], found: list[tuple[int, int]]
) -> None:
    alike = [int(UNLIKE[0])] * 2
    assert near_copies(facts("ab", digests=digests, hashes=alike), split_of) == found


def test_images_without_contrast_are_no_near_copies() -> None:
    blank = facts("ab", hashes=[int(UNLIKE[0])] * 2)
    blank.images["small"] = 100
    assert near_copies(blank, [["train"], ["val"]]) == []


def test_thumbnails_must_agree_as_well_as_hashes() -> None:
    other = facts("ab", hashes=[int(UNLIKE[0])] * 2)
    other.images["small"][1] = RNG.integers(0, 255, (16, 16), np.uint8)
    assert near_copies(other, [["train"], ["val"]]) == []


def walk(count: int) -> list[int]:
    """Return hashes of which neighbours differ in 4 bits, and far ones in many."""
    position = [int(UNLIKE[0])]
    for k in range(count - 1):
        position.append(position[-1] ^ sum(1 << ((4 * k + j) % 64) for j in range(4)))
    return position


def half(names: Sequence[str]) -> list[list[str]]:
    return [["train" if k % 2 else "val"] for k in range(len(names))]


def test_a_sequence_has_numbered_names_and_neighbours_that_look_alike() -> None:
    names = [f"drive_{k:02d}_left" for k in range(12)]
    (found,) = sequences(facts(names, hashes=walk(12)), half(names))
    assert found.pattern == "drive_#_left"
    assert found.counts == {"val": 6, "train": 6}


def test_frames_are_compared_in_the_order_of_their_numbers() -> None:
    order = RNG.permutation(12).tolist()
    names = [f"f{k}" for k in order]
    assert len(sequences(facts(names, hashes=[walk(12)[k] for k in order]), half(names))) == 1


def test_numbered_photos_are_no_sequence() -> None:
    names = [f"photo{k}" for k in range(12)]
    assert sequences(facts(names), half(names)) == []


def test_a_sequence_within_one_split_or_of_a_few_frames_is_no_matter() -> None:
    names = [f"f{k}" for k in range(12)]
    assert sequences(facts(names, hashes=walk(12)), [["train"]] * 12) == []
    few = [*names[:5], *(f"other{'x' * k}" for k in range(7))]
    assert sequences(facts(few, hashes=walk(12)), half(few)) == []


def test_the_longest_sequence_goes_first() -> None:
    names = [f"a{k}" for k in range(8)] + [f"b{k}" for k in range(12)]
    found = sequences(facts(names, hashes=[*walk(20)]), half(names))
    assert [one.pattern for one in found] == ["b#", "a#"]
