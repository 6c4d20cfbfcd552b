from collections.abc import Callable, Mapping

import numpy as np
import pytest

from segkit.config.schema import DataConfig
from segkit.datasets.label_faults import Values
from segkit.datasets.layouts import resolve_classes
from segkit.datasets.listing import take_inventory
from segkit.datasets.masks import build_mask_reader
from segkit.doctor.examination import Examined
from segkit.doctor.label_maps import Nearest, build_remaps
from segkit.doctor.measure import gather_facts

WriteFolders = Callable[..., DataConfig]


def examine(data: DataConfig) -> Examined:
    reader = build_mask_reader(data, resolve_classes(data))
    inventory = take_inventory(data, ["all"])
    return Examined(data, inventory, gather_facts(inventory.items, reader), reader.classes, reader)


def remapped(write_folders: WriteFolders, masks: Mapping[str, np.ndarray], kind: str, **settings: object) -> list[int]:
    """Return what the first label becomes, of one row."""
    remap = build_remaps(examine(write_folders(masks, val_fraction=0.0, **settings)))[kind][1]
    ids: list[int] = remap(next(iter(masks.values())))[0].tolist()
    return ids


def row(*values: object) -> np.ndarray:
    return np.array([values], np.uint8)


def test_values_of_no_class_become_ignored(write_folders: WriteFolders) -> None:
    masks = {"a": row(0, 1, 7, 255), "b": row(0, 1, 1, 0)}
    assert remapped(write_folders, masks, "unknown") == [0, 1, 255, 255]
    assert remapped(write_folders, masks, "right") == [0, 1, 255, 255]


def test_0_and_255_become_0_and_1_in_every_kind_of_label(write_folders: WriteFolders) -> None:
    masks = {"a": row(0, 255), "b": row(0, 0)}
    for kind in ("right", "unknown", "deep"):
        assert remapped(write_folders, masks, kind) == [0, 1]


def test_ids_from_1_become_ids_from_0(write_folders: WriteFolders) -> None:
    masks = {"a": row(1, 2, 3, 255), "b": row(3, 3, 1, 1)}
    assert remapped(write_folders, masks, "unknown", classes=("a", "b", "c")) == [0, 1, 2, 255]


def test_instances_are_left_alone(write_folders: WriteFolders) -> None:
    instances = {name: np.arange(4 + k, dtype=np.uint8)[None] for k, name in enumerate("abcd")}
    assert "unknown" not in build_remaps(examine(write_folders(instances, val_fraction=0.0)))


def test_as_many_values_as_classes_are_left_alone(write_folders: WriteFolders) -> None:
    spread = write_folders({"a": row(0, 60, 120)}, val_fraction=0.0, classes=("a", "b", "c"))
    assert "unknown" not in build_remaps(examine(spread))


def test_colours_of_the_classes_become_their_ids_and_others_are_uncertain(write_folders: WriteFolders) -> None:
    data = write_folders({"a": row(0, 1)}, val_fraction=0.0)
    own = resolve_classes(data).colors
    assert remapped(write_folders, {"a": row(own[1], own[0])}, "colors") == [1, 0]
    assert "colors" not in build_remaps(examine(write_folders({"a": row((9, 9, 9), own[0])}, val_fraction=0.0)))


TWO = Nearest(np.array([0, 255]), np.array([0, 1], np.uint8), by_color=False, ignored=255)
THREE = Nearest(np.array([0, 1, 2, 255]), np.array([0, 1, 2, 255], np.uint8), by_color=False, ignored=255)
COLORS = Nearest(np.array([0, 0xFF0000]), np.array([0, 1], np.uint8), by_color=True, ignored=255)


def test_each_pixel_gets_the_nearest_value_of_a_class() -> None:
    assert TWO(row(0, 100, 127, 128, 250, 255)).tolist() == [[0, 0, 0, 1, 1, 1]]
    assert THREE(row(0, 1, 2, 3, 254)).tolist() == [[0, 1, 2, 2, 255]]
    assert COLORS(row((250, 5, 5), (8, 8, 8))).tolist() == [[1, 0]]


def test_far_from_every_value_is_ignored() -> None:
    assert THREE(row(1, 100)).tolist() == [[1, 255]]
    assert COLORS(row((0, 0, 0), (0, 255, 0))).tolist() == [[0, 255]]


@pytest.mark.parametrize(("far", "fits"), [(5, True), (6, False)])
def test_a_label_fits_with_a_twentieth_of_its_pixels_far_from_every_value(far: int, fits: bool) -> None:
    assert THREE.fits(Values(np.array([0, 1, 100]), np.array([50, 50 - far, far])), in_color=False) == fits


def test_grey_pixels_of_a_jpeg_in_colour_are_ids_and_colours_are_not() -> None:
    grey, red = Values(np.array([0x020202, 0xFEFDFF]), np.array([50, 50])), Values(np.array([0xFF0000]), np.array([9]))
    assert TWO.fits(grey, in_color=True)
    assert not TWO.fits(red, in_color=True)
