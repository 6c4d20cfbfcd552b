import base64
import io
import json
import shutil
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from segkit.errors import DataError
from segkit.formats.annotations.supervisely import read
from segkit.formats.options import ReadOptions

META = {
    "classes": [
        {"title": "dog", "shape": "polygon", "color": "#FF0010"},
        {"title": "cat", "shape": "bitmap", "color": "#00FF00"},
    ]
}


def project(
    root: Path, objects: list[Any], *, dataset: str = "ds0", size: tuple[int, int] = (6, 8), meta: Any = META
) -> Path:
    for folder in ("img", "ann"):
        (root / dataset / folder).mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 6)).save(root / dataset / "img" / f"{dataset}_1.jpg")
    annotation = {"description": "", "tags": [], "size": {"height": size[0], "width": size[1]}, "objects": objects}
    (root / dataset / "ann" / f"{dataset}_1.jpg.json").write_text(json.dumps(annotation))
    (root / "meta.json").write_text(json.dumps(meta))
    return root


def shape(kind: str, label: str = "dog", **more: Any) -> dict[str, Any]:
    return {"classTitle": label, "geometryType": kind, "points": {"exterior": [], "interior": []}, **more}


def points(exterior: list[list[float]], *interior: list[list[float]]) -> dict[str, Any]:
    return {"exterior": exterior, "interior": list(interior)}


def bitmap(bits: list[list[int]], origin: list[int], mode: str) -> dict[str, Any]:
    image = Image.fromarray(np.array(bits, np.uint8))
    if mode == "P":  # as Supervisely writes it: index 0 is transparent
        image.putpalette([0, 0, 0, 255, 255, 255])
    elif mode == "RGBA":
        image = Image.merge("RGBA", [Image.new("L", image.size, 255)] * 3 + [image.point(lambda value: value * 255)])
    elif mode == "1":
        image = Image.fromarray(np.array(bits, bool))
    encoded = io.BytesIO()
    image.save(encoded, "PNG", **({"transparency": 0} if mode == "P" else {}))
    data = base64.b64encode(zlib.compress(encoded.getvalue())).decode()
    return shape("bitmap", "cat", bitmap={"data": data, "origin": origin})


def mask_of(root: Path) -> np.ndarray:
    (samples,) = read(root, ReadOptions()).splits.values()
    return samples[0].read_mask()


def test_classes_and_colors_are_those_of_meta(tmp_path: Path) -> None:
    classes = read(project(tmp_path, []), ReadOptions()).classes
    assert classes.names == ("background", "dog", "cat")
    assert classes.colors == ((0, 0, 0), (255, 0, 16), (0, 255, 0))


def test_a_rectangles_two_corners_belong_to_it(tmp_path: Path) -> None:
    mask = mask_of(project(tmp_path, [shape("rectangle", points=points([[5, 3], [2, 1]]))]))
    expected = np.zeros((6, 8), np.uint8)
    expected[1:4, 2:6] = 1
    assert (mask == expected).all()


def test_a_polygon_has_its_outline_and_an_interior_takes_its_own_out(tmp_path: Path) -> None:
    outer, inner = [[0, 0], [6, 0], [6, 5], [0, 5]], [[2, 2], [4, 2], [4, 4], [2, 4]]
    mask = mask_of(project(tmp_path, [shape("polygon", points=points(outer, inner))]))
    expected = np.zeros((6, 8), np.uint8)
    expected[0:6, 0:7] = 1
    expected[2:5, 2:5] = 0
    assert (mask == expected).all()


@pytest.mark.parametrize("mode", ["P", "RGBA", "1", "L"])
def test_bitmaps_of_every_kind_lie_at_their_origin(tmp_path: Path, mode: str) -> None:
    mask = mask_of(project(tmp_path, [bitmap([[1, 0, 1], [0, 1, 1]], [4, 3], mode)]))
    assert mask[3:5, 4:7].tolist() == [[2, 0, 2], [0, 2, 2]]
    assert mask.sum() == 8


def test_later_objects_cover_earlier_ones_and_lines_paint_nothing(tmp_path: Path) -> None:
    objects = [
        shape("rectangle", points=points([[0, 0], [3, 0]])),
        bitmap([[1, 1]], [1, 0], "P"),
        shape("line", points=points([[0, 0], [7, 5]])),
    ]
    meta = {"classes": [*META["classes"], {"title": "road", "shape": "line", "color": "#010203"}]}
    root = project(tmp_path, objects, meta=meta)
    assert mask_of(root)[0].tolist() == [1, 2, 2, 1, 0, 0, 0, 0]
    assert "these classes have no area and paint nothing: road" in read(root, ReadOptions()).notes


def test_datasets_are_splits_if_all_are_called_so(tmp_path: Path) -> None:
    project(tmp_path, [], dataset="train")
    root = project(tmp_path, [], dataset="val")
    assert {split: [p.name for p in found] for split, found in read(root, ReadOptions()).splits.items()} == {
        "train": ["train_1"],
        "val": ["val_1"],
    }
    project(root, [], dataset="more")
    assert [p.name for p in read(root, ReadOptions()).splits["all"]] == ["more/more_1", "train/train_1", "val/val_1"]


def test_images_without_an_annotation_are_counted_and_annotations_without_one_refused(tmp_path: Path) -> None:
    root = project(tmp_path, [])
    shutil.copy(root / "ds0/img/ds0_1.jpg", root / "ds0/img/new.jpg")
    assert "1 image without an annotation left out" in read(root, ReadOptions()).notes
    (root / "ds0/img/ds0_1.jpg").unlink()
    with pytest.raises(DataError, match=r"ds0_1.jpg.json: found no image for it"):
        read(root, ReadOptions())


def test_another_size_than_the_labelled_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="made for 9x6 pixels"):
        mask_of(project(tmp_path, [], size=(6, 9)))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (shape("polygon", points=points([[0, 0], [1, 1]])), "object 0: found 'polygon'"),
        (shape("rectangle", points=points([[0, 0]])), "object 0: found 'rectangle'"),
        (shape("blob"), "object 0: found 'blob'"),
        (shape("bitmap"), "object 0: found 'bitmap'"),
        (shape("polygon", "cow"), "found the class 'cow'"),
        (shape("bitmap", bitmap={"data": "!!", "origin": [0, 0]}), "its bitmap can't be read"),
        (shape("bitmap", bitmap={"data": "AAAA", "origin": [0, 0]}), "its bitmap can't be read"),
        (
            shape("bitmap", bitmap={"data": base64.b64encode(zlib.compress(b"x")).decode(), "origin": [0, 0]}),
            "its bitmap",
        ),
        (shape("bitmap", bitmap={"data": "AAAA", "origin": [0]}), "objects.0.bitmap.origin"),
        (shape("polygon", points={"exterior": [[0, 0], [1, "x"], [2, 2]]}), "objects.0.points.exterior.1.1"),
        ({"geometryType": "polygon"}, "objects.0.classTitle"),
        ("polygon", "objects.0"),
    ],
)
def test_a_malformed_object_is_named(tmp_path: Path, given: Any, message: str) -> None:
    with pytest.raises(DataError, match=f"ds0_1.jpg.json(.|\n)*{message}"):
        mask_of(project(tmp_path, [given]))


def test_what_is_no_project_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"meta.json: can't be read"):
        read(tmp_path, ReadOptions())
    (tmp_path / "meta.json").write_text(json.dumps({"classes": [{"title": "dog", "color": "red"}]}))
    with pytest.raises(DataError, match=r"meta.json: classes.0.color"):
        read(tmp_path, ReadOptions())
    (tmp_path / "meta.json").write_text(json.dumps(META))
    with pytest.raises(DataError, match="found no dataset"):
        read(tmp_path, ReadOptions())
