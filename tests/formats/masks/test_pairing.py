from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from PIL import Image

from segkit.errors import DataError
from segkit.formats.masks.pairing import Pairing, find_pairs
from segkit.formats.options import ReadOptions

Find = Callable[[str], Path]


def lay_out(root: Path, files: Sequence[str]) -> Path:
    for name in files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 3)).save(root / name)
    return root


def paired(root: Path, options: ReadOptions | None = None) -> dict[str, list[tuple[str, str, str]]]:
    """{split: [(name, image, label)]}, paths below the root."""
    found: Pairing = find_pairs(root, options or ReadOptions())
    return {
        split: [
            (pair.name, pair.image.relative_to(root).as_posix(), pair.label.relative_to(root).as_posix())
            for pair in pairs
        ]
        for split, pairs in found.splits.items()
    }


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("images/7.jpg", "masks/7.png"),
        ("imgs/7_img.jpg", "gts/7_gt.png"),
        ("img_dir/7.png", "ann_dir/7.png"),
        ("image/7.png", "label/7_label.png"),
        ("JPEGImages/7.jpg", "SegmentationClassRaw/7.png"),
        ("images/img_7.jpg", "labels/mask_7.png"),
        ("images/7 image.jpg", "labels/7 segmentation.png"),
        ("stills/7.png", "masks/7_L.png"),  # no folder of images: whatever isn't a label
        ("7.png", "7_mask.png"),
        ("7.jpg", "7.png"),
        ("7_sat.jpg", "7_mask.png"),
        ("a.b_1.jpg", "a.b_1_seg.png"),
        ("7_x_256.bmp", "7_x_mask_256.bmp"),
        ("21_training.tif", "21_training_manual1.gif"),
    ],
)
def test_a_image_finds_its_label(tmp_path: Path, image: str, label: str) -> None:
    (entries,) = paired(lay_out(tmp_path, [image, label])).values()
    assert [entry[1:] for entry in entries] == [(image, label)]


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("images/train/7.jpg", "masks/train/7.png"),
        ("training/images/7.jpg", "training/masks/7.png"),
        ("train_images/7.jpg", "train_segmentations/7.png"),
        ("train/7.png", "trainannot/7.png"),
        ("images/train/7.jpg", "masks/7.png"),
        ("train/7.jpg", "train/7_mask.png"),
    ],
)
def test_a_folder_tells_the_split(tmp_path: Path, image: str, label: str) -> None:
    assert paired(lay_out(tmp_path, [image, label])) == {"train": [("7", image, label)]}


def test_images_of_one_name_may_be_in_two_splits(tmp_path: Path) -> None:
    root = lay_out(tmp_path, [f"{kind}/{split}/7.png" for kind in ("images", "masks") for split in ("train", "val")])
    assert {split: entries[0][0] for split, entries in paired(root).items()} == {"train": "7", "val": "7"}


def test_a_label_of_another_split_is_not_taken(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="found no image with a label"):
        find_pairs(lay_out(tmp_path, ["images/train/7.jpg", "masks/val/7.png"]), ReadOptions())


def test_equal_names_in_sub_folders_stay_apart(tmp_path: Path) -> None:
    root = lay_out(tmp_path, ["images/a/1.jpg", "images/b/1.jpg", "masks/a/1.png", "masks/b/1.png"])
    assert [entry[2] for entry in paired(root)["all"]] == ["masks/a/1.png", "masks/b/1.png"]


def test_a_sub_folder_without_the_label_doesnt_get_another_ones(tmp_path: Path) -> None:
    root = lay_out(tmp_path, ["images/a/1.jpg", "images/b/1.jpg", "images/b/2.jpg", "masks/a/1.png", "masks/b/2.png"])
    pairing = find_pairs(root, ReadOptions())
    assert [pair.name for pair in pairing.splits["all"]] == ["a/1", "b/2"]
    assert pairing.unlabelled == (root / "images/b/1.jpg",)


def test_flat_labels_serve_nested_images_if_names_are_unique(tmp_path: Path) -> None:
    root = lay_out(tmp_path, ["images/a/1.jpg", "images/b/2.jpg", "masks/1.png", "masks/2.png"])
    assert [entry[0] for entry in paired(root)["all"]] == ["a/1", "b/2"]


def test_flat_labels_for_two_images_of_a_name_are_refused(tmp_path: Path) -> None:
    root = lay_out(tmp_path, ["images/a/1.jpg", "images/b/1.jpg", "masks/1.png"])
    with pytest.raises(DataError, match="2 images could be its"):
        find_pairs(root, ReadOptions())


def test_images_without_a_label_are_left_out_and_counted(tmp_path: Path) -> None:
    root = lay_out(tmp_path, ["images/1.jpg", "masks/1.png", *(f"images/{k}.jpg" for k in range(2, 14))])
    pairing = find_pairs(root, ReadOptions())
    assert len(pairing.splits["all"]) == 1
    assert len(pairing.unlabelled) == 12
    assert any("12 images without a label" in note and note.endswith("and 2 more") for note in pairing.notes)


def test_labels_without_a_image_are_an_error_that_counts_them(tmp_path: Path) -> None:
    root = lay_out(tmp_path, ["images/1.jpg", "masks/1.png", *(f"masks/{k}.png" for k in range(2, 14))])
    with pytest.raises(DataError, match="2 more \\(12 in total\\)"):
        find_pairs(root, ReadOptions())


def test_two_folders_of_labels_are_refused_until_one_is_named(tmp_path: Path) -> None:
    root = lay_out(tmp_path, ["images/1.jpg", "masks/1.png", "labels/1.png"])
    with pytest.raises(DataError, match=f"--labels {root}/labels or --labels {root}/masks"):
        find_pairs(root, ReadOptions())
    assert paired(root, ReadOptions(labels=root / "masks")) == {"all": [("1", "images/1.jpg", "masks/1.png")]}


def test_images_may_lie_elsewhere(tmp_path: Path) -> None:
    lay_out(tmp_path, ["photos_2024/1.jpg", "export/1.png"])
    pairing = find_pairs(tmp_path / "export", ReadOptions(images=tmp_path / "photos_2024"))
    assert [pair.label.name for pair in pairing.splits["all"]] == ["1.png"]


@pytest.mark.parametrize(
    ("files", "note"),
    [
        (["Predictions/1.png", "masks/1.png"], "holds images; they are taken from Predictions"),
        (["images/1.png", "v1.2/1.png"], "holds labels; they are taken from v1.2"),
        (["images/1.png", "masks/1.png"], None),
        (["1.jpg", "1_mask.png"], None),
    ],
)
def test_folders_that_only_remain_are_said(tmp_path: Path, files: list[str], note: str | None) -> None:
    notes = find_pairs(lay_out(tmp_path, files), ReadOptions()).notes
    assert notes == () if note is None else note in notes[0]


def test_the_name_as_it_is_goes_before_the_name_without_words(tmp_path: Path) -> None:
    root = lay_out(tmp_path, ["images/1.png", "images/1_rgb.png", "masks/1.png", "masks/1_rgb.png"])
    assert [entry[2] for entry in paired(root)["all"]] == ["masks/1.png", "masks/1_rgb.png"]


@pytest.mark.parametrize("place", [".", "splits", "ImageSets/Segmentation"])
def test_lists_tell_the_splits_where_no_folder_does(tmp_path: Path, place: str) -> None:
    root = lay_out(tmp_path, [f"{kind}/{k}.png" for kind in ("images", "masks") for k in range(3)])
    (root / place).mkdir(parents=True, exist_ok=True)
    (root / place / "train.txt").write_text("0\n2.png\n")
    (root / place / "val.txt").write_text("1\n")
    (root / place / "trainval.txt").write_text("0\n1\n2\n")  # no split of its own
    assert {split: [entry[0] for entry in entries] for split, entries in paired(root).items()} == {
        "train": ["0", "2"],
        "val": ["1"],
    }


def test_a_listed_name_that_isnt_there_is_an_error(tmp_path: Path) -> None:
    root = lay_out(tmp_path, ["images/0.png", "images/1.png", "masks/0.png"])
    (root / "train.txt").write_text("0\n1\n9\n")
    with pytest.raises(DataError, match=r"'1' has no label(.|\n)*no image '9'"):
        find_pairs(root, ReadOptions())


def test_a_list_of_unlabelled_images_is_left_out_and_said(tmp_path: Path) -> None:
    root = lay_out(tmp_path, ["images/0.png", "images/1.png", "masks/0.png"])
    (root / "train.txt").write_text("0\n")
    (root / "test.txt").write_text("1\n")
    pairing = find_pairs(root, ReadOptions())
    assert list(pairing.splits) == ["train"]
    assert any("test.txt is left out" in note for note in pairing.notes)


def test_images_in_no_list_and_in_two_are_said(tmp_path: Path) -> None:
    root = lay_out(tmp_path, [f"{kind}/{k}.png" for kind in ("images", "masks") for k in range(3)])
    (root / "train.txt").write_text("0\n1\n")
    (root / "val.txt").write_text("1\n")
    notes = find_pairs(root, ReadOptions()).notes
    assert any("1 image in more than one" in note for note in notes)
    assert any("1 image in no list" in note for note in notes)


@pytest.mark.parametrize("files", [[], ["images/1.jpg"], ["a/1.jpg", "b/2.png"]])
def test_nothing_that_pairs_is_an_error(tmp_path: Path, files: list[str]) -> None:
    with pytest.raises(DataError, match="expected folders like images/ and masks/"):
        find_pairs(lay_out(tmp_path, files), ReadOptions())


def test_a_folder_that_isnt_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere: no such folder"):
        find_pairs(tmp_path, ReadOptions(images=tmp_path / "nowhere"))


@pytest.mark.parametrize(
    ("folder", "splits"),
    [
        ("format_zoo/coral_bmp", {"all": 3}),
        ("format_zoo/pseudo_dataset", {"train": 4, "val": 1}),
        ("format_zoo/pseudo_lip_dataset", {"train": 1, "val": 1}),
        ("format_zoo/pseudo_nyu_dataset", {"all": 1}),
        ("format_zoo/pseudo_potsdam_dataset", {"all": 1}),
        ("format_zoo/pseudo_refuge_dataset", {"all": 1}),
        ("format_zoo/pseudo_synapse_dataset", {"all": 2}),
        ("format_zoo/pseudo_vaihingen_dataset", {"all": 1}),
        ("drive/original_tif_gif", {"all": 2}),
        ("voc_labelme_example", {"train": 2, "val": 1}),
        ("camvid_tiny", {"train": 40, "val": 16, "test": 16}),
    ],
)
def test_real_data_sets_pair(shared_data: Find, folder: str, splits: dict[str, int]) -> None:
    pairing = find_pairs(shared_data(folder), ReadOptions())
    assert {split: len(pairs) for split, pairs in pairing.splits.items()} == splits
    assert not pairing.unlabelled


@pytest.mark.parametrize(
    ("folder", "labels", "splits"),
    [
        ("format_zoo/pseudo_bdd100k_dataset", "labels/sem_seg/masks", {"train": 3, "val": 3}),
        ("format_zoo/pseudo_mapillary_dataset", "v2.0", {"all": 1}),
    ],
)
def test_real_data_sets_with_several_kinds_of_labels_pair_by_name(
    shared_data: Find, folder: str, labels: str, splits: dict[str, int]
) -> None:
    root = shared_data(folder)
    with pytest.raises(DataError, match="2 labels could be its"):
        find_pairs(root, ReadOptions())
    pairing = find_pairs(root, ReadOptions(labels=root / labels))
    assert {split: len(pairs) for split, pairs in pairing.splits.items()} == splits
