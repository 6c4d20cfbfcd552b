from collections.abc import Callable
from pathlib import Path

import pytest

from segkit.config.schema import DataConfig
from segkit.datasets.layouts import hold_out, list_images, list_items, resolve_classes
from segkit.datasets.split_files import read_split
from segkit.errors import ConfigError, DataError


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    root = tmp_path / "VOCdevkit" / "VOC2012"
    for name in ("a", "b", "c.d"):
        touch(root / "JPEGImages" / f"{name}.jpg", root / "SegmentationClass" / f"{name}.png")
    splits = root / "ImageSets" / "Segmentation"
    splits.mkdir(parents=True)
    (splits / "train.txt").write_text("b\na\n")
    (splits / "val.txt").write_text("c.d\n")
    return root


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    for name in "abcdefgh":
        touch(tmp_path / "images" / f"{name}.jpg", tmp_path / "masks" / f"{name}.png")
    return tmp_path


def names(data: DataConfig, split: str) -> list[str]:
    return [item.name for item in list_items(data, split)]


# ---- voc


def test_items_come_in_the_order_of_the_split_file(voc: Path) -> None:
    items = list_items(DataConfig(root=str(voc)), "train")
    assert [item.name for item in items] == ["b", "a"]
    assert items[0].image == voc / "JPEGImages" / "b.jpg"
    assert items[0].mask == voc / "SegmentationClass" / "b.png"


@pytest.mark.parametrize("root", ["VOCdevkit/VOC2012", "VOCdevkit", "."])
def test_the_root_may_be_voc2012_or_what_holds_it(tmp_path: Path, voc: Path, root: str) -> None:
    assert names(DataConfig(root=str(tmp_path / root)), "val") == ["c.d"]


def test_voc2007_is_found_where_there_is_no_voc2012(tmp_path: Path, voc: Path) -> None:
    voc.rename(voc.with_name("VOC2007"))
    assert names(DataConfig(root=str(tmp_path)), "val") == ["c.d"]


@pytest.mark.parametrize("suffix", [".png", ".JPG", ".jpeg", ".bmp", ".tiff", ".webp"])
def test_images_may_have_any_suffix(voc: Path, suffix: str) -> None:
    (voc / "JPEGImages" / "a.jpg").rename(voc / "JPEGImages" / f"a{suffix}")
    assert names(DataConfig(root=str(voc)), "train") == ["b", "a"]


def test_names_may_have_dots_and_folders(voc: Path) -> None:
    touch(voc / "JPEGImages" / "city" / "x.y.z.jpg", voc / "SegmentationClass" / "city" / "x.y.z.png")
    (voc / "ImageSets" / "Segmentation" / "val.txt").write_text("city/x.y.z\n")
    assert names(DataConfig(root=str(voc)), "val") == ["city/x.y.z"]


# ---- folders


def test_a_split_may_be_a_file_beside_the_folders(folders: Path) -> None:
    (folders / "train.txt").write_text("c\na\n")
    assert names(DataConfig(root=str(folders), layout="folders"), "train") == ["c", "a"]


def test_a_split_may_be_a_file_in_splits(folders: Path) -> None:
    touch(folders / "splits" / "x")
    (folders / "splits" / "train.txt").write_text("c\n")
    assert names(DataConfig(root=str(folders), layout="folders"), "train") == ["c"]


@pytest.mark.parametrize("pattern", ["{split}/{kind}", "{kind}/{split}"])
def test_a_split_may_be_a_sub_folder(tmp_path: Path, pattern: str) -> None:
    for split, name in (("train", "a"), ("val", "b")):
        touch(
            tmp_path / pattern.format(split=split, kind="images") / f"{name}.jpg",
            tmp_path / pattern.format(split=split, kind="masks") / f"{name}.png",
        )
    data = DataConfig(root=str(tmp_path), layout="folders")
    assert (names(data, "train"), names(data, "val")) == (["a"], ["b"])


def test_a_held_out_share_and_the_rest_make_up_the_whole(folders: Path) -> None:
    data = DataConfig(root=str(folders), layout="folders", val_fraction=0.25)
    train, val = names(data, "train"), names(data, "val")
    assert len(val) == 2
    assert sorted(train + val) == list("abcdefgh")


def test_another_seed_holds_out_another_share_and_the_same_seed_the_same(folders: Path) -> None:
    data = DataConfig(root=str(folders), layout="folders", val_fraction=0.5)
    draws = [tuple(item.name for item in list_items(data, "val", seed=seed)) for seed in (0, 0, 1, 2)]
    assert draws[0] == draws[1]
    assert len(set(draws)) == 3


def test_the_share_that_a_run_drew_stays_when_images_are_added(folders: Path) -> None:
    data = DataConfig(root=str(folders), layout="folders", val_fraction=0.25)
    drawn = names(data, "val")
    touch(folders / "images" / "new.jpg", folders / "masks" / "new.png")
    assert [item.name for item in list_items(data, "val", held_out=drawn)] == drawn
    assert "new" in [item.name for item in list_items(data, "train", held_out=drawn)]


def test_a_held_out_image_that_is_gone_is_named(folders: Path) -> None:
    data = DataConfig(root=str(folders), layout="folders", val_fraction=0.25)
    with pytest.raises(DataError, match="lost and 0 more images"):
        list_items(data, "val", held_out=["lost"])


def test_a_data_set_without_images_is_named(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    with pytest.raises(DataError, match=r"no images below images/"):
        list_items(DataConfig(root=str(tmp_path), layout="folders", val_fraction=0.2), "train")


def test_everything_is_a_split_of_its_own(folders: Path, voc: Path) -> None:
    held_out = DataConfig(root=str(folders), layout="folders", val_fraction=0.25)
    assert names(held_out, "all") == list("abcdefgh")
    assert names(DataConfig(root=str(voc)), "all") == ["a", "b", "c.d"]


def test_at_least_one_image_is_left_on_each_side(folders: Path) -> None:
    items = list_items(DataConfig(root=str(folders), layout="folders", val_fraction=0.5), "train")
    assert len(hold_out(items[:2], 0.01, seed=0)) == len(hold_out(items[:2], 0.99, seed=0)) == 1
    with pytest.raises(DataError, match="at least 2"):
        hold_out(items[:1], 0.5, seed=0)


# ---- split files


@pytest.mark.parametrize(
    "content",
    [
        b"a\nb\n",
        b"a\r\nb\r\n",
        b"\xef\xbb\xbfa\nb",
        b"\na\n\n  \nb\n\n",
        b"a   \nb\t\n",
        b"a -1\nb  1\n",
        b"a.jpg\nb.jpg",
    ],
)
def test_split_files_may_be_written_in_many_ways(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "train.txt"
    path.write_bytes(content)
    assert read_split(path, {"a", "b"}) == ["a", "b"]


@pytest.mark.parametrize("name", ["shot 1", "x.y.jpg.rf.88b", "photo.png"])
def test_a_name_that_looks_decorated_is_taken_as_it_is_where_it_exists(tmp_path: Path, name: str) -> None:
    path = tmp_path / "train.txt"
    path.write_text(name)
    assert read_split(path, {name}) == [name]


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../../x", "C:\\x", "\\x"])
def test_names_that_leave_the_data_set_are_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "train.txt"
    path.write_text(f"a\n{name}\n")
    with pytest.raises(DataError, match=r"train\.txt line 2: .* leaves the data set"):
        read_split(path, {"a"})


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "there are: other"),
        (b"\n \n", "is empty"),
        (b"\xff\xfe", "UTF-8"),
        (b"a\na\n", "'a' is listed twice"),
    ],
)
def test_split_files_that_cannot_be_used_are_named(tmp_path: Path, content: bytes | None, words: str) -> None:
    path = tmp_path / "train.txt"
    touch(tmp_path / "other.txt")
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=words):
        read_split(path, {"a"})


# ---- what is missing


@pytest.mark.parametrize(("root", "words"), [("", "not set"), ("nowhere", "is not a folder")])
def test_a_missing_root_is_named(root: str, words: str) -> None:
    with pytest.raises(DataError, match=f"data.root: .*{words}"):
        list_items(DataConfig(root=root), "train")


def test_a_missing_split_comes_with_those_that_are_there(voc: Path) -> None:
    with pytest.raises(DataError, match=r"test\.txt: no such split file; there are: train, val"):
        list_items(DataConfig(root=str(voc)), "test")


def test_a_folder_without_splits_comes_with_the_ways_to_make_some(folders: Path) -> None:
    with pytest.raises(DataError, match=r"no split 'train'.*data\.val_fraction: 0\.2"):
        list_items(DataConfig(root=str(folders), layout="folders"), "train")


def test_an_image_without_label_is_named(voc: Path) -> None:
    (voc / "SegmentationClass" / "a.png").unlink()
    with pytest.raises(DataError, match=r"a\.jpg: no label for this image, expected .*SegmentationClass/a\.png"):
        list_items(DataConfig(root=str(voc)), "train")


def test_a_name_without_image_is_named(voc: Path) -> None:
    (voc / "JPEGImages" / "a.jpg").unlink()
    with pytest.raises(DataError, match=r"JPEGImages/a: no image of that name"):
        list_items(DataConfig(root=str(voc)), "train")


def test_ten_problems_are_shown_and_all_are_counted(folders: Path) -> None:
    (folders / "train.txt").write_text("\n".join(f"missing{k}" for k in range(25)))
    with pytest.raises(DataError, match=r"15 more \(25 in total\)") as caught:
        list_items(DataConfig(root=str(folders), layout="folders"), "train")
    assert str(caught.value).count("no image of that name") == 10


def test_two_images_of_one_name_are_refused(voc: Path) -> None:
    touch(voc / "JPEGImages" / "a.png")
    with pytest.raises(DataError, match="has the same name"):
        list_items(DataConfig(root=str(voc)), "train")


# ---- classes


def test_classes_come_from_the_config_before_the_data_set_before_the_layout(voc: Path) -> None:
    assert len(resolve_classes(DataConfig(root=str(voc)))) == 21
    (voc / "classes.txt").write_text("x\ny\nz\n")
    assert resolve_classes(DataConfig(root=str(voc))).names == ("x", "y", "z")
    assert resolve_classes(DataConfig(root=str(voc), classes=("p", "q"))).names == ("p", "q")
    other = voc / "other.txt"
    other.write_text("k\nl\n")
    assert resolve_classes(DataConfig(root=str(voc), classes=str(other))).names == ("k", "l")


def test_folders_without_class_names_are_refused(folders: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.classes: not set"):
        resolve_classes(DataConfig(root=str(folders), layout="folders"))


def test_colors_of_the_masks_become_colors_of_the_classes(folders: Path) -> None:
    colors = ((1, 2, 3), (4, 5, 6))
    data = DataConfig(root=str(folders), layout="folders", classes=("a", "b"), mask_values=colors)
    assert resolve_classes(data).colors == colors


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("camvid", (367, 101)), ("voc2012_sample", (6, 4)), ("weizmann_horses", (277, 50)), ("drive", (20, 20)),
        ("leaf_black_rot", (40, 91)),
    ],
)  # fmt: skip
def test_real_data_sets_are_listed_whole(
    shared_data: Callable[[str], Path], name: str, counts: tuple[int, int]
) -> None:
    data = DataConfig(root=str(shared_data(name)))
    assert (len(list_items(data, "train")), len(list_items(data, "val"))) == counts


def test_images_are_found_at_any_depth_and_hidden_ones_left_out(tmp_path: Path) -> None:
    touch(
        tmp_path / "b.JPG",
        tmp_path / "a" / "c.png",
        tmp_path / ".git" / "d.png",
        tmp_path / ".e.png",
        tmp_path / "f.txt",
    )
    assert list_images(tmp_path) == [tmp_path / "a" / "c.png", tmp_path / "b.JPG"]
