import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from segkit.errors import ConfigError, DataError
from segkit.formats.annotations.coco import read, write
from segkit.formats.annotations.coco_panoptic import read_panoptic
from segkit.formats.raster.runs import decode_counts
from segkit.formats.sample import NO_SPLIT, Picture, PictureSet, ReadOptions

# pycocotools' own decode isn't ready for numpy 2; segkit doesn't call it
decodes = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

OPTIONS = ReadOptions()
HW = (20, 30)
CATEGORIES = [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}]  # sparse, and not in order


def square(left: float, top: float, size: float) -> list[float]:
    return [left, top, left + size, top, left + size, top + size, left, top + size]


def polygon(category: int, *rings: list[float], **more: object) -> dict[str, object]:
    return {"image_id": 1, "category_id": category, "iscrowd": 0, "segmentation": [*rings], **more}


def runs(category: int, bitmap: np.ndarray, *, compressed: bool = True, **more: object) -> dict[str, object]:
    encoded = coco_mask.encode(np.asfortranarray(bitmap.astype(np.uint8)))
    counts: object = encoded["counts"].decode()
    if not compressed:
        flat = np.concatenate([[0], bitmap.T.ravel().astype(int), [2]])
        edges = np.flatnonzero(np.diff(flat)) if not bitmap[0, 0] else np.flatnonzero(np.diff(flat[1:])) + 1
        counts = np.diff([0, *edges.tolist()]).tolist() if not bitmap[0, 0] else [0, *np.diff([0, *edges]).tolist()]
    return polygon(category, segmentation={"size": list(bitmap.shape), "counts": counts}, **more)


def save(
    root: Path,
    annotations: object,
    *,
    name: str = "annotations/instances_train2017.json",
    images: tuple[str, ...] = ("a.jpg",),
    folder: str = "train2017",
    **more: object,
) -> Path:
    """Write a JSON file and its pictures."""
    for image in images:
        (root / folder / image).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", HW[::-1]).save(root / folder / image)
    listed = [{"id": n, "file_name": i, "height": HW[0], "width": HW[1]} for n, i in enumerate(images, start=1)]
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"images": listed, "annotations": annotations, "categories": CATEGORIES, **more}))
    return path


def the_mask(pictures: PictureSet) -> np.ndarray:
    ((picture,),) = pictures.splits.values()
    return picture.read_mask()


def mask_of(root: Path, *annotations: object, **options: Any) -> np.ndarray:
    return the_mask(read(save(root, list(annotations)), ReadOptions(**options)))


def box(left: int, top: int, size: int) -> np.ndarray:
    bitmap = np.zeros(HW, bool)
    bitmap[top : top + size, left : left + size] = True
    return bitmap


# ---- round trips


@pytest.mark.parametrize("names", [("background", "cat", "dog"), ("sky", "road", "tree"), ("sky", "Background", "x")])
def test_what_is_written_is_read_as_the_same_ids(
    make_set: Callable[..., PictureSet], random_masks: dict[str, np.ndarray], tmp_path: Path, names: tuple[str, ...]
) -> None:
    pictures = make_set({f"val/x/{name}": mask for name, mask in random_masks.items()}, names, splits=True)
    write(pictures, tmp_path / "out")
    unlabeled: Any = "ignore" if names[1] == "road" else None
    again = read(tmp_path / "out", ReadOptions(classes=names, unlabeled=unlabeled))
    assert list(again.splits) == ["val"]
    assert [picture.name for picture in again.splits["val"]] == sorted(f"x/{name}" for name in random_masks)
    for picture in again.splits["val"]:
        mask = picture.read_mask()
        assert mask.dtype == np.uint8
        assert (mask == random_masks[picture.name[2:]]).all(), picture.name


def test_real_masks_are_read_as_they_were_written(real_set: PictureSet, tmp_path: Path) -> None:
    write(real_set, tmp_path / "out")
    names = real_set.classes.names
    unlabeled: Any = None if "background" in names else "ignore"
    again = read(tmp_path / "out", ReadOptions(classes=names, unlabeled=unlabeled))
    for before, after in zip(real_set.splits["all"], again.splits["all"], strict=True):
        assert (before.read_mask() == after.read_mask()).all()
        assert isinstance(before.image, Path)
        assert isinstance(after.image, Path)
        assert before.image.read_bytes() == after.image.read_bytes()


def test_the_background_need_not_be_said_again(make_set: Callable[..., PictureSet], tmp_path: Path) -> None:
    mask = np.array([[0, 1], [2, 255]], np.uint8)
    write(make_set({"a": mask}), tmp_path / "out")
    again = read(tmp_path / "out", OPTIONS)
    assert again.classes.names == ("background", "cat", "dog")
    assert (the_mask(again) == mask).all()


@decodes
def test_the_api_of_coco_reads_what_is_written_as_the_same_pixels(
    make_set: Callable[..., PictureSet], random_masks: dict[str, np.ndarray], tmp_path: Path
) -> None:
    write(make_set(random_masks), tmp_path)
    api = COCO(tmp_path / "annotations" / "instances_all.json")
    assert {each["id"]: each["name"] for each in api.loadCats(api.getCatIds())} == {1: "cat", 2: "dog"}
    for image in api.loadImgs(api.getImgIds()):
        truth = random_masks[Path(image["file_name"]).stem]
        mask = np.zeros_like(truth)
        for annotation in api.loadAnns(api.getAnnIds(imgIds=image["id"])):
            pixels = api.annToMask(annotation).astype(bool)
            assert not mask[pixels].any()
            assert annotation["area"] == pixels.sum()
            rows, columns = np.nonzero(pixels)
            left, top, width, height = annotation["bbox"]
            assert (left, top) == (columns.min(), rows.min())
            assert (left + width, top + height) == (columns.max() + 1, rows.max() + 1)
            mask[pixels] = 255 if annotation["iscrowd"] else annotation["category_id"]
        assert (mask == truth).all()


def test_regions_are_polygons_and_those_with_holes_run_lengths(
    make_set: Callable[..., PictureSet], tmp_path: Path
) -> None:
    mask = np.zeros((9, 9), np.uint8)
    mask[1:4, 1:4], mask[2, 2], mask[6:8, 6:8] = 1, 0, 2
    notes = write(make_set({"a": mask}), tmp_path)
    plain = json.loads((tmp_path / "annotations" / "instances_all.json").read_text())
    assert [type(each["segmentation"]) for each in plain["annotations"]] == [dict, list]
    assert not notes


def test_ignored_pixels_are_a_crowd_and_a_note(make_set: Callable[..., PictureSet], tmp_path: Path) -> None:
    notes = write(make_set({"a": np.full((3, 3), 255, np.uint8), "b": np.ones((3, 3), np.uint8)}), tmp_path)
    assert notes == ["ignored pixels of 1 picture are crowds (iscrowd) of category 'cat'"]


def test_the_same_set_gives_the_same_bytes(
    make_set: Callable[..., PictureSet], random_masks: dict[str, np.ndarray], tmp_path: Path
) -> None:
    for folder in ("one", "two"):
        write(make_set(random_masks), tmp_path / folder)
    files = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*") if path.is_file())
    assert len(files) == len(random_masks) + 1
    assert all((tmp_path / "one" / f).read_bytes() == (tmp_path / "two" / f).read_bytes() for f in files)


@pytest.mark.parametrize("name", ["../a", "/a", "a/../../b"])
def test_a_name_that_leaves_the_folder_is_refused(
    make_set: Callable[..., PictureSet], tmp_path: Path, name: str
) -> None:
    pictures = make_set({"a": np.eye(3, dtype=np.uint8)})
    picture = pictures.splits[NO_SPLIT][0]
    bad = PictureSet({NO_SPLIT: [Picture(name, picture.image, picture.read_mask)]}, pictures.classes)
    with pytest.raises(DataError, match="expected a relative path"):
        write(bad, tmp_path / "out")


# ---- rules


def test_classes_are_the_categories_by_id_after_the_background(tmp_path: Path) -> None:
    path = save(tmp_path, [polygon(7, square(2, 3, 4))])
    pictures = read(path, OPTIONS)
    assert pictures.classes.names == ("background", "cat", "dog")
    assert (the_mask(pictures) == 2 * box(2, 3, 4)).all()


@decodes
def test_polygons_become_the_pixels_of_cocos_own_api(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        rings = [rng.uniform(-5, 35, 2 * rng.integers(3, 8)).round(2).tolist() for _ in range(2)]
        api = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(rings, *HW)))
        assert (mask_of(tmp_path, polygon(3, *rings)) == api).all()


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("corner", [0, 4])
def test_run_lengths_are_read_in_both_forms(tmp_path: Path, compressed: bool, corner: int) -> None:
    bitmap = box(corner, corner, 9)
    assert (mask_of(tmp_path, runs(3, bitmap, compressed=compressed)) == bitmap).all()


def test_compressed_run_lengths_decode_as_the_api_does() -> None:
    rng = np.random.default_rng(0)
    for density in (0.01, 0.5, 0.99):
        for hw in ((1, 1), (7, 3), (480, 640)):
            bitmap = (rng.random(hw) < density).astype(np.uint8)
            counts = decode_counts(coco_mask.encode(np.asfortranarray(bitmap))["counts"])
            again = np.repeat(np.arange(len(counts)) % 2, counts).reshape(hw[::-1]).T
            assert (again == bitmap).all()


def test_smaller_objects_cover_larger_ones_and_later_ones_equal_ones(tmp_path: Path) -> None:
    small, large = polygon(3, square(4, 4, 3)), polygon(7, square(2, 2, 10))
    for annotations in ([small, large], [large, small]):
        mask = mask_of(tmp_path, *annotations)
        assert (mask == 1).sum() == 9
        assert (mask == 2).sum() == 91
    equal = [polygon(3, square(4, 4, 3)), polygon(7, square(4, 4, 3))]
    assert mask_of(tmp_path, *equal)[5, 5] == 2
    assert mask_of(tmp_path, *equal[::-1])[5, 5] == 1


def test_a_crowd_is_ignored_but_not_the_object_on_it(tmp_path: Path) -> None:
    path = save(tmp_path, [polygon(3, square(0, 0, 10)), runs(3, box(5, 5, 3), iscrowd=1)])
    pictures = read(path, OPTIONS)
    assert "1 crowd (iscrowd) ignored" in pictures.notes
    assert np.unique(the_mask(pictures)).tolist() == [0, 1]
    mask = mask_of(tmp_path, polygon(3, square(0, 0, 3)), runs(3, box(5, 5, 3), iscrowd=1))
    assert ((mask == 255) == box(5, 5, 3)).all()


def test_stuff_leaves_what_it_does_not_cover_out(tmp_path: Path) -> None:
    path = save(tmp_path, [runs(3, box(2, 2, 5))], name="annotations/stuff_train2017.json")
    pictures = read(path, OPTIONS)
    assert pictures.classes.names == ("cat", "dog")
    assert np.array_equal(the_mask(pictures), np.where(box(2, 2, 5), 0, 255))


def test_things_cover_stuff_of_the_same_split(tmp_path: Path) -> None:
    save(tmp_path, [polygon(3, square(0, 0, 10))])
    stuff = [{"id": 92, "name": "sky"}]
    save(tmp_path, [runs(92, box(4, 4, 2))], name="annotations/stuff_train2017.json", categories=stuff)
    pictures = read(tmp_path, OPTIONS)
    assert pictures.classes.names == ("cat", "dog", "sky")
    assert list(pictures.splits) == ["train"]
    assert (the_mask(pictures)[:10, :10] == 0).all()  # the sky is smaller, but below


def test_pixels_without_an_annotation_can_be_ignored_or_background(tmp_path: Path) -> None:
    things = save(tmp_path, [polygon(3, square(0, 0, 10))])
    stuff = save(tmp_path, [polygon(3, square(0, 0, 10))], name="annotations/stuff_train2017.json")
    pictures = read(things, ReadOptions(unlabeled="ignore"))
    assert pictures.classes.names == ("cat", "dog")
    assert np.unique(the_mask(pictures)).tolist() == [0, 255]
    pictures = read(stuff, ReadOptions(unlabeled="background"))
    assert pictures.classes.names == ("background", "cat", "dog")
    assert np.unique(the_mask(pictures)).tolist() == [0, 1]


def test_given_classes_choose_and_order_the_categories(tmp_path: Path) -> None:
    annotations = [polygon(7, square(0, 0, 10)), polygon(3, square(2, 2, 3))]
    pictures = read(save(tmp_path, annotations), ReadOptions(classes=("background", "dog")))
    assert (the_mask(pictures) == 1).sum() == 91  # the cat isn't dog, though it lies on one
    assert "labels that are not among the classes become background: cat" in pictures.notes
    with pytest.raises(ConfigError, match="expected 'background' among them"):
        read(save(tmp_path, annotations), ReadOptions(classes=("cat", "dog")))


def test_what_has_no_area_is_passed_over_and_counted(tmp_path: Path) -> None:
    nothing = [polygon(3, [1, 1, 5, 5]), polygon(3, []), {"image_id": 1, "category_id": 3, "bbox": [1, 2, 3, 4]}]
    pictures = read(save(tmp_path, [*nothing, polygon(3, square(0, 0, 2), [0, 0])]), OPTIONS)
    assert "3 polygons of fewer than 3 points passed over" in pictures.notes
    assert "1 annotation without a segmentation passed over" in pictures.notes
    assert (the_mask(pictures) == box(0, 0, 2)).all()


def test_boxes_alone_are_no_segmentation(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no segmentations \\(1 box without a segmentation\\)"):
        read(save(tmp_path, [{"image_id": 1, "category_id": 3, "bbox": [1, 2, 3, 4]}]), OPTIONS)


def test_a_picture_without_annotations_is_background(tmp_path: Path) -> None:
    path = save(tmp_path, [polygon(3, square(0, 0, 2))], images=("a.jpg", "b.jpg"))
    assert [p.read_mask().sum() for p in read(path, OPTIONS).splits["train"]] == [4, 0]


# ---- files


@pytest.mark.parametrize(
    ("name", "folder", "split"),
    [
        ("annotations/instances_train2017.json", "train2017", "train"),
        ("annotations/instances_train2017.json", "images/train2017", "train"),
        ("annotations/instances_val.json", "images/val", "val"),
        ("annotations/instances_default.json", "images", NO_SPLIT),
        ("annotations/train.json", "images", "train"),
        ("valid/_annotations.coco.json", "valid", "val"),
        ("labels.json", ".", NO_SPLIT),
        ("mine.json", "images", NO_SPLIT),
        ("annotations/instances_fold0.json", "images/fold0", "fold0"),
    ],
)
def test_splits_and_pictures_are_found_by_the_names_of_files_and_folders(
    tmp_path: Path, name: str, folder: str, split: str
) -> None:
    path = save(tmp_path, [polygon(3, square(0, 0, 2))], name=name, folder=folder)
    for source in (path, tmp_path):
        pictures = read(source, OPTIONS)
        assert list(pictures.splits) == [split]
        assert the_mask(pictures).sum() == 4


def test_the_folder_of_pictures_can_be_said(tmp_path: Path) -> None:
    path = save(tmp_path / "x", [polygon(3, square(0, 0, 2))])
    (tmp_path / "x" / "train2017").rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match=r"a\.jpg: no such picture in "):
        read(path, OPTIONS)
    assert the_mask(read(path, ReadOptions(images=tmp_path / "elsewhere"))).sum() == 4


@pytest.mark.parametrize("named", ["/data/me/a.jpg", "C:\\data\\a.jpg", "../../a.jpg", ".\\a.jpg"])
def test_a_file_name_that_leaves_the_folder_is_looked_for_inside(tmp_path: Path, named: str) -> None:
    path = save(tmp_path, [polygon(3, square(0, 0, 2))])
    path.write_text(path.read_text().replace(json.dumps("a.jpg"), json.dumps(named)))
    (picture,) = read(path, OPTIONS).splits["train"]
    assert (picture.name, picture.image) == ("a", tmp_path / "train2017" / "a.jpg")


def test_captions_and_panoptic_files_beside_are_left_alone(tmp_path: Path) -> None:
    save(tmp_path, [polygon(3, square(0, 0, 2))])
    for name in ("captions", "panoptic", "person_keypoints", "image_info"):
        (tmp_path / "annotations" / f"{name}_train2017.json").write_text("{}")
    assert the_mask(read(tmp_path, OPTIONS)).sum() == 4


def test_two_files_of_a_split_are_refused(tmp_path: Path) -> None:
    for year in (2014, 2017):
        save(tmp_path, [polygon(3, square(0, 0, 2))], name=f"annotations/instances_train{year}.json")
    with pytest.raises(DataError, match="both of the split 'train'"):
        read(tmp_path, OPTIONS)


def test_missing_pictures_are_counted(tmp_path: Path) -> None:
    path = save(tmp_path, [], images=tuple(f"{n:02d}.jpg" for n in range(13)))
    for picture in (tmp_path / "train2017").iterdir():
        picture.unlink()
    with pytest.raises(DataError, match=r"3 more \(13 in total\)"):
        read(path, OPTIONS)


def test_a_wrong_size_names_both(tmp_path: Path) -> None:
    path = save(tmp_path, [polygon(3, square(0, 0, 2))])
    path.write_text(path.read_text().replace('"height": 20', '"height": 21'))
    with pytest.raises(DataError, match=r"made for 30x21 pixels, .* has 30x20 upright"):
        the_mask(read(path, OPTIONS))


# ---- what nobody should write


@pytest.mark.parametrize(
    "segmentation",
    [
        {"size": [20, 30], "counts": [600, 5]},
        {"size": [20, 30], "counts": [100, -5, 505]},
        {"size": [30, 20], "counts": [600]},
        {"size": [20, 30], "counts": [2**62, 2**62, 2**62, 600]},
        {"size": [20, 30], "counts": "PPP"},
        {"size": [20, 30], "counts": "\u00e9"},
        {"size": [20, 30], "counts": "P" * 50 + "1"},
        {"size": [20, 30], "counts": "0"},
        {"size": [20, 30], "counts": ""},
        [[0, 0, 1e9, 0, 5, 5]],
    ],
    ids=str,
)
def test_run_lengths_and_points_beyond_the_picture_are_refused(tmp_path: Path, segmentation: object) -> None:
    pictures = read(save(tmp_path, [polygon(3, segmentation=segmentation, id=12)]), OPTIONS)
    with pytest.raises(DataError, match=r"instances_train2017\.json: annotation 12 of a: "):
        the_mask(pictures)


WRONG_ANNOTATIONS: list[object] = [
    None,
    5,
    [],
    {},
    polygon(99, square(0, 0, 2)),
    polygon(3, square(0, 0, 2), image_id=99),
    polygon(3, square(0, 0, 2), image_id=None),
    polygon(3, square(0, 0, 2), image_id=[1]),
    {**polygon(3, square(0, 0, 2)), "category_id": "3"},
    polygon(3, square(0, 0, 2), iscrowd="no"),
    polygon(3, square(0, 0, 2), iscrowd=5),
    polygon(3, segmentation="text"),
    polygon(3, segmentation=[1, 2, 3, 4, 5, 6]),
    polygon(3, segmentation=[[1, 2, 3, 4, 5]]),
    polygon(3, segmentation=[[1, 2, 3, 4, 5, "6"]]),
    polygon(3, segmentation=[[1, 2, 3, 4, 5, None]]),
    polygon(3, segmentation=[[[1, 2], [3, 4], [5, 6]]]),
    polygon(3, segmentation=[{"x": 1}]),
    polygon(3, segmentation={"counts": [600]}),
    polygon(3, segmentation={"size": [20, 30]}),
    polygon(3, segmentation={"size": [20], "counts": [600]}),
    polygon(3, segmentation={"size": "20x30", "counts": [600]}),
    polygon(3, segmentation={"size": [20, 30], "counts": [1.5, 598.5]}),
    polygon(3, segmentation={"size": [20, 30], "counts": ["600"]}),
    polygon(3, segmentation={"size": [20, 30], "counts": 600}),
]


@pytest.mark.parametrize("wrong", WRONG_ANNOTATIONS, ids=lambda wrong: str(wrong)[:90])
def test_a_wrong_annotation_is_named_with_its_file_and_number(tmp_path: Path, wrong: object) -> None:
    path = save(tmp_path, [polygon(3, square(0, 0, 2)), wrong])
    with pytest.raises(DataError, match=r"instances_train2017\.json: annotation 2"):
        read(path, OPTIONS)


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"images": None}, "images"),
        ({"annotations": {}}, "annotations"),
        ({"categories": 3}, "categories"),
        ({"images": [3]}, "image 1"),
        ({"images": [{"id": 1}]}, "image 1: file_name"),
        ({"images": [{"id": 1.5, "file_name": "a.jpg"}]}, "image 1: id"),
        ({"images": [{"id": 1, "file_name": "a.jpg", "height": "20"}]}, "image 1: height"),
        ({"images": [{"id": 1, "file_name": "a.jpg"}] * 2}, "image 2"),
        ({"images": [{"id": 1, "file_name": "a\x00.jpg"}]}, "a\x00.jpg: no such picture"),
        ({"images": [{"id": 1, "file_name": ""}]}, ".: no such picture"),
        ({"categories": ["cat"]}, "category 1"),
        ({"categories": [{"id": "1", "name": "cat"}]}, "category 1: id"),
        ({"categories": [{"id": 1}]}, "category 1: name"),
        ({"categories": [{"id": 1, "name": "cat"}, {"id": 1, "name": "dog"}]}, "category 2"),
    ],
    ids=str,
)
def test_a_wrong_field_is_named_with_its_file(tmp_path: Path, fields: dict[str, object], place: str) -> None:
    path = save(tmp_path, [polygon(3, square(0, 0, 2))])
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))
    with pytest.raises(DataError) as caught:
        read(path, OPTIONS)
    assert f"instances_train2017.json: {place}" in str(caught.value)


@pytest.mark.parametrize(("content", "found"), [("", "broken JSON"), ('{"images": [', "broken JSON"), ("[]", "a list")])
def test_a_broken_file_is_named(tmp_path: Path, content: str, found: str) -> None:
    path = save(tmp_path, [])
    path.write_text(content)
    with pytest.raises(DataError, match=rf"instances_train2017\.json: .*{found}"):
        read(path, OPTIONS)


def test_wrong_annotations_are_counted(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"3 more \(13 in total\)"):
        read(save(tmp_path, [polygon(99)] * 13), OPTIONS)


def test_a_folder_without_annotations_says_what_is_expected(tmp_path: Path) -> None:
    for reader in (read, read_panoptic):
        with pytest.raises(DataError, match="no annotations there"):
            reader(tmp_path, OPTIONS)
        with pytest.raises(DataError, match="no such file or folder"):
            reader(tmp_path / "none", OPTIONS)


# ---- panoptic


def save_panoptic(root: Path, segments: np.ndarray, info: object, **more: object) -> Path:
    annotation = {"image_id": 1, "file_name": "a.png", "segments_info": info, **more}
    path = save(root, [annotation], name="annotations/panoptic_val2017.json", folder="val2017")
    path.with_suffix("").mkdir()
    colors = np.stack([segments % 256, segments // 256 % 256, segments // 65536], axis=2).astype(np.uint8)
    Image.fromarray(colors).save(path.with_suffix("") / "a.png")
    return path


def a_segment(number: int, category: int, **more: object) -> dict[str, object]:
    return {"id": number, "category_id": category, "iscrowd": 0, **more}


def test_panoptic_segments_become_their_classes(tmp_path: Path) -> None:
    segments = np.zeros(HW, int)
    segments[:5], segments[5:10], segments[10:15] = 5, 3 + 256 * 9 + 65536 * 200, 70000
    info = [a_segment(3 + 256 * 9 + 65536 * 200, 3), a_segment(5, 7), a_segment(70000, 7, iscrowd=1)]
    save_panoptic(tmp_path, segments, info)
    for source in (tmp_path, tmp_path / "annotations" / "panoptic_val2017.json"):
        pictures = read_panoptic(source, OPTIONS)
        assert pictures.classes.names == ("cat", "dog")
        assert list(pictures.splits) == ["val"]
        mask = the_mask(pictures)
        assert mask.dtype == np.uint8
        assert mask[::5, 0].tolist() == [1, 0, 255, 255]
    mask = the_mask(read_panoptic(tmp_path, ReadOptions(unlabeled="background")))
    assert mask[::5, 0].tolist() == [2, 1, 255, 0]


def test_a_segment_that_the_json_does_not_know_is_named(tmp_path: Path) -> None:
    segments = np.zeros(HW, int)
    segments[3, 4] = 77
    pictures = read_panoptic(save_panoptic(tmp_path, segments, [a_segment(5, 7)]), OPTIONS)
    with pytest.raises(DataError, match=r"a\.png: segment 77 at row 3, column 4"):
        the_mask(pictures)


def test_a_png_of_another_size_is_named(tmp_path: Path) -> None:
    pictures = read_panoptic(save_panoptic(tmp_path, np.zeros((20, 31), int), []), OPTIONS)
    with pytest.raises(DataError, match=r"a\.png: found 31x20 pixels, expected 30x20"):
        the_mask(pictures)


@pytest.mark.parametrize(
    ("info", "more"),
    [
        (None, {}),
        ([5], {}),
        ([{"id": 5}], {}),
        ([a_segment(5, 99)], {}),
        ([a_segment(0, 3)], {}),
        ([a_segment(2**24, 3)], {}),
        ([], {"image_id": 9}),
        ([], {"file_name": "b.png"}),
        ([], {"file_name": "../../train2017/a.jpg"}),
        ([], {"file_name": None}),
    ],
)
def test_wrong_segments_are_named(tmp_path: Path, info: object, more: dict[str, object]) -> None:
    path = save_panoptic(tmp_path, np.zeros(HW, int), info, **more)
    with pytest.raises(DataError, match=r"panoptic_val2017\.json: annotation 1: "):
        read_panoptic(path, OPTIONS)


def test_a_missing_folder_of_pngs_is_named(tmp_path: Path) -> None:
    path = save(tmp_path, [], name="annotations/panoptic_val2017.json", folder="val2017")
    with pytest.raises(DataError, match="panoptic_val2017: no such folder"):
        read_panoptic(path, OPTIONS)
