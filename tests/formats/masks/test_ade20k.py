from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segkit.errors import DataError
from segkit.formats.masks.ade20k import read
from segkit.formats.options import ReadOptions

HEADER = "Idx\tRatio\tTrain\tVal\tStuff\tName\n"


def lay_out(root: Path, mask: list[list[int]], *, info: str | None = None) -> Path:
    for split in ("training", "validation"):
        for folder, pixels in (("images", np.zeros((len(mask), len(mask[0]), 3))), ("annotations", np.array(mask))):
            (root / folder / split).mkdir(parents=True, exist_ok=True)
            suffix = "jpg" if folder == "images" else "png"
            Image.fromarray(pixels.astype(np.uint8)).save(root / folder / split / f"ADE_{split}_1.{suffix}")
    if info is not None:
        (root / "objectInfo150.txt").write_text(info)
    return root


def rows(names: list[str]) -> str:
    return HEADER + "".join(f"{k}\t0.1\t1\t1\t0\t{name}\n" for k, name in enumerate(names, start=1))


NAMES = ["wall", "building, edifice", "door, double door", *(f"thing{k}" for k in range(4, 150)), "door, screen"]


def test_zero_is_ignored_and_ids_go_down_by_one(tmp_path: Path) -> None:
    samples = read(lay_out(tmp_path, [[0, 1, 2, 150]], info=rows(NAMES)), ReadOptions())
    assert list(samples.splits) == ["train", "val"]
    assert samples.splits["train"][0].read_mask().tolist() == [[255, 0, 1, 149]]


def test_names_are_the_first_synonyms_unless_two_share_it(tmp_path: Path) -> None:
    names = read(lay_out(tmp_path, [[1]], info=rows(NAMES)), ReadOptions()).classes.names
    assert len(names) == 150
    assert names[:3] == ("wall", "building", "door, double door")
    assert names[149] == "door, screen"


def test_without_the_list_classes_have_numbers_and_that_is_said(tmp_path: Path) -> None:
    samples = read(lay_out(tmp_path, [[1]]), ReadOptions())
    assert samples.classes.names[149] == "class_150"
    assert "objectInfo150.txt is missing" in samples.notes[0]


def test_zero_becomes_background_if_asked(tmp_path: Path) -> None:
    root = lay_out(tmp_path, [[0, 1, 2]], info=rows(NAMES))
    samples = read(root, ReadOptions(unlabeled="background"))
    assert samples.classes.names[:2] == ("background", "wall")
    assert samples.splits["train"][0].read_mask().tolist() == [[0, 1, 2]]


def test_a_value_beyond_150_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the value 151"):
        read(lay_out(tmp_path, [[0, 151]]), ReadOptions()).splits["train"][0].read_mask()


@pytest.mark.parametrize("info", ["", rows(NAMES[:-1]), rows([*NAMES[:-1], "wall"]), "1 wall\n2 building\n"])
def test_a_list_of_another_form_is_refused(tmp_path: Path, info: str) -> None:
    with pytest.raises(DataError, match=r"objectInfo150\.txt: found"):
        read(lay_out(tmp_path, [[1]], info=info), ReadOptions())
