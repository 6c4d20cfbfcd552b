from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segkit.errors import DataError
from segkit.formats.annotations.coco_panoptic import read
from segkit.formats.options import ReadOptions
from segkit.formats.sample import SampleSet

OPTIONS = ReadOptions()
HW = (20, 30)
Save = Callable[..., Path]


def the_mask(samples: SampleSet) -> np.ndarray:
    ((sample,),) = samples.splits.values()
    return sample.read_mask()


def save_panoptic(save: Save, root: Path, segments: np.ndarray, info: object, **more: object) -> Path:
    annotation = {"image_id": 1, "file_name": "a.png", "segments_info": info, **more}
    path = save(root, [annotation], name="annotations/panoptic_val2017.json", folder="val2017")
    path.with_suffix("").mkdir()
    colors = np.stack([segments % 256, segments // 256 % 256, segments // 65536], axis=2).astype(np.uint8)
    Image.fromarray(colors).save(path.with_suffix("") / "a.png")
    return path


def a_segment(number: int, category: int, **more: object) -> dict[str, object]:
    return {"id": number, "category_id": category, "iscrowd": 0, **more}


def test_panoptic_segments_become_their_classes(save: Save, tmp_path: Path) -> None:
    segments = np.zeros(HW, int)
    segments[:5], segments[5:10], segments[10:15] = 5, 3 + 256 * 9 + 65536 * 200, 70000
    info = [a_segment(3 + 256 * 9 + 65536 * 200, 3), a_segment(5, 7), a_segment(70000, 7, iscrowd=1)]
    save_panoptic(save, tmp_path, segments, info)
    for source in (tmp_path, tmp_path / "annotations" / "panoptic_val2017.json"):
        samples = read(source, OPTIONS)
        assert samples.classes.names == ("cat", "dog")
        assert list(samples.splits) == ["val"]
        mask = the_mask(samples)
        assert mask.dtype == np.uint8
        assert mask[::5, 0].tolist() == [1, 0, 255, 255]
    mask = the_mask(read(tmp_path, ReadOptions(unlabeled="background")))
    assert mask[::5, 0].tolist() == [2, 1, 255, 0]


def test_a_segment_that_the_json_does_not_know_is_named(save: Save, tmp_path: Path) -> None:
    segments = np.zeros(HW, int)
    segments[3, 4] = 77
    samples = read(save_panoptic(save, tmp_path, segments, [a_segment(5, 7)]), OPTIONS)
    with pytest.raises(DataError, match=r"a\.png: segment 77 at row 3, column 4"):
        the_mask(samples)


def test_a_png_of_another_size_is_named(save: Save, tmp_path: Path) -> None:
    samples = read(save_panoptic(save, tmp_path, np.zeros((20, 31), int), []), OPTIONS)
    with pytest.raises(DataError, match=r"a\.png: found 31x20 pixels, expected 30x20"):
        the_mask(samples)


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
def test_wrong_segments_are_named(save: Save, tmp_path: Path, info: object, more: dict[str, object]) -> None:
    path = save_panoptic(save, tmp_path, np.zeros(HW, int), info, **more)
    with pytest.raises(DataError, match=r"panoptic_val2017\.json: annotation 1: "):
        read(path, OPTIONS)


def test_a_missing_folder_of_pngs_is_named(save: Save, tmp_path: Path) -> None:
    path = save(tmp_path, [], name="annotations/panoptic_val2017.json", folder="val2017")
    with pytest.raises(DataError, match="panoptic_val2017: no such folder"):
        read(path, OPTIONS)
