import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from segkit.errors import ConfigError, DataError, RunFolderError
from segkit.formats.annotations.labelme import read, write
from segkit.formats.options import ReadOptions, WriteOptions
from segkit.formats.sample import NO_SPLIT, SampleSet

OPTIONS = ReadOptions()
SQUARE = [[2, 2], [6, 2], [6, 6], [2, 6]]


def shape(label: str, points: object, **more: object) -> dict[str, object]:
    return {"label": label, "points": points, "group_id": None, "shape_type": "polygon", "flags": {}, **more}


def save(folder: Path, name: str, shapes: object, *, hw: tuple[int, int] = (20, 30), **more: object) -> Path:
    """Write a JSON file and its image."""
    folder.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", hw[::-1]).save(folder / f"{name}.png")
    plain = {
        "version": "5.5.0",
        "shapes": shapes,
        "imagePath": f"{name}.png",
        "imageHeight": hw[0],
        "imageWidth": hw[1],
    }
    path = folder / f"{name}.json"
    path.write_text(json.dumps({**plain, **more}))
    return path


def masks_of(samples: SampleSet, split: str = NO_SPLIT) -> dict[str, np.ndarray]:
    return {sample.name: sample.read_mask() for sample in samples.splits[split]}


def mask_of(folder: Path, *shapes: object, **options: Any) -> np.ndarray:
    save(folder, "a", list(shapes))
    return masks_of(read(folder, ReadOptions(**options)))["a"]


# ---- round trips


@pytest.mark.parametrize(
    "names", [("background", "cat", "dog"), ("sky", "road", "tree"), ("sky", "Background", "tree")]
)
def test_what_is_written_is_read_as_the_same_ids(
    make_set: Callable[..., SampleSet], random_masks: dict[str, np.ndarray], tmp_path: Path, names: tuple[str, ...]
) -> None:
    write(make_set(random_masks, names), tmp_path / "out", WriteOptions())
    again = read(tmp_path / "out", OPTIONS)
    assert again.classes.names == names
    assert list(masks_of(again)) == sorted(random_masks)
    for name, mask in masks_of(again).items():
        assert mask.dtype == np.uint8
        assert (mask == random_masks[name]).all(), name


def test_real_masks_are_read_as_they_were_written(real_set: SampleSet, tmp_path: Path) -> None:
    write(real_set, tmp_path / "out", WriteOptions())
    again = read(tmp_path / "out", OPTIONS)
    assert again.classes.names == real_set.classes.names
    for before, after in zip(real_set.splits["all"], again.splits["all"], strict=True):
        assert (before.read_mask() == after.read_mask()).all()
        assert isinstance(before.image, Path)
        assert isinstance(after.image, Path)
        assert before.image.read_bytes() == after.image.read_bytes()


def test_splits_and_folders_come_back(make_set: Callable[..., SampleSet], tmp_path: Path) -> None:
    mask = np.eye(4, dtype=np.uint8)
    write(make_set({"train/x/a.b.c": mask, "val/a": mask}, splits=True), tmp_path / "out", WriteOptions())
    again = read(tmp_path / "out", OPTIONS)
    assert {split: [p.name for p in listed] for split, listed in again.splits.items()} == {
        "train": ["x/a.b.c"],
        "val": ["a"],
    }


@pytest.mark.parametrize(
    ("folders", "splits"),
    [
        (("Train", "valid"), ["train", "val"]),
        (("val", "valid"), ["val", "valid"]),
        (("train", "other"), [NO_SPLIT]),
        (("train", "."), [NO_SPLIT]),
    ],
)
def test_folders_are_splits_where_all_are_called_so(
    tmp_path: Path, folders: tuple[str, ...], splits: list[str]
) -> None:
    for folder in folders:
        save(tmp_path / folder, "a", [shape("cat", SQUARE)])
    again = read(tmp_path, OPTIONS)
    assert list(again.splits) == splits
    assert sum(len(listed) for listed in again.splits.values()) == 2


def test_writing_gives_what_labelme_opens(make_set: Callable[..., SampleSet], tmp_path: Path) -> None:
    mask = np.zeros((9, 9), np.uint8)
    mask[1:8, 1:8], mask[3:6, 3:6], mask[4, 4] = 1, 0, 255
    write(make_set({"x/a": mask}), tmp_path, WriteOptions())
    plain = json.loads((tmp_path / "x" / "a.json").read_text())
    assert plain["version"].startswith("5.")
    assert plain["imageData"] is None
    assert (tmp_path / "x" / plain["imagePath"]).is_file()
    assert [each["label"] for each in plain["shapes"]] == ["cat", "_background_", "__ignore__"]
    assert {each["shape_type"] for each in plain["shapes"]} == {"polygon"}
    assert (tmp_path / "labels.txt").read_text().split() == ["__ignore__", "_background_", "cat", "dog"]


def test_background_that_nothing_surrounds_is_not_written(make_set: Callable[..., SampleSet], tmp_path: Path) -> None:
    mask = np.array([[1, 0], [0, 2]], np.uint8)
    write(make_set({"a": mask}), tmp_path, WriteOptions())
    assert {each["label"] for each in json.loads((tmp_path / "a.json").read_text())["shapes"]} == {"cat", "dog"}


def test_the_same_set_gives_the_same_bytes(
    make_set: Callable[..., SampleSet], random_masks: dict[str, np.ndarray], tmp_path: Path
) -> None:
    for folder in ("one", "two"):
        write(make_set(random_masks), tmp_path / folder, WriteOptions())
    files = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*") if path.is_file())
    assert len(files) == 2 * len(random_masks) + 2
    assert all((tmp_path / "one" / f).read_bytes() == (tmp_path / "two" / f).read_bytes() for f in files)


def test_a_tolerance_writes_fewer_points(make_set: Callable[..., SampleSet], tmp_path: Path) -> None:
    y, x = np.mgrid[:100, :100]
    circle = ((x - 50) ** 2 + (y - 50) ** 2 < 900).astype(np.uint8)
    counts = []
    for tolerance in (0.0, 2.0):
        folder = tmp_path / str(tolerance)
        write(make_set({"a": circle}), folder, WriteOptions(tolerance=tolerance))
        counts.append(len(json.loads((folder / "a.json").read_text())["shapes"][0]["points"]))
    assert counts[1] < counts[0] / 4
    assert (masks_of(read(tmp_path / "2.0", OPTIONS))["a"] != circle).mean() < 0.02


@pytest.mark.parametrize("name", ["../a", "/a", "x/../../a", "a\\b", "x//a"])
def test_a_name_that_leaves_the_folder_is_refused(
    make_set: Callable[..., SampleSet], tmp_path: Path, name: str
) -> None:
    samples = make_set({"a": np.eye(3, dtype=np.uint8)})
    sample = samples.splits[NO_SPLIT][0]
    bad = SampleSet({NO_SPLIT: [type(sample)(name, sample.image, sample.read_mask)]}, samples.classes)
    with pytest.raises(DataError, match="expected a relative path"):
        write(bad, tmp_path / "out", WriteOptions())


def test_a_folder_that_cannot_be_written_is_the_users_problem(
    make_set: Callable[..., SampleSet], tmp_path: Path
) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(RunFolderError):
        write(make_set({"a": np.eye(3, dtype=np.uint8)}), tmp_path / "out", WriteOptions())


# ---- shapes


def test_later_shapes_paint_over_earlier_ones(tmp_path: Path) -> None:
    mask = mask_of(tmp_path, shape("cat", SQUARE), shape("dog", [[4, 0], [9, 0], [9, 9], [4, 9]]))
    assert (mask[2:6, 2:4] == 1).all()
    assert (mask[:9, 4:9] == 2).all()
    assert (mask > 0).sum() == 8 + 45


def test_background_cuts_holes_and_ignore_ignores(tmp_path: Path) -> None:
    outer = [[0, 0], [10, 0], [10, 10], [0, 10]]
    other = [[12, 2], [15, 2], [15, 6], [12, 6]]
    mask = mask_of(tmp_path, shape("cat", outer), shape("_background_", SQUARE), shape("__ignore__", other))
    assert (mask == 1).sum() == 100 - 16
    assert (mask[2:6, 2:6] == 0).all()
    assert (mask[2:6, 12:15] == 255).all()


def test_pixels_without_a_shape_can_be_ignored(tmp_path: Path) -> None:
    inner = shape("_background_", [[0, 0], [1, 0], [1, 1], [0, 1]])
    mask = mask_of(tmp_path, shape("cat", SQUARE), inner, unlabeled="ignore")
    assert (mask == 1).sum() == 16
    assert mask[0, 0] == 0
    assert (mask == 255).sum() == 600 - 17


def test_shapes_of_too_few_points_are_skipped_and_counted(tmp_path: Path) -> None:
    save(tmp_path, "a", [shape("cat", SQUARE), shape("cat", [[1, 1], [2, 2]]), shape("cat", [])])
    samples = read(tmp_path, OPTIONS)
    assert "2 shapes with too few points skipped" in samples.notes
    assert (masks_of(samples)["a"] == 1).sum() == 16


# ---- classes


def test_classes_are_the_labels_found_sorted_background_first(tmp_path: Path) -> None:
    save(tmp_path, "a", [shape("zebra", SQUARE), shape("_background_", SQUARE), shape("__ignore__", SQUARE)])
    save(tmp_path, "b", [shape("ant", SQUARE)])
    samples = read(tmp_path, OPTIONS)
    assert samples.classes.names == ("background", "ant", "zebra")
    assert "classes: the labels found, sorted, background first" in samples.notes


@pytest.mark.parametrize(
    ("file", "lines", "names"),
    [
        ("labels.txt", "__ignore__\n_background_\nzebra\ncat\n", ("background", "zebra", "cat")),
        ("labels.txt", "zebra\ncat\n", ("background", "zebra", "cat")),
        ("class_names.txt", "_background_\nzebra\ncat\n", ("background", "zebra", "cat")),
        ("classes.txt", "cat\nzebra\n", ("cat", "zebra")),
    ],
)
def test_a_file_of_classes_says_their_ids(tmp_path: Path, file: str, lines: str, names: tuple[str, ...]) -> None:
    save(tmp_path, "a", [shape("cat", SQUARE)])
    (tmp_path / file).write_text(lines)
    samples = read(tmp_path, OPTIONS)
    assert samples.classes.names == names
    assert f"classes: of {file}" in samples.notes
    assert masks_of(samples)["a"][3, 3] == names.index("cat")


def test_given_classes_come_first_and_other_labels_become_unlabelled(tmp_path: Path) -> None:
    save(tmp_path, "a", [shape("cat", [[0, 0], [9, 0], [9, 9], [0, 9]]), shape("dog", SQUARE)])
    (tmp_path / "labels.txt").write_text("zebra\n")
    samples = read(tmp_path, ReadOptions(classes=("cat", "Background")))
    assert samples.classes.names == ("cat", "Background")
    assert "labels that are not among the classes become background: dog" in samples.notes
    mask = masks_of(samples)["a"]
    assert (mask[2:6, 2:6] == 1).all()
    assert (mask == 0).sum() == 81 - 16


def test_classes_without_a_background_need_pixels_without_a_label_to_be_ignored(tmp_path: Path) -> None:
    save(tmp_path, "a", [shape("sky", SQUARE), shape("road", [[10, 10], [20, 10], [20, 20]])])
    with pytest.raises(ConfigError, match="expected 'background' among them"):
        read(tmp_path, ReadOptions(classes=("sky", "road")))
    mask = masks_of(read(tmp_path, ReadOptions(classes=("sky", "road"), unlabeled="ignore")))["a"]
    assert mask[3, 3] == 0
    assert mask[0, 0] == 255


def test_a_list_of_classes_without_a_background_leaves_pixels_without_a_label_out(tmp_path: Path) -> None:
    save(tmp_path, "a", [shape("sky", SQUARE), shape("_background_", [[10, 10], [20, 10], [20, 20]])])
    (tmp_path / "classes.txt").write_text("sky\nroad\n")
    samples = read(tmp_path, OPTIONS)
    assert any("ignored, since no class is called background" in note for note in samples.notes)
    assert np.unique(masks_of(samples)["a"]).tolist() == [0, 255]
    with pytest.raises(ConfigError, match="expected 'background' among them"):
        read(tmp_path, ReadOptions(unlabeled="background"))


def test_no_label_at_all_is_no_data_set(tmp_path: Path) -> None:
    save(tmp_path, "a", [])
    with pytest.raises(DataError, match="found no label"):
        read(tmp_path, OPTIONS)


# ---- files


def test_version_3_is_read(tmp_path: Path) -> None:
    old = {"label": "cat", "line_color": None, "fill_color": None, "points": SQUARE}
    Image.new("RGB", (30, 20)).save(tmp_path / "a.jpg")
    plain = {"shapes": [old], "lineColor": [0, 255, 0, 128], "fillColor": [255, 0, 0, 128], "imagePath": "a.jpg"}
    (tmp_path / "a.json").write_text(json.dumps({**plain, "imageData": "AAAA", "flags": {}}))
    assert masks_of(read(tmp_path, OPTIONS))["a"].sum() == 16


@pytest.mark.parametrize("named", ["..\\img\\b.png", "../img/b.png", "C:\\Users\\me\\b.png", "/home/me/b.png"])
def test_a_image_in_another_folder_is_found(tmp_path: Path, named: str) -> None:
    save(tmp_path / "json", "a", [shape("cat", SQUARE)], imagePath=named)
    (tmp_path / "img").mkdir()
    (tmp_path / "json" / "a.png").rename(tmp_path / "img" / "b.png")
    (sample,) = read(tmp_path / "json", ReadOptions(images=tmp_path / "img")).splits[NO_SPLIT]
    assert sample.name == "a"
    assert isinstance(sample.image, Path)
    assert sample.image.resolve() == tmp_path / "img" / "b.png"


@pytest.mark.parametrize("named", ["/etc/passwd", "../../etc/passwd", "a\x00.png", "x" * 5000 + ".png", "", None])
def test_an_image_path_that_names_no_image_falls_back_to_the_file_of_that_name(
    tmp_path: Path, named: str | None
) -> None:
    save(tmp_path, "a.b.c", [shape("cat", SQUARE)], imagePath=named)
    (sample,) = read(tmp_path, OPTIONS).splits[NO_SPLIT]
    assert (sample.name, sample.image) == ("a.b.c", tmp_path / "a.b.c.png")


def test_two_images_of_one_stem_may_both_be_labelled(tmp_path: Path) -> None:
    save(tmp_path, "a", [shape("cat", SQUARE)])
    Image.new("RGB", (30, 20)).save(tmp_path / "a.jpg")
    save(tmp_path, "a_jpg", [shape("dog", SQUARE)], imagePath="a.jpg")
    (tmp_path / "a_jpg.png").unlink()
    samples = read(tmp_path, OPTIONS).splits[NO_SPLIT]
    assert [(p.name, Path(str(p.image)).name) for p in samples] == [("a", "a.png"), ("a_jpg", "a.jpg")]


def test_a_image_that_two_files_label_is_refused(tmp_path: Path) -> None:
    save(tmp_path, "a", [shape("cat", SQUARE)])
    save(tmp_path, "b", [shape("cat", SQUARE)], imagePath="a.png")
    with pytest.raises(DataError, match=r"a\.json and .*b\.json both label .*a\.png"):
        read(tmp_path, OPTIONS)


def test_a_image_that_is_only_inside_the_json_is_refused_with_the_remedy(tmp_path: Path) -> None:
    save(tmp_path, "a", [shape("cat", SQUARE)], imageData="AAAA").with_suffix(".png").unlink()
    with pytest.raises(DataError, match=r"a\.json: no image: .*imageData isn't used: save it as a file"):
        read(tmp_path, OPTIONS)


def test_files_of_others_and_images_without_labels_are_counted(tmp_path: Path) -> None:
    save(tmp_path, "a", [shape("cat", SQUARE)])
    (tmp_path / "coco.json").write_text(json.dumps({"images": []}))
    (tmp_path / "list.json").write_text("[1, 2]")
    Image.new("RGB", (3, 3)).save(tmp_path / "b.png")
    notes = read(tmp_path, OPTIONS).notes
    assert "2 JSON files of other programs skipped" in notes
    assert "1 image without a JSON file: not read" in notes


def test_a_turned_image_is_labelled_upright(tmp_path: Path) -> None:
    save(tmp_path, "a", [shape("cat", SQUARE)], imagePath="a.jpg", imageHeight=30, imageWidth=20)
    (tmp_path / "a.png").unlink()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (30, 20)).save(tmp_path / "a.jpg", exif=exif)
    assert masks_of(read(tmp_path, OPTIONS))["a"].shape == (30, 20)


def test_a_wrong_size_names_both(tmp_path: Path) -> None:
    save(tmp_path, "a", [shape("cat", SQUARE)], imageHeight=40)
    (sample,) = read(tmp_path, OPTIONS).splits[NO_SPLIT]
    with pytest.raises(DataError, match=r"a\.json: its labels were made for 30x40 pixels, .* has 30x20 upright"):
        sample.read_mask()


# ---- what nobody should write


def test_a_wrong_shape_is_named_with_its_file_and_number(tmp_path: Path) -> None:
    save(tmp_path, "a", [shape("cat", SQUARE), shape("cat", SQUARE, shape_type="blob")])
    with pytest.raises(DataError, match=r"a\.json: shape 2"):
        read(tmp_path, OPTIONS)


def test_a_shape_that_cannot_be_drawn_is_named_with_its_file_and_number(tmp_path: Path) -> None:
    broken = shape("cat", [[0, 0], [2, 2]], shape_type="mask", mask="no base64!")
    save(tmp_path, "a", [shape("cat", SQUARE), broken])
    with pytest.raises(DataError, match=r"a\.json: mask 2 \(cat\)"):
        masks_of(read(tmp_path, OPTIONS))


@pytest.mark.parametrize("fields", [{"shapes": 3}, {"shapes": {}}, {"imagePath": 3}, {"imageHeight": "20"}])
def test_a_wrong_field_is_named_with_its_file(tmp_path: Path, fields: dict[str, object]) -> None:
    save(tmp_path, "a", [shape("cat", SQUARE)])
    save(tmp_path, "b", **{"shapes": [], **fields})  # type: ignore[arg-type]
    with pytest.raises(DataError, match=rf"b\.json: {next(iter(fields))}"):
        read(tmp_path, OPTIONS)


@pytest.mark.parametrize(
    "content", [b"", b'{"shapes": [', b"\xff\xfe\x00", b"[" * 100_000, b'{"shapes": [], "imageHeight": NaN}']
)
def test_a_broken_file_is_named(tmp_path: Path, content: bytes) -> None:
    save(tmp_path, "a", [shape("cat", SQUARE)]).write_bytes(content)
    with pytest.raises(DataError, match=r"a\.json: broken JSON"):
        read(tmp_path, OPTIONS)


def test_the_first_ten_broken_files_are_shown_with_their_number(tmp_path: Path) -> None:
    for number in range(13):
        save(tmp_path, f"p{number:02d}", 3)
    with pytest.raises(DataError) as caught:
        read(tmp_path, OPTIONS)
    assert len(str(caught.value).splitlines()) == 11
    assert "3 more (13 in total)" in str(caught.value)


def test_a_folder_without_labels_says_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no labelme JSON there"):
        read(tmp_path, OPTIONS)
    with pytest.raises(DataError, match="not a folder"):
        read(tmp_path / "none", OPTIONS)


def test_a_json_file_is_read_once(tmp_path: Path) -> None:
    path = save(tmp_path, "a", [shape("cat", SQUARE)])
    samples = read(tmp_path, OPTIONS)
    path.unlink()
    assert masks_of(samples)["a"].sum() == 16
