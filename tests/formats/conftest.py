"""Data sets in no format, with files on disk, from masks."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segkit.classes import Classes, read_class_names
from segkit.formats.sample import NO_SPLIT, Sample, SampleSet

Masks = Mapping[str, np.ndarray]
MakeSet = Callable[..., SampleSet]


@pytest.fixture
def make_set(tmp_path: Path) -> MakeSet:
    """Return a function of {name: mask}, or {split/name: mask} with splits=True, that draws images beside."""

    def make(masks: Masks, names: Sequence[str] = ("background", "cat", "dog"), *, splits: bool = False) -> SampleSet:
        rng = np.random.default_rng(1)
        found: dict[str, list[Sample]] = {}
        for name, mask in masks.items():
            file = tmp_path / "drawn" / f"{name}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 255, (*mask.shape, 3), np.uint8)).save(file)
            split, short = name.split("/", 1) if splits else (NO_SPLIT, name)
            found.setdefault(split, []).append(Sample(short, file, lambda mask=mask: mask))  # type: ignore[misc]
        return SampleSet(found, Classes.build(names))

    return make


@pytest.fixture(params=["camvid", "voc2012_sample", "drive"])
def real_set(request: pytest.FixtureRequest, shared_data: Callable[[str], Path]) -> SampleSet:
    """Four images of a real data set, with the ids of their masks as they are."""
    root = shared_data(request.param)
    samples = []
    for label in sorted((root / "SegmentationClass").glob("*.png"))[:4]:
        image = next((root / "JPEGImages").glob(f"{label.stem}.*"))
        samples.append(Sample(label.stem, image, lambda label=label: np.array(Image.open(label))))  # type: ignore[misc]
    return SampleSet({NO_SPLIT: samples}, Classes.build(read_class_names(root / "classes.txt")))


@pytest.fixture
def random_masks() -> dict[str, np.ndarray]:
    """Masks of three classes and ignored pixels: noise, blots, single rows and columns, and one class alone."""
    rng = np.random.default_rng(0)
    masks = {}
    for number in range(12):
        hw = rng.integers(1, 40, 2)
        masks[f"noise{number}"] = rng.choice(np.array([0, 1, 2, 255], np.uint8), tuple(hw))
    for number in range(6):
        coarse = rng.choice(np.array([0, 0, 1, 2, 255], np.uint8), (8, 9))
        masks[f"blots{number}"] = coarse.repeat(5, axis=0).repeat(7, axis=1)
    masks |= {"row": np.array([[0, 1, 1, 255, 0, 2]], np.uint8), "column": np.array([[1], [0], [1]], np.uint8)}
    masks |= {"empty": np.zeros((7, 5), np.uint8), "full": np.full((7, 5), 2, np.uint8)}
    return masks
