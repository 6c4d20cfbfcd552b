import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from segkit.classes import Classes
from segkit.config.schema import DataConfig
from segkit.cross_validation import FoldsResult, describe_folds, pool
from segkit.datasets.folds import Fold, check_disjoint, find_folds
from segkit.datasets.split import split_data_set
from segkit.errors import ConfigError, DataError
from segkit.evaluation.bootstrap import miou_interval
from segkit.evaluation.confusion import ConfusionMatrix
from segkit.report.tables import FoldRow, folds_csv, folds_table

WriteFolders = Callable[..., DataConfig]


@pytest.fixture
def data(write_folders: WriteFolders) -> DataConfig:
    """Twelve images without split files."""
    masks = {f"p{k:02d}": np.full((4, 4), k % 2, np.uint8) for k in range(12)}
    return write_folders(masks, val_fraction=0.0)


def names(folds: list[Fold]) -> list[str]:
    return [fold.name for fold in folds]


# ---- finding folds


def test_the_folds_are_those_that_split_wrote(data: DataConfig) -> None:
    split_data_set(Path(data.root), folds=11)
    assert names(find_folds(data)) == [f"fold{k}" for k in range(1, 12)]  # in the order of their numbers
    first = find_folds(data)[0]
    assert (first.train, first.val) == ("fold1_train", "fold1_val")


def test_repeats_are_found_one_after_the_other(data: DataConfig) -> None:
    split_data_set(Path(data.root), folds=2, repeats=2)
    assert names(find_folds(data)) == ["repeat1_fold1", "repeat1_fold2", "repeat2_fold1", "repeat2_fold2"]


def test_folds_of_a_voc_data_set_are_found_where_voc_keeps_splits(shapes: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(shapes, tmp_path / "VOCdevkit" / "VOC2012")
    split_data_set(tmp_path, folds=3)
    assert names(find_folds(DataConfig(root=str(tmp_path)))) == ["fold1", "fold2", "fold3"]


def test_folds_in_the_root_are_found_too_and_other_files_passed_over(data: DataConfig) -> None:
    for name in ("fold1_train", "fold1_val", "fold2_train", "fold2_val", "fold1_test", "myfold3_val", "manifold_train"):
        (Path(data.root) / f"{name}.txt").write_text("p00\n")
    assert names(find_folds(data)) == ["fold1", "fold2"]


def test_without_folds_the_command_that_writes_them_is_named(data: DataConfig) -> None:
    with pytest.raises(DataError, match=rf"no folds, .*with: segkit split {data.root} --folds 5"):
        find_folds(data)


@pytest.mark.parametrize(
    ("gone", "words"),
    [
        (["fold2_train", "fold2_val"], r"fold2_train\.txt, fold2_val\.txt are missing"),
        (["fold3_val"], r"fold3_val\.txt is missing.*--folds 3 --force"),
        (["fold2_train", "fold2_val", "fold3_train", "fold3_val"], r"fold2_train\.txt, fold2_val\.txt are missing"),
    ],
)
def test_gaps_are_refused(data: DataConfig, gone: list[str], words: str) -> None:
    made = split_data_set(Path(data.root), folds=3)
    for name in gone:
        (made.folder / f"{name}.txt").unlink()
    with pytest.raises(DataError, match=words):
        find_folds(data)


def test_a_repeat_with_fewer_folds_is_a_gap(data: DataConfig) -> None:
    made = split_data_set(Path(data.root), folds=2, repeats=2)
    (made.folder / "repeat2_fold2_val.txt").unlink()
    with pytest.raises(DataError, match=r"repeat2_fold2_val\.txt is missing.*--folds 2 --repeats 2 --force"):
        find_folds(data)


def test_folds_with_and_without_repeats_are_not_mixed(data: DataConfig) -> None:
    split_data_set(Path(data.root), folds=2)
    split_data_set(Path(data.root), folds=2, repeats=2)
    with pytest.raises(DataError, match=r"found fold1_train\.txt and repeat._fold._train\.txt"):
        find_folds(data)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"layout": "webdataset"}, "found webdataset, expected voc or folders"),
        ({"val_fraction": 0.2}, "0.2 is set, expected 0 for --folds"),
        ({"train": "train_small"}, "set to 'train_small' and 'val', without effect"),
    ],
)
def test_configs_that_say_otherwise_what_to_train_on_are_refused(
    data: DataConfig, settings: dict[str, object], words: str
) -> None:
    split_data_set(Path(data.root), folds=2)
    with pytest.raises(ConfigError, match=words):
        find_folds(dataclasses.replace(data, **settings))  # type: ignore[arg-type]


# ---- folds that don't measure what they promise


def splits(**changes: tuple[list[str], list[str]]) -> dict[Fold, tuple[list[str], list[str]]]:
    """Two repeats of two folds of four images, some of them changed."""
    plain = {
        "repeat1_fold1": (["c", "d"], ["a", "b"]),
        "repeat1_fold2": (["a", "b"], ["c", "d"]),
        "repeat2_fold1": (["b", "d"], ["a", "c"]),
        "repeat2_fold2": (["a", "c"], ["b", "d"]),
    }
    return {Fold(int(name[6]), int(name[-1]), name): parts for name, parts in {**plain, **changes}.items()}


def test_folds_that_hold_each_image_out_once_are_fine() -> None:
    check_disjoint(splits())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"repeat1_fold1": (["c", "d", "a"], ["a", "b"])}, "a: in repeat1_fold1_train and in repeat1_fold1_val"),
        ({"repeat2_fold2": (["c"], ["a", "b", "d"])}, "a: in repeat2_fold1_val and in repeat2_fold2_val"),
        ({"repeat2_fold1": (["b", "d"], ["a"])}, "c: not held out in repeat 2"),
    ],
)
def test_folds_that_overlap_or_leave_images_out_are_refused(
    changes: dict[str, tuple[list[str], list[str]]], words: str
) -> None:
    with pytest.raises(DataError, match=words):
        check_disjoint(splits(**changes))


# ---- what they come to together

CLASSES = Classes.build(["background", "disc", "star"])


def image(seed: int, num_classes: int = 3) -> ConfusionMatrix:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, num_classes, 50)
    matrix = ConfusionMatrix(3)
    matrix.update(np.where(rng.random(50) < 0.4, rng.integers(0, num_classes, 50), truth), truth)
    return matrix


Scored = tuple[list[FoldRow], list[tuple[Fold, dict[str, np.ndarray]]]]


def scored(images: dict[Fold, dict[str, ConfusionMatrix]]) -> Scored:
    rows, counts = [], []
    for fold, held_out in images.items():
        scores = sum(held_out.values(), ConfusionMatrix(3)).scores()
        rows.append(FoldRow(fold.repeat, fold.number, fold.name, scores, best_epoch=3, best=scores.miou + 0.01))
        counts.append((fold, {name: matrix.marginals for name, matrix in held_out.items()}))
    return rows, counts


def fold(number: int, repeat: int = 1) -> Fold:
    return Fold(repeat, number, f"fold{number}")


def test_the_pooled_figure_is_that_of_all_images_at_once() -> None:
    images = {f"p{k}": image(k) for k in range(9)}
    parts = [dict(list(images.items())[start : start + 3]) for start in (0, 3, 6)]
    pooled = pool(*scored({fold(k + 1): part for k, part in enumerate(parts)}), seed=0)
    once = sum(images.values(), ConfusionMatrix(3)).scores()
    assert np.array_equal(pooled.scores.counts, once.counts)
    assert pooled.scores.miou == once.miou
    assert pooled.scores.num_images == 9
    assert pooled.interval[0] < once.miou < pooled.interval[1]


def test_a_class_that_a_fold_lacks_does_not_distort_the_pooled_figure() -> None:
    with_star, without = {"a": image(0)}, {"b": image(1, num_classes=2)}
    rows, counts = scored({fold(1): with_star, fold(2): without})
    assert np.isnan(rows[1].scores.iou[2])
    assert rows[1].scores.miou == rows[1].scores.iou[:2].mean()  # not a third of it lost
    pooled = pool(rows, counts, seed=0)
    assert pooled.scores.iou[2] == rows[0].scores.iou[2]
    said = describe_folds(FoldsResult(Path("run"), 2, CLASSES, tuple(rows), pooled))
    assert "no pixel of some classes in fold2 (star)" in said
    assert "no pixel" not in describe_folds(FoldsResult(Path("run"), 2, CLASSES, tuple(rows[:1]), pooled))


def test_repeats_are_averaged_and_each_counts_an_image_once() -> None:
    first, second = ({f"p{k}": image(k + 100 * repeat) for k in range(4)} for repeat in (1, 2))
    images = {
        Fold(repeat, number, f"repeat{repeat}_fold{number}"): dict(list(held_out.items())[2 * number - 2 : 2 * number])
        for repeat, held_out in ((1, first), (2, second))
        for number in (1, 2)
    }
    rows, counts = scored(images)
    pooled = pool(rows, counts, seed=0)
    alone = [sum(held_out.values(), ConfusionMatrix(3)).scores() for held_out in (first, second)]
    assert [scores.miou for scores in pooled.by_repeat] == [scores.miou for scores in alone]
    assert pooled.scores.miou == pytest.approx((alone[0].miou + alone[1].miou) / 2)
    assert pooled.scores.num_images == 4
    stacked = np.array([[matrix.marginals for matrix in held_out.values()] for held_out in (first, second)])
    assert pooled.interval == miou_interval(stacked, seed=0)
    said = describe_folds(FoldsResult(Path("run"), 4, CLASSES, tuple(rows), pooled))
    assert "mean of 2 repeats" in said
    assert f"repeats alone: {100 * alone[0].miou:.2f} %, {100 * alone[1].miou:.2f} %" in said


def test_the_table_holds_mean_and_sample_deviation_and_marks_what_was_chosen() -> None:
    rows, counts = scored({fold(k): {f"p{k}": image(k)} for k in (1, 2, 3)})
    figures = [100 * row.scores.miou for row in rows]
    table = folds_table(rows)
    assert f"{np.mean(figures):.2f}" in table.splitlines()[-2]
    assert f"{np.std(figures, ddof=1):.2f}" in table.splitlines()[-1]
    said = describe_folds(FoldsResult(Path("run"), 3, CLASSES, tuple(rows), pool(rows, counts, seed=0)))
    assert "* optimistic" in said
    assert max(len(line) for line in said.splitlines() if not line.startswith("mIoU")) <= 80


def test_rows_of_csv_leave_empty_what_is_undefined() -> None:
    rows, _ = scored({fold(1): {"a": image(1, num_classes=2)}})
    header, row = folds_csv([dataclasses.replace(rows[0], best=None)], CLASSES).splitlines()
    cells = dict(zip(header.split(","), row.split(","), strict=True))
    assert cells["iou_star"] == cells["best_miou"] == ""
    assert float(cells["miou"]) == rows[0].scores.miou
