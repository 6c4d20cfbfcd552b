from collections.abc import Collection

import cv2
import numpy as np
import pytest

from segkit.datasets.label_faults import Values, looks_soft, object_value, snap, softness, start_at_one, without_rare


@pytest.mark.parametrize(
    ("values", "found"),
    [({0, 255}, 255), ({0, 1}, 1), ({255}, 255), ({0}, None), ((), None), ({0, 1, 255}, None), ({3, 7}, None)],
)
def test_the_object_is_the_one_value_beside_0(values: Collection[int], found: int | None) -> None:
    assert object_value(values) == found


@pytest.mark.parametrize(
    ("values", "holds"),
    [
        ({1, 2, 3}, True),
        ({1, 3}, True),
        ({1, 2, 3, 255}, True),  # 255 is ignored
        ({0, 1, 2, 3}, False),
        ({2, 3}, False),
        ({1, 2}, False),
        ({1, 2, 4}, False),
        ({255}, False),
        (set(), False),
    ],
)
def test_ids_start_at_1_where_the_last_is_one_too_many_and_0_is_missing(values: set[int], holds: bool) -> None:
    assert start_at_one(values, 3, ignored=255) == holds


@pytest.mark.parametrize(
    ("values", "soft"),
    [
        ([0, 2, 130, 253, 255], True),
        ([3, 9, 250], True),
        ([0, 255], False),
        ([0, 1, 2, 3], False),
        ([40, 60, 255], False),
    ],
)
def test_soft_masks_hold_nearly_black_nearly_white_and_more(values: list[int], soft: bool) -> None:
    assert looks_soft(values) == soft


def test_values_of_less_than_a_pixel_in_ten_thousand_are_rare() -> None:
    assert without_rare({1: 9_999, 2: 1}) == {1: 9_999, 2: 1}
    assert without_rare({1: 10_000, 2: 1}) == {1: 10_000}


def test_soft_edges_are_told_from_small_objects() -> None:
    mask = np.zeros((100, 100), np.uint8)
    cv2.circle(mask, (50, 50), 30, 255, -1, lineType=cv2.LINE_AA)
    values, pixels = np.unique(mask, return_counts=True)
    known = np.isin(values, [0, 255])
    assert softness(mask, Values(values, pixels), known) > 0.95
    objects = np.zeros((100, 100), np.uint8)
    for k in range(6):  # far from each other, in the middle of one class
        objects[15 * k + 5, 20:24] = 10 * k + 7
    objects[:, 60:] = 255
    values, pixels = np.unique(objects, return_counts=True)
    known = np.isin(values, [0, 255])
    assert softness(objects, Values(values, pixels), known) < 0.5


def test_values_snap_to_the_nearest_by_number_or_by_colour() -> None:
    assert snap(np.array([0, 3, 100, 254]), np.array([0, 128, 255])).tolist() == [0, 0, 128, 255]
    red, nearly = 0xFF0000, 0xF0100A
    assert snap(np.array([nearly, 0x0A0505]), np.array([0, red])).tolist() == [red, 0]
