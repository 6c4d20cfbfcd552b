from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segkit.errors import DataError
from segkit.formats.annotations.rle_csv import decode, read
from segkit.formats.options import ReadOptions


def lay_out(root: Path, *lines: str, header: str = "ImageId,EncodedPixels") -> Path:
    (root / "images").mkdir(parents=True, exist_ok=True)
    for name in ("a", "b"):
        Image.new("RGB", (4, 3)).save(root / "images" / f"{name}.jpg")
    (root / "train.csv").write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return root


def mask_of(root: Path) -> list[list[int]]:
    found: list[list[int]] = read(root, ReadOptions()).splits["all"][0].read_mask().tolist()
    return found


def encode(inside: np.ndarray) -> str:
    """1-based runs down the columns."""
    flat = np.concatenate([[0], inside.T.reshape(-1), [0]]).astype(int)
    starts, ends = np.flatnonzero(np.diff(flat) == 1), np.flatnonzero(np.diff(flat) == -1)
    return " ".join(f"{start + 1} {end - start}" for start, end in zip(starts, ends, strict=True))


def test_runs_go_down_the_columns_from_1(tmp_path: Path) -> None:
    assert mask_of(lay_out(tmp_path, "a.jpg,1 2 6 1 12 1")) == [[1, 0, 0, 0], [1, 0, 0, 0], [0, 1, 0, 1]]


def test_runs_survive_the_round_trip() -> None:
    rng = np.random.default_rng(0)
    for density in (0, 0.2, 0.7, 1):
        inside = rng.random((17, 29)) < density
        assert (decode(encode(inside), (17, 29), where="x") == inside).all()


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools 2.0 with numpy 2
def test_runs_are_those_of_coco_but_for_their_notation() -> None:
    """COCO's run lengths go down the columns too, by another author's decoder."""
    from pycocotools import mask as coco

    inside = np.random.default_rng(1).random((11, 7)) < 0.4
    flat = inside.T.reshape(-1)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flat, [False]]).astype(int)))
    counts = np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()
    theirs = coco.decode(coco.frPyObjects({"counts": counts, "size": list(inside.shape)}, *inside.shape))
    assert (decode(encode(inside), (11, 7), where="x") == (theirs == 1)).all()


def test_runs_may_touch_and_stand_in_any_order(tmp_path: Path) -> None:
    assert mask_of(lay_out(tmp_path, "a.jpg,4 2 1 3")) == [[1, 1, 0, 0], [1, 1, 0, 0], [1, 0, 0, 0]]


@pytest.mark.parametrize("runs", ["", "-1", "NaN", " "])
def test_an_empty_run_is_a_image_without_objects(tmp_path: Path, runs: str) -> None:
    root = lay_out(tmp_path, f"a.jpg,{runs}", "b.jpg,1 1")
    assert not np.any(mask_of(root))


@pytest.mark.parametrize(
    ("header", "rows", "names", "ids"),
    [
        ("ImageId,EncodedPixels", ["a.jpg,1 3", "a.jpg,4 3"], ("background", "object"), [1, 1]),
        ("ImageId,ClassId,EncodedPixels", ["a,10,1 3", "a,2,4 3"], ("background", "class_2", "class_10"), [2, 1]),
        ("image_id,class_id,rle", ["a,rust,1 3", "a,dent,4 3"], ("background", "dent", "rust"), [2, 1]),
        ("image,class,rle", ["a,m\u00b2,1 3", "a,2.0,4 3"], ("background", "class_2", "m\u00b2"), [2, 1]),
        ("Image_Label,EncodedPixels", ["a.jpg_my_sky,1 3", "a.jpg_fog,4 3"], ("background", "fog", "my_sky"), [2, 1]),
        ("ImageId_ClassId,EncodedPixels", ["a.jpg_1,1 3", "a_2,4 3"], ("background", "class_1", "class_2"), [1, 2]),
    ],
)
def test_columns_as_competitions_call_them(
    tmp_path: Path, header: str, rows: list[str], names: tuple[str, ...], ids: list[int]
) -> None:
    samples = read(lay_out(tmp_path, *rows, header=header), ReadOptions())
    assert samples.classes.names == names
    assert samples.splits["all"][0].read_mask().tolist() == [[*ids, 0, 0]] * 3


def test_later_rows_cover_earlier_ones(tmp_path: Path) -> None:
    root = lay_out(tmp_path, "a.jpg,1,1 6", "a.jpg,2,4 6", header="ImageId,ClassId,EncodedPixels")
    assert mask_of(root) == [[1, 2, 2, 0]] * 3


def test_images_without_a_row_are_counted(tmp_path: Path) -> None:
    assert "1 image without a row left out" in read(lay_out(tmp_path, "a.jpg,1 1"), ReadOptions()).notes


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        ("1 2 3", r"an odd count of numbers \(3\)"),
        ("1 x", "something else than whole numbers"),
        ("1 2.5", "something else than whole numbers"),
        ("-4 2", "something else than whole numbers"),
        ("0 2", "expected 1..12 for an image of 4x3"),
        ("12 2", "found runs from 12 to 13"),
        ("3 0", "the shortest of 0 pixels"),
        ("1 3 3 2", "the runs at 1 and 3 overlap"),
    ],
)
def test_runs_that_cant_be_are_named_by_their_row(tmp_path: Path, runs: str, message: str) -> None:
    with pytest.raises(DataError, match=f"train.csv row 3: .*{message}"):
        mask_of(lay_out(tmp_path, "b.jpg,", f"a.jpg,{runs}"))


def test_a_run_to_the_last_pixel_is_fine(tmp_path: Path) -> None:
    assert mask_of(lay_out(tmp_path, "a.jpg,12 1"))[2][3] == 1


@pytest.mark.parametrize(
    ("header", "row", "message"),
    [
        ("ImageId,EncodedPixels", "c.jpg,1 1", "row 2: found no image 'c.jpg'"),
        ("ImageId,EncodedPixels", "a.jpg", "row 2: found 1 cells, expected 2"),
        ("ImageId,EncodedPixels", ",1 1", "row 2: found no image"),
        ("ImageId,ClassId,EncodedPixels", "a.jpg,,1 1", "row 2: found no class"),
        ("ImageId,EncodedPixels,height,width", "a.jpg,1 1,x,4", "row 2: found the size x x 4"),
        ("image,runs", "a.jpg,1 1", "found the columns image, runs"),
        ("ImageId,EncodedPixels", "", "found no row"),
    ],
)
def test_a_malformed_table_is_named(tmp_path: Path, header: str, row: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(lay_out(tmp_path, row, header=header), ReadOptions())


def test_a_declared_size_is_compared(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="made for 5x3 pixels"):
        mask_of(lay_out(tmp_path, "a.jpg,1 1,3,5", header="ImageId,EncodedPixels,height,width"))


def test_a_cell_may_be_larger_than_csvs_default(tmp_path: Path) -> None:
    root = lay_out(tmp_path, "a.jpg," + " ".join(f"{k} 1" for k in range(1, 80_000, 2)))
    Image.new("L", (400, 200)).save(root / "images" / "a.jpg")
    assert (root / "train.csv").stat().st_size > 200_000
    assert np.array(mask_of(root)).sum() == 40_000


def test_several_tables_are_refused_until_one_is_named(tmp_path: Path) -> None:
    root = lay_out(tmp_path, "a.jpg,1 1")
    (root / "sample_submission.csv").write_text("ImageId,EncodedPixels\n")
    with pytest.raises(DataError, match=r"found 2 CSV files: sample_submission.csv, train.csv"):
        read(root, ReadOptions())
    assert read(root / "train.csv", ReadOptions()).splits


def test_two_images_of_a_name_are_refused(tmp_path: Path) -> None:
    root = lay_out(tmp_path, "a.jpg,1 1")
    (root / "old").mkdir()
    Image.new("RGB", (4, 3)).save(root / "old" / "a.jpg")
    with pytest.raises(DataError, match=r"'a.jpg' could be"):
        read(root, ReadOptions())
    assert read(root, ReadOptions(images=root / "images")).splits
