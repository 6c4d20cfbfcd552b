"""Images in two splits that nobody put there on purpose: copies, near-copies, frames of one sequence.

What is seen in training and scored in validation makes the score too good.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, pairwise

import numpy as np

from segkit.doctor.measure import Facts

BANDS = 4  # of 16 bits each: hashes that differ in at most 3 bits agree in one of them
MOST_BITS = BANDS - 1
MOST_ALIKE = 100  # images that share a band and that each is compared with
CORRELATION = 0.99  # of grey thumbnails; frames of a moving camera are below that within a second
MIN_DEVIATION = 4.0  # grey levels; the hash of a blank image says nothing
SEQUENCE_SHARE = 0.85  # neighbours in a sequence differ in at most this share of the bits that images of the set do
MIN_SEQUENCE = 6


@dataclass(frozen=True)
class Sequence:
    """Images whose names differ in a number alone, and whose neighbours look alike: how many each split has."""

    pattern: str
    counts: dict[str, int]


def copies(facts: Facts) -> list[list[int]]:
    """Return groups of images whose files are identical, as indices in `facts.items`."""
    there = np.flatnonzero(facts.has_image)
    order = there[np.argsort(facts.images["digest"][there], kind="stable")]
    digests = facts.images["digest"][order]
    starts = np.flatnonzero(np.r_[True, digests[1:] != digests[:-1], True])
    return [order[a:b].tolist() for a, b in pairwise(starts) if b - a > 1]


def near_copies(facts: Facts, split_of: list[list[str]]) -> list[tuple[int, int]]:
    """Return pairs of images in different splits that show the same: resized, compressed again, or brightened.

    Their perceptual hashes differ in at most 3 bits and their thumbnails correlate. Of many images that all share a
    quarter of their hash, as a fixed camera gives them, each is compared with those whose hashes follow it in order.
    """
    splits = {split: 1 << k for k, split in enumerate(dict.fromkeys(chain.from_iterable(split_of)))}
    if len(splits) < 2:
        return []
    masks = np.array([sum(splits[split] for split in found) for found in split_of], np.int64)
    small = facts.images["small"].reshape(len(masks), -1)
    there = np.flatnonzero(facts.has_image & (masks > 0) & (small.std(axis=1) > MIN_DEVIATION))
    hashes, digests = facts.images["look"][there], facts.images["digest"][there]
    found: set[tuple[int, int]] = set()
    for first, second in _candidates(hashes):
        apart = masks[there[first]] & masks[there[second]] == 0
        close = np.bitwise_count(hashes[first] ^ hashes[second]) <= MOST_BITS
        keep = apart & close & (digests[first] != digests[second])
        for a, b in zip(there[first[keep]].tolist(), there[second[keep]].tolist(), strict=True):
            if (min(a, b), max(a, b)) not in found and _correlation(small[a], small[b]) >= CORRELATION:
                found.add((min(a, b), max(a, b)))
    return sorted(found)


def _candidates(hashes: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield pairs of indices, int64 [n] each, whose hashes agree in a band; the same pair more than once."""
    for band in range(BANDS):
        keys = hashes >> np.uint64(16 * band) & np.uint64(0xFFFF)
        order = np.lexsort((hashes, keys))
        starts = np.flatnonzero(np.r_[True, keys[order][1:] != keys[order][:-1], True])
        for a, b in pairwise(starts.tolist()):
            members = order[a:b]
            for step in range(1, min(b - a, MOST_ALIKE)):
                yield members[:-step], members[step:]


def _correlation(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.corrcoef(first, second)[0, 1])


def sequences(facts: Facts, split_of: list[list[str]]) -> list[Sequence]:
    """Return sequences of which more than one split has frames, the largest first.

    Names must differ in their last number alone, and neighbours look more alike than any two images of the set:
    numbered collections of photos are no sequences.
    """
    hashes = facts.images["look"][facts.has_image]
    usual = np.median(np.bitwise_count(hashes ^ np.roll(hashes, len(hashes) // 2))) if len(hashes) else 0
    splits = list(dict.fromkeys(chain.from_iterable(split_of)))
    groups: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for index, item in enumerate(facts.items):
        number = re.search(r"(\d+)(\D*)$", item.name)
        if number and facts.images["digest"][index] and split_of[index]:
            groups[f"{item.name[: number.start()]}#{number[2]}"].append((int(number[1]), index))
    found = []
    for pattern, members in groups.items():
        indices = [index for _, index in sorted(members)]
        held = Counter(split for index in indices for split in split_of[index])
        counts = {split: held[split] for split in splits if held[split]}
        if len(counts) < 2 or len(indices) < MIN_SEQUENCE:
            continue
        ordered = facts.images["look"][indices]
        if np.median(np.bitwise_count(ordered[1:] ^ ordered[:-1])) <= SEQUENCE_SHARE * usual:
            found.append(Sequence(pattern, counts))
    return sorted(found, key=lambda sequence: (-sum(sequence.counts.values()), sequence.pattern))
