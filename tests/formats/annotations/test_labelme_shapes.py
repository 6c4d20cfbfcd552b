import base64
import io

import numpy as np
import pytest
from PIL import Image

from segkit.errors import DataError
from segkit.formats.annotations.labelme_shapes import parse_shape
from segkit.formats.raster.drawing import paint_shapes

SQUARE = [[2, 2], [6, 2], [6, 6], [2, 6]]


def shape(label: str, points: object, **more: object) -> dict[str, object]:
    return {"label": label, "points": points, "group_id": None, "shape_type": "polygon", "flags": {}, **more}


def mask_of(*shapes: object) -> np.ndarray:
    """Return the mask [20, 30] on which each shape is painted as 1."""
    drawn = [(1, parse_shape(each, where="here").drawing(where="here")) for each in shapes]
    return paint_shapes((20, 30), drawn, 0)


def png(bitmap: np.ndarray, form: str = "PNG") -> str:
    encoded = io.BytesIO()
    Image.fromarray(bitmap).save(encoded, form)
    return base64.b64encode(encoded.getvalue()).decode()


@pytest.mark.parametrize(
    ("kind", "points", "num_pixels"),
    [
        ("rectangle", [[2, 3], [6, 9]], 24),
        ("rectangle", [[6, 9], [2, 3]], 24),
        ("rectangle", SQUARE, 16),
        ("oriented_rectangle", [[4, 0], [8, 4], [4, 8], [0, 4]], 32),
        ("circle", [[10, 10], [15, 10]], 80),
        ("point", [[10, 10]], 80),
        ("points", [[10, 10], [25, 10]], 160),
        ("line", [[5, 10], [15, 10]], 100),
        ("linestrip", [[5, 10], [15, 10], [25, 10]], 200),
        (None, SQUARE, 16),
        ("polygon", SQUARE, 16),
    ],
)
def test_every_kind_of_shape_covers_the_pixels_whose_centers_are_in_it(
    kind: str | None, points: object, num_pixels: int
) -> None:
    mask = mask_of(shape("cat", points, shape_type=kind))
    assert (mask == 1).sum() == num_pixels


def test_the_joint_of_a_line_has_no_notch() -> None:
    mask = mask_of(shape("cat", [[5, 13], [20, 13], [20, 1]], shape_type="linestrip"))
    assert mask[16, 22] == 1  # outside of both strokes, within 5 pixels of the joint
    assert mask[17, 24] == 0  # the corner itself is round


def test_a_bitmap_lies_at_its_first_point_and_is_cut_off() -> None:
    bitmap = np.array([[1, 0, 1], [0, 1, 0]], np.uint8)
    corners = [[4, 5], [6, 6]]
    mask = mask_of(shape("cat", corners, shape_type="mask", mask=png(bitmap)))
    assert (mask[5:7, 4:7] == bitmap).all()
    assert mask.sum() == 3
    outside = shape("cat", [[-1, -1], [1, 0]], shape_type="mask", mask=png(bitmap))
    beyond = shape("cat", [[29, 19], [31, 20]], shape_type="mask", mask=png(bitmap))
    mask = mask_of(outside, beyond)
    assert mask.sum() == 2
    assert mask[0, 0] == mask[19, 29] == 1


@pytest.mark.parametrize(
    "bitmap",
    [
        "no base64!",
        base64.b64encode(b"no image").decode(),
        png(np.zeros((2, 3, 3), np.uint8)),
        png(np.zeros((2, 3), np.uint8), "GIF"),  # Pillow reads formats that run programs (EPS) as well
    ],
)
def test_a_broken_bitmap_is_named(bitmap: str) -> None:
    with pytest.raises(DataError, match=r"^here: "):
        mask_of(shape("cat", [[0, 0], [2, 2]], shape_type="mask", mask=bitmap))


def test_a_huge_bitmap_is_refused_before_it_is_unpacked() -> None:
    bomb = png(np.zeros((50, 9000), np.uint8))
    with pytest.raises(DataError, match="9000x50 pixels, expected one within the image of 30x20"):
        mask_of(shape("cat", [[0, 0], [2, 2]], shape_type="mask", mask=bomb))


WRONG_SHAPES: list[object] = [
    1,
    None,
    [],
    {},
    shape("cat", None),
    shape("cat", 5),
    shape("cat", {"x": 1}),
    shape("cat", [1, 2, 3]),
    shape("cat", [[1, 2], [3]]),
    shape("cat", [[1, 2, 3], [3, 4, 5], [5, 6, 7]]),
    shape("cat", [["1", "2"], ["3", "4"], ["5", "6"]]),
    shape("cat", [[1, None], [3, 4], [5, 6]]),
    shape("cat", [[1, 10**30], [3, 4], [5, 6]]),
    shape("cat", [[1, 1e300], [3, 4], [5, 6]]),
    shape("", SQUARE),
    {**shape("cat", SQUARE), "label": 3},
    {**shape("cat", SQUARE), "label": None},
    shape("cat", SQUARE, shape_type="blob"),
    shape("cat", SQUARE, shape_type=4),
    shape("cat", SQUARE, shape_type="circle"),
    shape("cat", SQUARE[:3], shape_type="rectangle"),
    shape("cat", SQUARE[:2], shape_type="mask"),
    shape("cat", SQUARE[:2], shape_type="mask", mask=5),
]


@pytest.mark.parametrize("wrong", WRONG_SHAPES, ids=lambda wrong: str(wrong)[:70])
def test_a_wrong_shape_is_named(wrong: object) -> None:
    with pytest.raises(DataError, match=r"^here"):
        parse_shape(wrong, where="here")


@pytest.mark.parametrize(
    ("kind", "fewest"), [("polygon", 3), ("rectangle", 2), ("circle", 2), ("line", 2), ("point", 1)]
)
def test_a_shape_of_fewer_points_than_its_kind_needs_is_degenerate(kind: str, fewest: int) -> None:
    for num_points in range(fewest + 1):
        parsed = parse_shape(shape("cat", SQUARE[:num_points], shape_type=kind), where="here")
        assert parsed.is_degenerate == (num_points < fewest)


@pytest.mark.parametrize("kind", ["circle", "line", "point", "rectangle", "mask"])
def test_a_shape_of_more_points_than_its_kind_takes_is_refused(kind: str) -> None:
    with pytest.raises(DataError, match=f"found a {kind} of 5 points"):
        parse_shape(shape("cat", [*SQUARE, [0, 0]], shape_type=kind, mask=""), where="here")
