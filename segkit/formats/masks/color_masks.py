"""Folders of colour masks: every RGB colour is a class. All labels are read once to know the colours.

Names come from labelmap.txt, label_colors.txt, class_dict.csv or colors.csv in SRC; any other colour then stops the
run, and __ignore__ names colours that are left out. Without such a file colours are sorted, black first as background,
and called class_RRGGBB, or by options.classes in that order, which must be as many. Transparency is not looked at.

Colours of soft edges (smoothed, resized, or once a JPEG) are an error, never merged: those that have less than 1 % of
all pixels and nowhere fill two by two, and those that have less than 0.1 % and lie near a frequent colour, within 4 in
each channel.
"""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from segkit.classes import MAX_CLASSES, RGB, Classes
from segkit.datasets.masks import code_of, color_codes, color_of, read_label_values
from segkit.errors import ConfigError, DataError, listed, summarize
from segkit.formats.documents import collect
from segkit.formats.masks.color_table import TABLE_FILES, find_color_table, read_color_table
from segkit.formats.masks.pairing import Pairing, find_pairs
from segkit.formats.options import ReadOptions
from segkit.formats.sample import SampleSet
from segkit.formats.values import LabelTable
from segkit.formats.vocabulary import IGNORED, Vocabulary

THIN_SHARE = 0.01
NEAR_SHARE = 0.001
NEAR = 4


def read(source: Path, options: ReadOptions) -> SampleSet:
    """Read a folder of images and colour masks.

    Raises:
        DataError: as `find_pairs`; a label that can't be read or holds no colours; soft edges; colours without a name.
        ConfigError: options.classes aren't as many as the colours, or options.unlabeled is set and can't matter.
    """
    pairing = find_pairs(source, options)
    counts, blocks = _survey(pairing.labels)
    file = find_color_table(source)
    if file is not None:
        return _read_by_table(file, options, counts, pairing)
    _check_edges(source, counts, blocks)
    colors = [color_of(number) for number in sorted(counts)]
    if options.unlabeled is not None:
        raise ConfigError(
            f"--unlabeled: every colour is a class, so there are no pixels without one; leave it out, or list the "
            f"classes' colours in {source / TABLE_FILES[-1]}"
        )
    names = ["background" if color == (0, 0, 0) else f"class_{code_of(color):06X}" for color in colors]
    if options.classes is not None and len(options.classes) != len(names):
        raise ConfigError(
            f"--classes: found {len(options.classes)} names, expected {len(names)}, in the order of the colours "
            f"{listed(colors, shown=20)}; to read only some, list all in {source / TABLE_FILES[-1]} "
            "(name,r,g,b)"
        )
    classes = Classes.build(options.classes or names, colors=colors)
    table = LabelTable({code_of(color): k for k, color in enumerate(colors)}, by_color=True)
    found = _listing(dict(zip(colors, classes.names, strict=True)), counts)
    return SampleSet(pairing.samples(table), classes, (found, *pairing.notes))


def _read_by_table(file: Path, options: ReadOptions, counts: Counter[int], pairing: Pairing) -> SampleSet:
    colors = read_color_table(file)
    unknown = sorted((number for number in counts if color_of(number) not in colors), key=lambda n: -counts[n])
    if unknown:
        raise DataError(
            summarize(
                [
                    f"{file}: the labels hold {color_of(number)} in {counts[number]} pixels, which has no name; add it "
                    f"(as {IGNORED} to leave it out), or export the labels again with hard edges"
                    for number in unknown
                ]
            )
        )
    vocabulary = Vocabulary.of_colors(file, colors, options)
    ignored = vocabulary.classes.ignore_index
    table = LabelTable({code_of(c): vocabulary.ids.get(name, ignored) for c, name in colors.items()}, by_color=True)
    notes = (_listing(colors, counts), *vocabulary.notes, *pairing.notes)
    return SampleSet(pairing.samples(table), vocabulary.classes, notes)


def _listing(names: Mapping[RGB, str], counts: Counter[int]) -> str:
    total = sum(counts.values())
    return "colours and their pixels: " + "; ".join(
        f"{name} {color}: {counts[code_of(color)]} ({counts[code_of(color)] / total:.2%})"
        for color, name in names.items()
    )


def _survey(labels: list[Path]) -> tuple[Counter[int], set[int]]:
    """Return how many pixels each colour code has in all labels, and which codes fill two by two pixels somewhere."""
    counts: Counter[int] = Counter()
    blocks: set[int] = set()
    for _, (found, solid) in collect(_count, labels):
        counts.update(found)
        blocks |= solid
    return counts, blocks


def _count(path: Path) -> tuple[dict[int, int], set[int]]:
    stored = read_label_values(path)
    if stored.ndim != 3:
        raise DataError(
            f"{path}: found one value per pixel, expected RGB colours; for ids use --from id-masks, for 0 "
            "and one other value --from binary-masks"
        )
    codes = color_codes(stored)
    flat = codes.reshape(-1)
    starts = np.flatnonzero(np.concatenate(([True], flat[1:] != flat[:-1])))  # runs: far fewer than pixels
    lengths = np.diff(np.append(starts, flat.size))
    values, index = np.unique(flat[starts], return_inverse=True)
    pixels = np.bincount(index, weights=lengths)
    same = (
        (codes[:-1, :-1] == codes[:-1, 1:]) & (codes[:-1, :-1] == codes[1:, :-1]) & (codes[:-1, :-1] == codes[1:, 1:])
    )
    solid = np.unique(codes[:-1, :-1][same])
    return dict(zip(values.tolist(), pixels.astype(int).tolist(), strict=True)), set(solid.tolist())


def _check_edges(source: Path, counts: Counter[int], blocks: set[int]) -> None:
    total = sum(counts.values())
    frequent = np.array([color_of(number) for number in counts if counts[number] >= NEAR_SHARE * total]).reshape(-1, 3)

    def is_soft(number: int) -> bool:
        if counts[number] < THIN_SHARE * total and number not in blocks:
            return True
        distance = np.abs(frequent - np.array(color_of(number))).max(axis=1)
        return counts[number] < NEAR_SHARE * total and bool((distance <= NEAR).any())

    soft = sorted(filter(is_soft, counts), key=lambda number: -counts[number])
    if not soft and len(counts) <= MAX_CLASSES:
        return
    shown = soft or sorted(counts, key=lambda number: counts[number])
    raise DataError(
        f"{source}: found {len(counts)} colours, of which {len(soft)} look like soft edges ("
        + listed(f"{color_of(number)}: {counts[number]} pixels" for number in shown)
        + "), expected one colour per class; export the labels again as PNG without smoothing, or, if all are classes, "
        f"list them in {source / TABLE_FILES[-1]} (name,r,g,b)"
    )
