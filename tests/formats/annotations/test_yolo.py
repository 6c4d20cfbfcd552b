from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from segkit.config.strict_yaml import parse_yaml
from segkit.errors import ConfigError, DataError
from segkit.formats.annotations.yolo import read, write
from segkit.formats.options import ReadOptions, WriteOptions
from segkit.formats.sample import NO_SPLIT, Sample, SampleSet

OPTIONS = ReadOptions()
HW = (20, 40)
NAMES = "names: {0: cat, 1: dog}\n"
LEFT_HALF = "0 0 0 0.5 0 0.5 1 0 1"


def save(root: Path, sample: str, label: str | None, *, images: str = "images", labels: str = "labels") -> None:
    """Write an image, 40 wide and 20 high, and its label file; `image` is train/a.png or a.png."""
    path = root / images / sample
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", HW[::-1]).save(path)
    if label is not None:
        text = (root / labels / sample).with_suffix(".txt")
        text.parent.mkdir(parents=True, exist_ok=True)
        text.write_text(label)


def describe(root: Path, text: str, name: str = "data.yaml") -> Path:
    root.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)
    return root / name


def one(root: Path, label: str | None, **options: Any) -> SampleSet:
    save(root, "train/a.png", label)
    return read(describe(root, f"train: images/train\n{NAMES}"), ReadOptions(**options))


def the_mask(samples: SampleSet) -> np.ndarray:
    ((sample,),) = samples.splits.values()
    return sample.read_mask()


# ---- round trips


def test_what_is_written_is_read_as_the_same_ids(
    make_set: Callable[..., SampleSet], random_masks: dict[str, np.ndarray], tmp_path: Path
) -> None:
    samples = make_set(
        {f"{split}/x/{name}": m for name, m in random_masks.items() for split in ("train", "val")}, splits=True
    )
    write(samples, tmp_path / "out", WriteOptions())
    for source in (tmp_path / "out", tmp_path / "out" / "data.yaml"):
        again = read(source, OPTIONS)
        assert again.classes.names == ("background", "cat", "dog")
        assert list(again.splits) == ["train", "val"]
        for sample in again.splits["val"]:
            truth = random_masks[sample.name.removeprefix("x/")]
            mask = sample.read_mask()
            assert mask.dtype == np.uint8
            assert (mask == np.where(truth == 255, 0, truth)).all(), sample.name


def test_real_masks_are_read_as_they_were_written(real_set: SampleSet, tmp_path: Path) -> None:
    write(real_set, tmp_path / "out", WriteOptions())
    names = real_set.classes.names
    plain = "background" in names
    again = read(tmp_path / "out", ReadOptions(classes=names, unlabeled=None if plain else "ignore"))
    assert list(again.splits) == ["all"]
    for before, after in zip(real_set.splits["all"], again.splits["all"], strict=True):
        truth = before.read_mask()
        assert (after.read_mask() == (np.where(truth == 255, 0, truth) if plain else truth)).all()
        assert isinstance(before.image, Path)
        assert isinstance(after.image, Path)
        assert before.image.read_bytes() == after.image.read_bytes()


def test_a_background_that_is_not_class_0_is_left_out_too(
    make_set: Callable[..., SampleSet], random_masks: dict[str, np.ndarray], tmp_path: Path
) -> None:
    names = ("sky", "background", "dog")
    write(make_set(random_masks, names), tmp_path, WriteOptions())
    assert parse_yaml((tmp_path / "data.yaml").read_text(), where="", number_keys=True)["names"] == {0: "sky", 1: "dog"}
    for sample in read(tmp_path, ReadOptions(classes=names)).splits[NO_SPLIT]:
        truth = random_masks[sample.name]
        assert (sample.read_mask() == np.where(truth == 255, 1, truth)).all()


def test_large_images_keep_every_pixel(make_set: Callable[..., SampleSet], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    mask = np.zeros((3, 20_011), np.uint8)
    mask[1] = rng.integers(0, 3, 20_011)
    write(make_set({"a": mask}), tmp_path / "out", WriteOptions())
    assert (the_mask(read(tmp_path / "out", OPTIONS)) == mask).all()


def test_ignored_pixels_are_counted(make_set: Callable[..., SampleSet], tmp_path: Path) -> None:
    masks = {"train/a": np.full((3, 3), 255, np.uint8), "val/b": np.ones((3, 3), np.uint8)}
    (note,) = write(make_set(masks, splits=True), tmp_path / "out", WriteOptions())
    assert note.startswith("9 ignored pixels of 1 image became background")


def test_splits_that_yolo_does_not_train_on_are_noted(make_set: Callable[..., SampleSet], tmp_path: Path) -> None:
    (note,) = write(make_set({"a": np.ones((3, 3), np.uint8)}), tmp_path / "out", WriteOptions())
    assert "YOLO trains on train and val" in note


@pytest.mark.parametrize("names", [("background", "no", "1e-4"), ("background", "a: b", 'quote" \\ ü')])
def test_names_that_yaml_takes_for_something_else_come_back(
    make_set: Callable[..., SampleSet], tmp_path: Path, names: tuple[str, ...]
) -> None:
    write(make_set({"a": np.ones((3, 3), np.uint8)}, names), tmp_path / "out", WriteOptions())
    assert read(tmp_path / "out", OPTIONS).classes.names == names


def test_the_same_set_gives_the_same_bytes(
    make_set: Callable[..., SampleSet], random_masks: dict[str, np.ndarray], tmp_path: Path
) -> None:
    for folder in ("one", "two"):
        write(make_set(random_masks), tmp_path / folder, WriteOptions())
    files = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*") if path.is_file())
    assert len(files) == 2 * len(random_masks) + 1
    assert all((tmp_path / "one" / f).read_bytes() == (tmp_path / "two" / f).read_bytes() for f in files)


def test_a_tolerance_writes_fewer_points(make_set: Callable[..., SampleSet], tmp_path: Path) -> None:
    y, x = np.mgrid[:100, :100]
    ring = (((x - 50) ** 2 + (y - 50) ** 2 < 1600) & ((x - 50) ** 2 + (y - 50) ** 2 > 400)).astype(np.uint8)
    lengths = []
    for tolerance in (0.0, 2.0):
        folder = tmp_path / str(tolerance)
        write(make_set({"a": ring}), folder, WriteOptions(tolerance=tolerance))
        lengths.append(len((folder / "labels" / "all" / "a.txt").read_text().split()))
    assert lengths[1] < lengths[0] / 4
    assert (the_mask(read(tmp_path / "2.0", OPTIONS)) != ring).mean() < 0.04


@pytest.mark.parametrize("name", ["../a", "/a", "a/../../b"])
def test_a_name_that_leaves_the_folder_is_refused(
    make_set: Callable[..., SampleSet], tmp_path: Path, name: str
) -> None:
    samples = make_set({"a": np.eye(3, dtype=np.uint8)})
    sample = samples.splits[NO_SPLIT][0]
    bad = SampleSet({NO_SPLIT: [Sample(name, sample.image, sample.read_mask)]}, samples.classes)
    with pytest.raises(DataError, match="expected a relative path"):
        write(bad, tmp_path / "out", WriteOptions())


# ---- rules


def test_classes_shift_by_the_background(tmp_path: Path) -> None:
    samples = one(tmp_path, f"{LEFT_HALF}\n1 0.5 0 1 0 1 0.5 0.5 0.5\n")
    assert samples.classes.names == ("background", "cat", "dog")
    mask = the_mask(samples)
    assert (mask[:, :20] == 1).all()
    assert (mask[:10, 20:] == 2).all()
    assert (mask[10:, 20:] == 0).all()


def test_names_with_a_background_of_their_own_do_not_shift(tmp_path: Path) -> None:
    save(tmp_path, "train/a.png", "1 0 0 0.5 0 0.5 1 0 1")
    path = describe(tmp_path, "train: images/train\nnames: [background, cat]\n")
    samples = read(path, OPTIONS)
    assert samples.classes.names == ("background", "cat")
    assert (the_mask(samples)[:, :20] == 1).all()


def test_later_lines_paint_over_earlier_ones(tmp_path: Path) -> None:
    whole = "1 0 0 1 0 1 1 0 1"
    assert np.unique(the_mask(one(tmp_path, f"{LEFT_HALF}\n{whole}"))).tolist() == [2]
    assert np.unique(the_mask(one(tmp_path, f"{whole}\n{LEFT_HALF}"))).tolist() == [1, 2]


@pytest.mark.parametrize("label", [None, "", "\n  \n"])
def test_a_image_without_polygons_is_background(tmp_path: Path, label: str | None) -> None:
    samples = one(tmp_path, label)
    assert "1 image without polygons: all background" in samples.notes
    assert not the_mask(samples).any()


def test_pixels_without_a_polygon_can_be_ignored(tmp_path: Path) -> None:
    samples = one(tmp_path, LEFT_HALF, unlabeled="ignore")
    assert samples.classes.names == ("cat", "dog")
    assert np.unique(the_mask(samples)).tolist() == [0, 255]


def test_given_classes_choose_and_order_the_names(tmp_path: Path) -> None:
    samples = one(tmp_path, f"{LEFT_HALF}\n1 0 0 0.1 0 0.1 1 0 1", classes=("background", "dog"))
    mask = the_mask(samples)
    assert (mask[:, :4] == 1).all()
    assert (mask[:, 4:] == 0).all()
    assert "labels that are not among the classes become background: cat" in samples.notes


def test_a_turned_image_is_labelled_upright(tmp_path: Path) -> None:
    samples = one(tmp_path, LEFT_HALF)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", HW[::-1]).save(tmp_path / "images" / "train" / "a.png", exif=exif)
    mask = the_mask(samples)
    assert mask.shape == (40, 20)
    assert (mask[:, :10] == 1).all()


def test_points_a_little_outside_are_cut_off(tmp_path: Path) -> None:
    assert (the_mask(one(tmp_path, "0 -0.1 -0.1 1.2 -0.1 1.2 1.2 -0.1 1.2")) == 1).all()


# ---- files


@pytest.mark.parametrize(
    "text",
    [
        f"path: .\ntrain: images/train\n{NAMES}",
        f"path: nowhere\ntrain: images/train\n{NAMES}",
        f"train: ../images/train\n{NAMES}",
        f"train: [images/train]\n{NAMES}nc: 2\n",
        f"train: train.txt\n{NAMES}",
        f"train: images/train\n7: [5]\n{NAMES}",
        "train: images/train\nnames: [cat, dog]\n",
        "train: images/train\nnames: {1: dog, 0: cat}\ndownload: |\n  import os\n  os._exit(3)\n",
    ],
)
def test_a_data_yaml_says_where_things_are(tmp_path: Path, text: str) -> None:
    save(tmp_path, "train/a.png", LEFT_HALF)
    (tmp_path / "train.txt").write_text("./images/train/a.png\n")
    samples = read(describe(tmp_path, text), OPTIONS)
    assert list(samples.splits) == ["train"]
    assert samples.classes.names == ("background", "cat", "dog")
    assert (the_mask(samples)[:, :20] == 1).all()


@pytest.mark.parametrize("split", ["train", NO_SPLIT])
def test_a_folder_without_a_yaml_has_its_names_in_a_list(tmp_path: Path, split: str) -> None:
    save(tmp_path, "a.png" if split == NO_SPLIT else f"{split}/a.png", LEFT_HALF)
    with pytest.raises(DataError, match="found no names of classes"):
        read(tmp_path, OPTIONS)
    given = read(tmp_path, ReadOptions(classes=("background", "cat", "dog")))
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    for samples in (given, read(tmp_path, OPTIONS)):
        assert list(samples.splits) == [split]
        assert samples.classes.names == ("background", "cat", "dog")
        assert (the_mask(samples)[:, :20] == 1).all()


def test_labels_are_found_beside_images_in_any_order_of_folders(tmp_path: Path) -> None:
    save(tmp_path, "x/a.png", LEFT_HALF, images="train/images", labels="train/labels")
    save(tmp_path, "b.png", LEFT_HALF, images="val", labels="val")
    samples = read(describe(tmp_path, f"train: train/images\nvalid: val\n{NAMES}"), OPTIONS)
    found = {split: [sample.name for sample in listed] for split, listed in samples.splits.items()}
    assert found == {"train": ["x/a"], "val": ["b"]}
    assert all(p.read_mask().any() for listed in samples.splits.values() for p in listed)


def test_a_image_in_two_splits_is_noted(tmp_path: Path) -> None:
    save(tmp_path, "train/a.png", LEFT_HALF)
    samples = read(describe(tmp_path, f"train: images/train\nval: images/train\n{NAMES}"), OPTIONS)
    assert "1 image in more than one split" in samples.notes


def test_two_images_of_one_label_are_refused(tmp_path: Path) -> None:
    save(tmp_path, "train/a.png", LEFT_HALF)
    save(tmp_path, "train/a.jpg", LEFT_HALF)
    with pytest.raises(DataError, match=r"a\.jpg and .*a\.png have the same label file"):
        read(describe(tmp_path, f"train: images/train\n{NAMES}"), OPTIONS)


def test_a_folder_of_images_is_refused_where_the_form_says_it_itself(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="leave it out"):
        one(tmp_path, LEFT_HALF, images=tmp_path)


# ---- what nobody should write


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("0 0.5 0.5 0.2 0.2", "5 numbers, which is a box"),
        ("0 0.5 0.5", "found 3 numbers"),
        ("0 0 0 1 0 1 1 0", "found 8 numbers"),
        ("2 0 0 1 0 1 1", "found class 2, expected 0..1"),
        ("-1 0 0 1 0 1 1", "found class -1"),
        ("0.5 0 0 1 0 1 1", "found class 0.5"),
        ("nan 0 0 1 0 1 1", "found class nan"),
        ("cat 0 0 1 0 1 1", "found 'cat 0 0 1 0 1 1', expected numbers"),
        ("0 0 0 640 0 640 480", "found coordinates up to 640"),
        ("0 0 0 nan 0 1 1", "found coordinates up to nan"),
        ("0 0 0 1e400 0 1 1", "found coordinates up to inf"),
    ],
)
def test_a_wrong_line_is_named_with_its_file_and_number(tmp_path: Path, line: str, found: str) -> None:
    with pytest.raises(DataError) as caught:
        one(tmp_path, f"{LEFT_HALF}\n\n{line}\n")
    assert str(caught.value).startswith(f"{tmp_path / 'labels' / 'train' / 'a.txt'} line 3: ")
    assert found in str(caught.value)


def test_wrong_files_are_counted(tmp_path: Path) -> None:
    for number in range(13):
        save(tmp_path, f"train/{number:02d}.png", "0 0.5 0.5 0.2 0.2")
    with pytest.raises(DataError, match=r"3 more \(13 in total\)"):
        read(describe(tmp_path, f"train: images/train\n{NAMES}"), OPTIONS)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "names: found none"),
        ("[1, 2]", "names: found none"),
        ("train: images/train\n", "names: found none"),
        ("train: images/train\nnames: cat\n", "names: found none"),
        ("train: images/train\nnames: {1: cat, 2: dog}\n", "names: found the numbers [1, 2]"),
        ("train: images/train\nnames: {0: cat, 0: dog}\n", "the key '0'"),
        ("train: images/train\nnames: {0: [cat]}\n", "found a list or nothing"),
        ("train: images/train\nnames: {0: cat, 1: }\n", "list or nothing"),
        (f"train: nowhere\n{NAMES}", "found 'nowhere', which does not exist"),
        (f"train: missing.txt\n{NAMES}", "found 'missing.txt', which does not exist"),
        (f"train: list.txt\n{NAMES}", "found 'b.png', which is no image file"),
        (f"train: binary.txt\n{NAMES}", "not a text file"),
        (NAMES, "found no split"),
        (f"train: 5\n{NAMES}", "found no split"),
        ("names: [cat\n", "expected ',' or ']'"),
        ("names: !!python/object/apply:os.system [exit]\n", "could not determine a constructor"),
    ],
)
def test_a_wrong_data_yaml_is_named(tmp_path: Path, text: str, found: str) -> None:
    save(tmp_path, "train/a.png", LEFT_HALF)
    (tmp_path / "list.txt").write_text("b.png\n")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError) as caught:
        read(describe(tmp_path, text), OPTIONS)
    assert found in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_a_source_that_is_none_says_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        read(tmp_path / "none", OPTIONS)
    with pytest.raises(DataError, match=r"found neither data\.yaml nor images/"):
        read(tmp_path, OPTIONS)
    (tmp_path / "images").mkdir()
    with pytest.raises(DataError, match="no images"):
        read(tmp_path, ReadOptions(classes=("background", "cat")))
    for name in ("a.yaml", "b.yaml"):
        describe(tmp_path, NAMES, name)
    with pytest.raises(DataError, match=r"found a\.yaml, b\.yaml, expected one"):
        read(tmp_path, OPTIONS)
