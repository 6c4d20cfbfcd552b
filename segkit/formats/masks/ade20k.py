"""ADE20K as the scene parsing challenge gives it (ADEChallengeData2016): images/ and annotations/, each with training/
and validation/, and 150 classes.

A stored 0 (other objects) is no label and is ignored, or becomes background; k means class k - 1. Names come from
objectInfo150.txt, the first of each row's synonyms; without the file the classes are called class_1 to class_150.
"""

import re
from pathlib import Path

from segkit.errors import DataError
from segkit.formats.documents import read_text
from segkit.formats.masks.pairing import find_pairs
from segkit.formats.options import ReadOptions
from segkit.formats.sample import SampleSet
from segkit.formats.values import LabelTable
from segkit.formats.vocabulary import Vocabulary

NUM_CLASSES = 150


def read(source: Path, options: ReadOptions) -> SampleSet:
    """Read ADEChallengeData2016, or the folder that holds it.

    Raises:
        DataError: as `find_pairs`, or objectInfo150.txt isn't what it should be.
        ConfigError: the options' classes can't be.
    """
    root = source / "ADEChallengeData2016" if (source / "ADEChallengeData2016").is_dir() else source
    info, notes = root / "objectInfo150.txt", []
    if info.is_file():
        names = _read_names(info)
    else:
        names = [f"class_{number}" for number in range(1, NUM_CLASSES + 1)]
        notes.append(f"{info} is missing: the classes are called {names[0]} to {names[-1]}, by their stored ids")
    pairing = find_pairs(root, options)
    vocabulary = Vocabulary.build(source, names, options, unlabeled="ignore")
    ids = {0: vocabulary.rest, **{k: vocabulary.ids[name] for k, name in enumerate(names, start=1)}}
    table = LabelTable(ids, remedy="expected the annotations of the scene parsing challenge, 0..150")
    return SampleSet(pairing.samples(table), vocabulary.classes, (*notes, *vocabulary.notes, *pairing.notes))


def _read_names(path: Path) -> list[str]:
    """Rows are Idx, Ratio, Train, Val, Stuff, Name with tabs between; a name may hold synonyms with commas between."""
    rows = [line.split("\t") for line in read_text(path, expected="150 rows of classes").splitlines() if line.strip()]
    rows = [row for row in rows if re.fullmatch(r"\s*\d+\s*", row[0])]
    synonyms = [row[-1].strip() for row in rows]
    names = [name.split(",")[0].strip() for name in synonyms]
    names = [name if names.count(name) == 1 else all_ for name, all_ in zip(names, synonyms, strict=True)]
    if [int(row[0]) for row in rows] != list(range(1, NUM_CLASSES + 1)) or len(set(names)) < NUM_CLASSES or "" in names:
        raise DataError(
            f"{path}: found {len(rows)} rows with {len(set(names))} names, expected 150, numbered from 1 and separated "
            "by tabs; copy the file again from the archive"
        )
    return names
