from collections.abc import Callable
from pathlib import Path

import numpy as np

from segkit.formats.folders import write_voc
from segkit.formats.options import WriteOptions
from segkit.formats.sample import SampleSet


def test_one_folder_holds_images_of_one_name_in_two_splits(make_set: Callable[..., SampleSet], tmp_path: Path) -> None:
    masks = {"train/1": np.zeros((2, 3), np.uint8), "val/1": np.ones((2, 3), np.uint8)}
    samples = make_set(masks, ["background", "cat"], splits=True)
    write_voc(samples, tmp_path / "out", WriteOptions())
    assert (tmp_path / "out/ImageSets/Segmentation/val.txt").read_text() == "val/1\n"
    assert (tmp_path / "out/SegmentationClass/train/1.png").is_file()
    assert (tmp_path / "out/SegmentationClass/val/1.png").is_file()
