"""Pictures that stand in two splits without anyone having meant it: copies, near-copies, frames of one sequence.

What is seen in training and scored in validation makes the score too good.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice, pairwise

import numpy as np

from segkit.data.facts import Facts, thumbnail
from segkit.data.images import read_image

BANDS = 4  # of 16 bits each: hashes that differ in at most 3 bits agree in one of them
MOST_BITS = BANDS - 1
MOST_ALIKE = 500  # pictures that share a band; more say little (a studio's background), and comparing them takes long
MOST_CHECKED = 2000  # pairs whose pixels are compared
CORRELATION = 0.99  # of grey thumbnails; frames of a moving camera are below that within a second
MIN_DEVIATION = 4.0  # grey levels; the hash of a blank picture says nothing
SEQUENCE_SHARE = 0.85  # neighbours in a sequence differ in at most this share of the bits that pictures of the set do
MIN_SEQUENCE = 6


@dataclass(frozen=True)
class Sequence:
    """Pictures whose names differ in a number alone, and whose neighbours look alike: how many each split has."""

    pattern: str
    counts: dict[str, int]


def copies(facts: Facts) -> list[list[int]]:
    """Return groups of pictures whose files are identical, as places in `facts.pairs`."""
    there = np.flatnonzero(facts.has_image)
    order = there[np.argsort(facts.images["digest"][there], kind="stable")]
    digests = facts.images["digest"][order]
    starts = np.flatnonzero(np.r_[True, digests[1:] != digests[:-1], True])
    return [order[a:b].tolist() for a, b in pairwise(starts) if b - a > 1]


def near_copies(facts: Facts, split_of: list[list[str]]) -> list[tuple[int, int]]:
    """Return pairs of pictures in different splits that show the same: resized, compressed again, or brightened.

    Candidates have perceptual hashes that differ in at most 3 bits; their thumbnails are then compared, of the first
    2,000 pairs. More than 500 pictures that all share a quarter of their hash aren't compared by that quarter: they are
    of one scene, and so many pairs would tell nothing.
    """
    found = []
    thumbnails: dict[int, np.ndarray] = {}

    def standardized(place: int) -> np.ndarray:
        if place not in thumbnails:
            image = facts.pairs[place].image
            assert image is not None
            small = thumbnail(read_image(image))
            thumbnails[place] = (small - small.mean()) / max(float(small.std()), 1e-6)
        return thumbnails[place]

    for first, second in islice(_alike(facts, split_of), MOST_CHECKED):
        if float((standardized(first) * standardized(second)).mean()) >= CORRELATION:
            found.append((first, second))
    return sorted(found)


def _alike(facts: Facts, split_of: list[list[str]]) -> Iterator[tuple[int, int]]:
    images = facts.images
    pixels = np.maximum(images["hw"].prod(axis=1, dtype=np.int64), 1)[:, None]
    variance = (images["squares"] / pixels - (images["sums"] / pixels) ** 2).mean(axis=1)
    in_split = np.array([bool(splits) for splits in split_of], bool)
    there = np.flatnonzero(facts.has_image & in_split & (variance > MIN_DEVIATION**2))
    hashes = images["look"][there]
    seen: set[tuple[int, int]] = set()
    for band in range(BANDS):
        keys = hashes >> np.uint64(16 * band) & np.uint64(0xFFFF)
        order = np.argsort(keys, kind="stable")
        starts = np.flatnonzero(np.r_[True, keys[order][1:] != keys[order][:-1], True])
        for a, b in pairwise(starts):
            if not 2 <= b - a <= MOST_ALIKE:
                continue
            members = order[a:b]
            bits = np.bitwise_count(hashes[members][:, None] ^ hashes[members][None])
            for i, j in np.argwhere(np.triu(bits <= MOST_BITS, k=1)):
                first, second = sorted((int(there[members[i]]), int(there[members[j]])))
                apart = set(split_of[first]).isdisjoint(split_of[second])
                identical = images["digest"][first] == images["digest"][second]
                if apart and not identical and (first, second) not in seen:
                    seen.add((first, second))
                    yield first, second


def sequences(facts: Facts, split_of: list[list[str]]) -> list[Sequence]:
    """Return sequences that stand in more than one split, the largest first.

    Names must differ in their last number alone, and neighbours look more alike than any two pictures of the set:
    numbered collections of photos are no sequences.
    """
    hashes = facts.images["look"][facts.has_image]
    usual = np.median(np.bitwise_count(hashes ^ np.roll(hashes, len(hashes) // 2))) if len(hashes) else 0
    splits = list(dict.fromkeys(chain.from_iterable(split_of)))
    groups: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for place, pair in enumerate(facts.pairs):
        number = re.search(r"(\d+)(\D*)$", pair.name)
        if number and facts.images["digest"][place] and split_of[place]:
            groups[f"{pair.name[: number.start()]}#{number[2]}"].append((int(number[1]), place))
    found = []
    for pattern, members in groups.items():
        places = [place for _, place in sorted(members)]
        held = Counter(split for place in places for split in split_of[place])
        counts = {split: held[split] for split in splits if held[split]}
        if len(counts) < 2 or len(places) < MIN_SEQUENCE:
            continue
        ordered = facts.images["look"][places]
        if np.median(np.bitwise_count(ordered[1:] ^ ordered[:-1])) <= SEQUENCE_SHARE * usual:
            found.append(Sequence(pattern, counts))
    return sorted(found, key=lambda sequence: (-sum(sequence.counts.values()), sequence.pattern))
