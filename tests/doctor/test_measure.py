import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from segkit.config.schema import DataConfig
from segkit.datasets.images import read_image
from segkit.datasets.listing import take_inventory
from segkit.doctor.measure import Facts, gather_facts, perceptual_hash, thumbnail
from segkit.doctor.statistics import measure


def facts_of(root: Path) -> Facts:
    return gather_facts(take_inventory(DataConfig(root=str(root))).items, None)


def test_facts_are_those_of_the_files(shapes: Path) -> None:
    facts = facts_of(shapes)
    for index, item in enumerate(facts.items):
        assert isinstance(item.image, Path)
        assert isinstance(item.mask, Path)
        pixels, mask = np.array(Image.open(item.image)), np.array(Image.open(item.mask))
        row = facts.images[index]
        assert row["hw"].tolist() == list(pixels.shape[:2])
        assert np.allclose(row["sums"], pixels.reshape(-1, 3).sum(axis=0))
        assert np.allclose(row["squares"], (pixels.reshape(-1, 3).astype(float) ** 2).sum(axis=0))
        values, counts = np.unique(mask, return_counts=True)
        found = facts.values(index)
        assert found.values.tolist() == values.tolist()
        assert found.pixels.tolist() == counts.tolist()


def test_a_image_takes_less_than_a_kibibyte_beside_its_paths(shapes: Path) -> None:
    facts = facts_of(shapes)
    num_bytes = facts.images.nbytes + facts.labels.nbytes + sum(sys.getsizeof(packed) for packed in facts.packed_values)
    assert num_bytes / len(facts.items) < 1024


def test_the_mean_and_deviation_are_those_of_all_pixels(shapes: Path) -> None:
    measures = measure(facts_of(shapes))
    assert measures
    images = take_inventory(DataConfig(root=str(shapes))).items
    pixels = np.concatenate([read_image(item.image).reshape(-1, 3) for item in images if item.image]) / 255
    assert np.allclose(measures.mean, pixels.mean(axis=0))
    assert np.allclose(measures.deviation, pixels.std(axis=0))


def test_the_hash_changes_little_with_size_compression_and_brightness_and_much_between_images(shapes: Path) -> None:
    images = [read_image(item.image) for item in take_inventory(DataConfig(root=str(shapes))).items if item.image]

    def bits(first: np.ndarray, second: np.ndarray) -> int:
        return (perceptual_hash(thumbnail(first)) ^ perceptual_hash(thumbnail(second))).bit_count()

    small = cv2.resize(images[0], (60, 48), interpolation=cv2.INTER_AREA)
    _, encoded = cv2.imencode(".jpg", images[0], [cv2.IMWRITE_JPEG_QUALITY, 60])
    again = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
    brighter = cv2.convertScaleAbs(images[0], alpha=1.0, beta=8)
    assert all(bits(images[0], other) <= 6 for other in (small, again, brighter))
    assert all(bits(images[0], other) >= 16 for other in images[1:])


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
def test_labels_of_every_mode_are_counted(tmp_path: Path, mode: str) -> None:
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    mask = np.array([[0, 1], [1, 1]], np.uint8)
    Image.fromarray(mask * (255 if mode in ("1", "RGB") else 1)).convert(mode).save(tmp_path / "masks" / "a.png")
    Image.new("RGB", (2, 2)).save(tmp_path / "images" / "a.png")
    data = DataConfig(root=str(tmp_path), layout="folders")
    facts = gather_facts(take_inventory(data, ["all"]).items, None)
    assert facts.values(0).pixels.tolist() == [1, 3]
    assert facts.labels["mode"][0] == mode
