import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from segkit.errors import ConfigError, DataError
from segkit.formats.annotations.coco import read, write
from segkit.formats.options import ReadOptions, WriteOptions
from segkit.formats.raster.runs import decode_counts
from segkit.formats.sample import NO_SPLIT, Sample, SampleSet

# pycocotools' own decode isn't ready for numpy 2; segkit doesn't call it
decodes = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

OPTIONS = ReadOptions()
HW = (20, 30)
Save = Callable[..., Path]
MaskOf = Callable[..., np.ndarray]


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


def the_mask(samples: SampleSet) -> np.ndarray:
    ((sample,),) = samples.splits.values()
    return sample.read_mask()


@pytest.fixture
def mask_of(save: Save, tmp_path: Path) -> Callable[..., np.ndarray]:
    """Return a function of annotations and options that gives the mask of an image that has them."""
    return lambda *annotations, **options: the_mask(read(save(tmp_path, list(annotations)), ReadOptions(**options)))


def box(left: int, top: int, size: int) -> np.ndarray:
    bitmap = np.zeros(HW, bool)
    bitmap[top : top + size, left : left + size] = True
    return bitmap


# ---- round trips


@pytest.mark.parametrize("names", [("background", "cat", "dog"), ("sky", "road", "tree"), ("sky", "Background", "x")])
def test_what_is_written_is_read_as_the_same_ids(
    make_set: Callable[..., SampleSet], random_masks: dict[str, np.ndarray], tmp_path: Path, names: tuple[str, ...]
) -> None:
    samples = make_set({f"val/x/{name}": mask for name, mask in random_masks.items()}, names, splits=True)
    write(samples, tmp_path / "out", WriteOptions())
    unlabeled: Any = "ignore" if names[1] == "road" else None
    again = read(tmp_path / "out", ReadOptions(classes=names, unlabeled=unlabeled))
    assert list(again.splits) == ["val"]
    assert [sample.name for sample in again.splits["val"]] == sorted(f"x/{name}" for name in random_masks)
    for sample in again.splits["val"]:
        mask = sample.read_mask()
        assert mask.dtype == np.uint8
        assert (mask == random_masks[sample.name[2:]]).all(), sample.name


def test_real_masks_are_read_as_they_were_written(real_set: SampleSet, tmp_path: Path) -> None:
    write(real_set, tmp_path / "out", WriteOptions())
    names = real_set.classes.names
    unlabeled: Any = None if "background" in names else "ignore"
    again = read(tmp_path / "out", ReadOptions(classes=names, unlabeled=unlabeled))
    for before, after in zip(real_set.splits["all"], again.splits["all"], strict=True):
        assert (before.read_mask() == after.read_mask()).all()
        assert isinstance(before.image, Path)
        assert isinstance(after.image, Path)
        assert before.image.read_bytes() == after.image.read_bytes()


def test_the_background_need_not_be_said_again(make_set: Callable[..., SampleSet], tmp_path: Path) -> None:
    mask = np.array([[0, 1], [2, 255]], np.uint8)
    write(make_set({"a": mask}), tmp_path / "out", WriteOptions())
    again = read(tmp_path / "out", OPTIONS)
    assert again.classes.names == ("background", "cat", "dog")
    assert (the_mask(again) == mask).all()


@decodes
def test_the_api_of_coco_reads_what_is_written_as_the_same_pixels(
    make_set: Callable[..., SampleSet], random_masks: dict[str, np.ndarray], tmp_path: Path
) -> None:
    write(make_set(random_masks), tmp_path, WriteOptions())
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
    make_set: Callable[..., SampleSet], tmp_path: Path
) -> None:
    mask = np.zeros((9, 9), np.uint8)
    mask[1:4, 1:4], mask[2, 2], mask[6:8, 6:8] = 1, 0, 2
    notes = write(make_set({"a": mask}), tmp_path, WriteOptions())
    plain = json.loads((tmp_path / "annotations" / "instances_all.json").read_text())
    assert [type(each["segmentation"]) for each in plain["annotations"]] == [dict, list]
    assert not notes


def test_ignored_pixels_are_a_crowd_and_a_note(make_set: Callable[..., SampleSet], tmp_path: Path) -> None:
    notes = write(
        make_set({"a": np.full((3, 3), 255, np.uint8), "b": np.ones((3, 3), np.uint8)}), tmp_path, WriteOptions()
    )
    assert notes == ["ignored pixels of 1 image are crowds (iscrowd) of category 'cat'"]


def test_the_same_set_gives_the_same_bytes(
    make_set: Callable[..., SampleSet], random_masks: dict[str, np.ndarray], tmp_path: Path
) -> None:
    for folder in ("one", "two"):
        write(make_set(random_masks), tmp_path / folder, WriteOptions())
    files = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*") if path.is_file())
    assert len(files) == len(random_masks) + 1
    assert all((tmp_path / "one" / f).read_bytes() == (tmp_path / "two" / f).read_bytes() for f in files)


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


def test_classes_are_the_categories_by_id_after_the_background(save: Save, tmp_path: Path) -> None:
    path = save(tmp_path, [polygon(7, square(2, 3, 4))])
    samples = read(path, OPTIONS)
    assert samples.classes.names == ("background", "cat", "dog")
    assert (the_mask(samples) == 2 * box(2, 3, 4)).all()


@decodes
def test_polygons_become_the_pixels_of_cocos_own_api(mask_of: MaskOf) -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        rings = [rng.uniform(-5, 35, 2 * rng.integers(3, 8)).round(2).tolist() for _ in range(2)]
        api = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(rings, *HW)))
        assert (mask_of(polygon(3, *rings)) == api).all()


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("corner", [0, 4])
def test_run_lengths_are_read_in_both_forms(mask_of: MaskOf, compressed: bool, corner: int) -> None:
    bitmap = box(corner, corner, 9)
    assert (mask_of(runs(3, bitmap, compressed=compressed)) == bitmap).all()


def test_compressed_run_lengths_decode_as_the_api_does() -> None:
    rng = np.random.default_rng(0)
    for density in (0.01, 0.5, 0.99):
        for hw in ((1, 1), (7, 3), (480, 640)):
            bitmap = (rng.random(hw) < density).astype(np.uint8)
            counts = decode_counts(coco_mask.encode(np.asfortranarray(bitmap))["counts"])
            again = np.repeat(np.arange(len(counts)) % 2, counts).reshape(hw[::-1]).T
            assert (again == bitmap).all()


def test_smaller_objects_cover_larger_ones_and_later_ones_equal_ones(mask_of: MaskOf) -> None:
    small, large = polygon(3, square(4, 4, 3)), polygon(7, square(2, 2, 10))
    for annotations in ([small, large], [large, small]):
        mask = mask_of(*annotations)
        assert (mask == 1).sum() == 9
        assert (mask == 2).sum() == 91
    equal = [polygon(3, square(4, 4, 3)), polygon(7, square(4, 4, 3))]
    assert mask_of(*equal)[5, 5] == 2
    assert mask_of(*equal[::-1])[5, 5] == 1


def test_a_crowd_is_ignored_but_not_the_object_on_it(save: Save, mask_of: MaskOf, tmp_path: Path) -> None:
    path = save(tmp_path, [polygon(3, square(0, 0, 10)), runs(3, box(5, 5, 3), iscrowd=1)])
    samples = read(path, OPTIONS)
    assert "1 crowd (iscrowd) ignored" in samples.notes
    assert np.unique(the_mask(samples)).tolist() == [0, 1]
    mask = mask_of(polygon(3, square(0, 0, 3)), runs(3, box(5, 5, 3), iscrowd=1))
    assert ((mask == 255) == box(5, 5, 3)).all()


def test_stuff_leaves_what_it_does_not_cover_out(save: Save, tmp_path: Path) -> None:
    path = save(tmp_path, [runs(3, box(2, 2, 5))], name="annotations/stuff_train2017.json")
    samples = read(path, OPTIONS)
    assert samples.classes.names == ("cat", "dog")
    assert np.array_equal(the_mask(samples), np.where(box(2, 2, 5), 0, 255))


def test_things_cover_stuff_of_the_same_split(save: Save, tmp_path: Path) -> None:
    save(tmp_path, [polygon(3, square(0, 0, 10))])
    stuff = [{"id": 92, "name": "sky"}]
    save(tmp_path, [runs(92, box(4, 4, 2))], name="annotations/stuff_train2017.json", categories=stuff)
    samples = read(tmp_path, OPTIONS)
    assert samples.classes.names == ("cat", "dog", "sky")
    assert list(samples.splits) == ["train"]
    assert (the_mask(samples)[:10, :10] == 0).all()  # the sky is smaller, but below


def test_pixels_without_an_annotation_can_be_ignored_or_background(save: Save, tmp_path: Path) -> None:
    things = save(tmp_path, [polygon(3, square(0, 0, 10))])
    stuff = save(tmp_path, [polygon(3, square(0, 0, 10))], name="annotations/stuff_train2017.json")
    samples = read(things, ReadOptions(unlabeled="ignore"))
    assert samples.classes.names == ("cat", "dog")
    assert np.unique(the_mask(samples)).tolist() == [0, 255]
    samples = read(stuff, ReadOptions(unlabeled="background"))
    assert samples.classes.names == ("background", "cat", "dog")
    assert np.unique(the_mask(samples)).tolist() == [0, 1]


def test_given_classes_choose_and_order_the_categories(save: Save, tmp_path: Path) -> None:
    annotations = [polygon(7, square(0, 0, 10)), polygon(3, square(2, 2, 3))]
    samples = read(save(tmp_path, annotations), ReadOptions(classes=("background", "dog")))
    assert (the_mask(samples) == 1).sum() == 91  # the cat isn't dog, though it lies on one
    assert "labels that are not among the classes become background: cat" in samples.notes
    with pytest.raises(ConfigError, match="expected 'background' among them"):
        read(save(tmp_path, annotations), ReadOptions(classes=("cat", "dog")))


def test_what_has_no_area_is_skipped_and_counted(save: Save, tmp_path: Path) -> None:
    nothing = [polygon(3, [1, 1, 5, 5]), polygon(3, []), {"image_id": 1, "category_id": 3, "bbox": [1, 2, 3, 4]}]
    samples = read(save(tmp_path, [*nothing, polygon(3, square(0, 0, 2), [0, 0])]), OPTIONS)
    assert "3 polygons of fewer than 3 points skipped" in samples.notes
    assert "1 annotation without a segmentation skipped" in samples.notes
    assert (the_mask(samples) == box(0, 0, 2)).all()


def test_boxes_alone_are_no_segmentation(save: Save, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no segmentations \\(1 box without a segmentation\\)"):
        read(save(tmp_path, [{"image_id": 1, "category_id": 3, "bbox": [1, 2, 3, 4]}]), OPTIONS)


def test_a_image_without_annotations_is_background(save: Save, tmp_path: Path) -> None:
    path = save(tmp_path, [polygon(3, square(0, 0, 2))], images=("a.jpg", "b.jpg"))
    assert [p.read_mask().sum() for p in read(path, OPTIONS).splits["train"]] == [4, 0]


def test_a_wrong_size_names_both(save: Save, tmp_path: Path) -> None:
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
def test_run_lengths_and_points_beyond_the_image_are_refused(save: Save, tmp_path: Path, segmentation: object) -> None:
    samples = read(save(tmp_path, [polygon(3, segmentation=segmentation, id=12)]), OPTIONS)
    with pytest.raises(DataError, match=r"instances_train2017\.json: annotation 12 of a: "):
        the_mask(samples)


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
def test_a_wrong_annotation_is_named_with_its_file_and_number(save: Save, tmp_path: Path, wrong: object) -> None:
    path = save(tmp_path, [polygon(3, square(0, 0, 2)), wrong])
    with pytest.raises(DataError, match=r"instances_train2017\.json: annotation 2"):
        read(path, OPTIONS)


def test_wrong_annotations_are_counted(save: Save, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"3 more \(13 in total\)"):
        read(save(tmp_path, [polygon(99)] * 13), OPTIONS)
