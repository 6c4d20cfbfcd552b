from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from segkit.classes import VOC_NAMES
from segkit.config.schema import DataConfig
from segkit.datasets.listing import take_inventory
from segkit.doctor.guess_classes import by_frequency, guess_classes
from segkit.doctor.measure import gather_facts

WriteFolders = Callable[..., DataConfig]


def row(*values: object, times: int = 4) -> np.ndarray:
    """Return a label, uint8 [times, n] or colours [times, n, 3]."""
    return np.repeat(np.array([values], np.uint8), times, axis=0)


def guess(data: DataConfig, **settings: object) -> tuple[DataConfig, str]:
    unnamed = replace(data, classes=None, **settings)  # type: ignore[arg-type]
    listed = replace(unnamed, layout="folders", val_fraction=0.0)
    return guess_classes(unnamed, gather_facts(take_inventory(listed, ["all"]).items, None))


@pytest.mark.parametrize("value", [1, 38, 255])
def test_0_and_one_value_are_background_and_object(write_folders: WriteFolders, value: int) -> None:
    data, said = guess(write_folders({"a": row(0, value), "b": row(0, 0)}))
    assert data.classes == ("background", "object")
    assert data.mask_values == (None if value == 1 else (0, value))
    assert (f"data.mask_values: [0, {value}]" in said) == (value != 1)


def test_values_far_apart_are_a_class_each(write_folders: WriteFolders) -> None:
    data, said = guess(write_folders({"a": row(0, 60, 120), "b": row(180, 0, 255)}))
    assert data.mask_values == (0, 60, 120, 180)  # 255 is ignored
    assert data.classes == ("class_0", "class_1", "class_2", "class_3")
    assert "data.mask_values: [0, 60, 120, 180]" in said


def test_ids_close_together_are_numbered_up_to_the_largest(write_folders: WriteFolders) -> None:
    data, said = guess(write_folders({"a": row(0, 1, 2), "b": row(4, 0, 255)}))
    assert data.mask_values is None
    assert data.classes is not None
    assert len(data.classes) == 5
    assert said == "the labels hold the ids 0 to 4 and 255"


def test_the_voc_layout_has_voc_s_classes_where_they_fit(write_folders: WriteFolders) -> None:
    fits = write_folders({"a": row(0, 5, 20, 255)})
    assert guess(fits, layout="voc") == (replace(fits, layout="voc", classes=VOC_NAMES), "")
    assert guess(write_folders({"a": row(0, 5, 21)}), layout="voc")[0].classes != VOC_NAMES


def test_given_values_are_a_class_each(write_folders: WriteFolders) -> None:
    data, _ = guess(write_folders({"a": row(0, 7, 9)}), mask_values=(0, 9))
    assert data.classes == ("class_0", "class_1")
    assert data.mask_values == (0, 9)


def test_colours_are_black_first_then_by_frequency_without_rare_ones(write_folders: WriteFolders) -> None:
    mask = np.zeros((200, 200, 3), np.uint8)
    mask[:120] = 200, 10, 10
    mask[120:180] = 10, 200, 10
    mask[0, :2] = 1, 2, 3  # 2 of 40,000 pixels: a soft edge
    data, said = guess(write_folders({"a": mask}))
    assert data.mask_values == ((0, 0, 0), (200, 10, 10), (10, 200, 10))
    assert data.ignore_values == "rest"
    assert "3 colours" in said


def test_by_frequency_ties_are_broken_by_code() -> None:
    assert by_frequency({5: 1, 0: 1, 9: 3, 2: 1}) == [0, 9, 2, 5]
