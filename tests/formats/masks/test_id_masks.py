from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segkit.datasets.masks import read_label_values
from segkit.errors import ConfigError, DataError
from segkit.formats.masks.id_masks import read
from segkit.formats.options import ReadOptions


def write(root: Path, masks: dict[str, np.ndarray]) -> Path:
    for name, mask in masks.items():
        for folder, array in (("imgs", np.zeros((*mask.shape[:2], 3), np.uint8)), ("gts", mask)):
            (root / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(root / folder / f"{name}.png")
    return root


def test_ids_are_classes_and_255_is_ignored(tmp_path: Path) -> None:
    mask = np.array([[0, 3, 255]], np.uint8)
    found = read(write(tmp_path, {"a": mask}), ReadOptions())
    assert found.classes.names == ("class_0", "class_1", "class_2", "class_3")
    assert (found.splits["all"][0].read_mask() == mask).all()
    assert "numbered up to 3" in found.notes[0]


def test_names_come_from_the_user_or_from_a_file(tmp_path: Path) -> None:
    root = write(tmp_path, {"a": np.array([[0, 1]], np.uint8)})
    assert read(root, ReadOptions(classes=("sky", "sea", "land"))).classes.names == ("sky", "sea", "land")
    (root / "classes.txt").write_text("ground\ntree\n")
    assert read(root, ReadOptions()).classes.names == ("ground", "tree")


def test_an_id_beyond_the_names_is_refused_when_it_is_read(tmp_path: Path) -> None:
    root = write(tmp_path, {"a": np.array([[0, 7]], np.uint8)})
    with pytest.raises(DataError, match=r"found the value 7 at \(0, 1\), expected one of 0, 1, 255"):
        read(root, ReadOptions(classes=("a", "b"))).splits["all"][0].read_mask()


def test_colours_and_instances_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="say --from color-masks"):
        read(write(tmp_path / "rgb", {"a": np.zeros((2, 2, 3), np.uint8)}), ReadOptions())
    with pytest.raises(DataError, match="found the id 26001"):
        read(write(tmp_path / "deep", {"a": np.full((2, 2), 26001, np.uint16)}), ReadOptions())


def test_unlabeled_has_no_meaning_here(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="leave it out"):
        read(write(tmp_path, {"a": np.zeros((1, 1), np.uint8)}), ReadOptions(unlabeled="ignore"))


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("pseudo_lip_dataset", "*_segmentations/*.png"),
        ("pseudo_potsdam_dataset", "ann_dir/*.png"),
        ("pseudo_synapse_dataset", "ann_dir/*.png"),
    ],
)
def test_real_sets_are_read(shared_data: Callable[[str], Path], name: str, labels: str) -> None:
    root = shared_data("format_zoo") / name
    found = read(root, ReadOptions())
    stored = {path.stem: read_label_values(path) for path in root.glob(labels)}
    largest = max(int(mask[mask != 255].max()) for mask in stored.values())
    assert len(found.classes) == max(1, largest) + 1
    samples = [sample for members in found.splits.values() for sample in members]
    assert {sample.name: sample.read_mask().tolist() for sample in samples} == {
        stem: mask.tolist() for stem, mask in stored.items()
    }
