import random
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from segkit.config.schema import DataConfig
from segkit.datasets.layouts import list_items
from segkit.datasets.split import Unit, deal, make_units, split_data_set
from segkit.datasets.split_folders import find_layout
from segkit.errors import ConfigError, DataError

WriteFolders = Callable[..., DataConfig]


def units(count: int = 200, *, seed: int = 0) -> list[Unit]:
    """Images of a common class, of some middling ones, and of one that few show."""
    rng = random.Random(seed)
    shares = {0: 1.0, 1: 0.5, 2: 0.2, 3: 0.05}
    return [
        Unit((f"p{k:04d}",), frozenset(label for label, share in shares.items() if rng.random() < share))
        for k in range(count)
    ]


@pytest.fixture
def data(write_folders: WriteFolders) -> Path:
    """Forty images, every fourth of which shows class 1; in groups of five, by name."""
    masks = {f"drive{k // 5}_{k % 5}": np.full((4, 4), int(k % 4 == 0), np.uint8) for k in range(40)}
    return Path(write_folders(masks).root)


# ---- dealing


def test_every_image_goes_to_exactly_one_split_and_sizes_are_exact() -> None:
    dealt = deal(units(), {"train": 150, "val": 30, "test": 20}, seed=0)
    assert {name: len(names) for name, names in dealt.items()} == {"train": 150, "val": 30, "test": 20}
    assert sorted(name for names in dealt.values() for name in names) == [unit.names[0] for unit in units()]


@pytest.mark.parametrize("seed", range(5))
def test_each_split_gets_its_share_of_every_class(seed: int) -> None:
    images = units(seed=seed)
    sizes = {"train": 150, "val": 30, "test": 20}
    dealt = deal(images, sizes, seed=seed)
    for label in range(4):
        showing = {unit.names[0] for unit in images if label in unit.labels}
        for name, size in sizes.items():
            assert abs(len(showing & set(dealt[name])) - len(showing) * size / 200) <= 2, (label, name)


def test_a_plain_draw_would_not_have_given_each_split_its_share() -> None:
    images = units()
    showing = {unit.names[0] for unit in images if 3 in unit.labels}
    counts = []
    for seed in range(20):
        names = [unit.names[0] for unit in images]
        random.Random(seed).shuffle(names)
        counts.append(len(showing & set(names[:20])))
    assert max(abs(count - len(showing) / 10) for count in counts) > 1  # so the test above can fail


def test_groups_stay_together_and_sizes_are_near() -> None:
    groups = [Unit(tuple(f"g{k}_{i}" for i in range(1 + k % 7)), frozenset({0})) for k in range(60)]
    total = sum(len(group.names) for group in groups)
    dealt = deal(groups, {"train": total - 40, "val": 40}, seed=0)
    for group in groups:
        assert sum(bool(set(group.names) & set(names)) for names in dealt.values()) == 1
    assert abs(len(dealt["val"]) - 40) < 7


def test_the_seed_alone_decides_not_the_order_of_files_or_the_machine() -> None:
    images = units()
    shuffled = images.copy()
    random.Random(1).shuffle(shuffled)
    sizes = {"train": 180, "val": 20}
    first = deal(images, sizes, seed=3)
    assert deal(shuffled, sizes, seed=3) == first
    assert deal(images, sizes, seed=4) != first
    program = "from test_split import *; print(deal(units(), {'train': 180, 'val': 20}, seed=3)['val'])"
    for hash_seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=Path(__file__).parent,
            env={"PYTHONHASHSEED": hash_seed, "PATH": ""},
        )  # fmt: skip
        assert done.stdout.strip() == str(first["val"])


# ---- groups


def test_a_pattern_groups_by_its_first_group_or_by_all_of_it() -> None:
    labels = {f"drive{k}_{i}": frozenset({i}) for k in range(2) for i in range(3)}
    for pattern in ("^(.*)_[0-9]+$", "^drive[0-9]"):
        made = make_units(labels, pattern)
        assert [unit.names for unit in made] == [tuple(f"drive{k}_{i}" for i in range(3)) for k in range(2)]
        assert made[0].labels == {0, 1, 2}


def test_a_pattern_that_is_wrong_or_misses_a_name_is_refused() -> None:
    with pytest.raises(ConfigError, match="is no regular expression"):
        make_units({"a": frozenset()}, "(")
    with pytest.raises(ConfigError, match="doesn't match the name 'b'"):
        make_units({"a": frozenset(), "b": frozenset()}, "a")


# ---- data sets


def test_the_splits_are_those_that_training_reads(data: Path) -> None:
    made = split_data_set(data, val=0.2, test=4)
    assert {name: len(names) for name, names in made.splits.items()} == {"train": 28, "test": 4, "val": 8}
    config = DataConfig(root=str(data), layout="folders", classes=("a", "b"))
    for name, names in made.splits.items():
        assert [item.name for item in list_items(config, name)] == names
    assert sum(1 in made.labels[name] for name in made.splits["val"]) == 2


def test_voc_splits_go_where_voc_keeps_them(shapes: Path, tmp_path: Path) -> None:
    import shutil

    root = tmp_path / "VOCdevkit" / "VOC2012"
    shutil.copytree(shapes, root)
    with pytest.raises(DataError, match=r"Segmentation/train\.txt: this split exists already, and 1 more.*--force"):
        split_data_set(tmp_path, val=0.5)
    before = (root / "ImageSets" / "Segmentation" / "val.txt").read_text()
    made = split_data_set(tmp_path, val=0.5, force=True)
    assert made.folder == root / "ImageSets" / "Segmentation"
    assert made.class_names == ("background", "disc", "square", "star")
    assert (made.folder / "val.txt").read_text() != before
    assert len((made.folder / "val.txt").read_text().split()) == 9


def test_folds_are_parts_of_equal_size_each_held_out_once(data: Path) -> None:
    made = split_data_set(data, test=0.1, folds=3, repeats=2)
    everything = made.labels.keys() - set(made.splits["test"])
    assert len(everything) == 36
    assert not (data / "splits" / "train.txt").exists()
    for repeat in (1, 2):
        parts = [set(made.splits[f"repeat{repeat}_fold{k}_val"]) for k in (1, 2, 3)]
        assert [len(part) for part in parts] == [12, 12, 12]
        assert set().union(*parts) == everything
        for k, part in enumerate(parts, start=1):
            assert set(made.splits[f"repeat{repeat}_fold{k}_train"]) == everything - part
    assert made.splits["repeat1_fold1_val"] != made.splits["repeat2_fold1_val"]


def test_groups_are_not_divided_by_folds(data: Path) -> None:
    made = split_data_set(data, folds=4, group_by="^(.*)_[0-9]+$")
    for k in (1, 2, 3, 4):
        held_out, trained = ({n.split("_")[0] for n in made.splits[f"fold{k}_{part}"]} for part in ("val", "train"))
        assert len(held_out) == 2
        assert not held_out & trained


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"val": -0.1}, "--val: found -0.1, expected a fraction"),
        ({"val": 1.5}, "--val: found 1.5, expected a fraction"),
        ({"val": 41}, "--val: found 41, expected at most the 40 images"),
        ({"val": 20, "test": 20}, "take 40 of 40 images, expected at least one left"),
        ({"folds": 1}, "--folds: found 1, expected 2 or more"),
        ({"folds": 50}, "--folds: found 50, expected at most the 40"),
        ({"repeats": 3}, "--repeats: found 3, expected 1 or more, with --folds"),
        ({"val": 0.5, "group_by": "^drive"}, "no images are left for"),
    ],
)
def test_what_cannot_be_split_is_refused_and_nothing_written(data: Path, settings: dict, words: str) -> None:  # type: ignore[type-arg]
    with pytest.raises(ConfigError, match=words):
        split_data_set(data, **settings)
    assert not (data / "splits").exists()


def test_a_test_split_that_is_there_stays_out_of_the_others(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from segkit.cli import main

    assert main(["split", str(data), "--val", "4", "--test", "8"]) == 0
    tested = (data / "splits" / "test.txt").read_text()
    assert main(["split", str(data), "--folds", "4"]) == 0
    assert re.search(r"the 8 images of the existing test split", capsys.readouterr().out)
    folds = {name for path in (data / "splits").glob("fold*.txt") for name in path.read_text().split()}
    assert len(folds) == 32
    assert folds.isdisjoint(tested.split())
    assert main(["split", str(data), "--val", "4", "--force"]) == 0
    assert len((data / "splits" / "train.txt").read_text().split()) == 28
    assert (data / "splits" / "test.txt").read_text() == tested


def test_masks_of_0_and_255_are_divided_by_what_they_show(write_folders: WriteFolders) -> None:
    masks = {f"p{k:02d}": np.full((4, 4), 255 if k % 4 == 0 else 0, np.uint8) for k in range(40)}
    made = split_data_set(Path(write_folders(masks).root), val=8)
    assert sum(255 in made.labels[name] for name in made.splits["val"]) == 2


def test_a_split_file_in_the_root_is_replaced_not_hidden(data: Path) -> None:
    (data / "train.txt").write_text("drive0_0\n")
    with pytest.raises(DataError, match=r"train\.txt: this split exists already"):
        split_data_set(data)
    made = split_data_set(data, val=10, force=True)
    assert (data / "train.txt").read_text().split() == made.splits["train"]
    assert not (data / "splits" / "train.txt").exists()


def test_a_test_folder_stays_out_too(data: Path) -> None:
    for kind in ("images", "masks"):
        (data / kind / "test").mkdir()
        for path in sorted((data / kind).glob("drive0_*")):
            path.rename(data / kind / "test" / path.name)
    made = split_data_set(data, val=5)
    assert made.num_apart == 5
    assert len(made.splits["train"]) == 30


def test_nothing_but_a_test_split_is_refused(data: Path) -> None:
    names = sorted(path.stem for path in (data / "images").iterdir())
    (data / "test.txt").write_text("\n".join(names))
    with pytest.raises(DataError, match="every image is in the existing test split"):
        split_data_set(data)


def test_a_folder_that_is_no_data_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"found neither images/ and masks/, nor"):
        find_layout(tmp_path)


def test_labels_with_hundreds_of_values_are_refused(write_folders: WriteFolders) -> None:
    masks = {f"p{k}": np.arange(400, dtype=np.uint16).reshape(20, 20) + k for k in range(3)}
    root = Path(write_folders(masks).root)
    with pytest.raises(DataError, match=r"hold 401 different values.*are these instances"):
        split_data_set(root)


def test_the_command_prints_who_got_what(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from segkit.cli import main

    (data / "classes.txt").write_text("road\ncar\n")
    assert main(["split", str(data), "--val", "0.25"]) == 0
    said = capsys.readouterr().out
    rows = {
        line.split()[0]: [int(word) for word in line.split()[1:]] for line in said.splitlines()[2:6] if "-" not in line
    }
    assert rows["images"] == [30, 10]
    assert [road + car for road, car in zip(rows["road"], rows["car"], strict=True)] == [30, 10]
    assert sum(rows["car"]) == 10
    assert rows["car"][1] in (2, 3)
    assert "use:     data.train=train data.val=val" in said
    assert main(["split", str(data)]) == 2
