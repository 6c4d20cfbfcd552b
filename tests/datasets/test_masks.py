from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segkit.classes import Classes
from segkit.config.schema import DataConfig
from segkit.datasets.masks import MaskReader, ValueTable, build_mask_reader, read_label_values, write_mask
from segkit.errors import ConfigError, DataError

IDS = np.array([[0, 1, 2], [2, 1, 255]], np.uint8)
THREE = Classes.build(["a", "b", "c"])
TWO = Classes.build(["background", "object"])


def save(path: Path, array: np.ndarray, mode: str | None = None, palette: list[int] | None = None) -> Path:
    image = Image.fromarray(array)
    if palette is not None:
        image = Image.frombytes("P", array.shape[::-1], array.tobytes())
        image.putpalette(palette)
    if mode:
        image = image.convert(mode)
    image.save(path)
    return path


def reader(classes: Classes = THREE, **settings: object) -> MaskReader:
    return build_mask_reader(DataConfig(**settings), classes)  # type: ignore[arg-type]


# ---- what a file may be


@pytest.mark.parametrize("palette", [THREE.palette(), [value for k in range(256) for value in (255 - k,) * 3]])
def test_a_palette_png_is_read_as_indices_whatever_its_colors(tmp_path: Path, palette: list[int]) -> None:
    assert np.array_equal(reader()(save(tmp_path / "m.png", IDS, palette=palette)), IDS)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif"])
def test_grey_files_are_read_as_ids(tmp_path: Path, suffix: str) -> None:
    assert np.array_equal(reader()(save(tmp_path / f"m.{suffix}", IDS)), IDS)


def test_one_bit_is_0_and_1(tmp_path: Path) -> None:
    mask = np.array([[0, 1], [1, 0]], np.uint8)
    assert np.array_equal(reader(TWO)(save(tmp_path / "m.png", mask * 255, mode="1")), mask)


def test_sixteen_bit_ids_are_read_as_they_are(tmp_path: Path) -> None:
    path = save(tmp_path / "m.png", np.array([[0, 1000], [300, 0]], np.uint16))
    mask = reader(mask_values=(0, 300, 1000))(path)
    assert mask.tolist() == [[0, 2], [1, 0]]


def test_values_are_mapped_in_class_order(tmp_path: Path) -> None:
    path = save(tmp_path / "m.png", np.array([[0, 255]], np.uint8))
    assert reader(TWO, mask_values=(0, 255))(path).tolist() == [[0, 1]]


def test_colors_are_mapped_in_class_order(tmp_path: Path) -> None:
    path = save(tmp_path / "m.png", np.array([[[255, 0, 0], [0, 0, 0], [9, 9, 9]]], np.uint8))
    colors = {"mask_values": ((0, 0, 0), (255, 0, 0)), "ignore_values": ((9, 9, 9),)}
    assert reader(TWO, **colors)(path).tolist() == [[1, 0, 255]]


def test_rest_ignores_whatever_is_not_listed(tmp_path: Path) -> None:
    path = save(tmp_path / "m.png", np.array([[0, 3, 77]], np.uint8))
    assert reader(TWO, mask_values=(0, 3), ignore_values="rest")(path).tolist() == [[0, 1, 255]]


def test_ignored_values_become_ignore_index(tmp_path: Path) -> None:
    path = save(tmp_path / "m.png", np.array([[0, 1, 33]], np.uint8))
    classes = Classes.build(["a", "b"], ignore_index=100)
    assert reader(classes, ignore_values=(33,))(path).tolist() == [[0, 1, 100]]


def test_a_written_mask_reads_back_the_same_and_carries_the_palette(tmp_path: Path) -> None:
    write_mask(tmp_path / "m.png", IDS, THREE)
    assert np.array_equal(reader()(tmp_path / "m.png"), IDS)
    with Image.open(tmp_path / "m.png") as image:
        assert image.mode == "P"
        assert image.getpalette()[:6] == [0, 0, 0, 128, 0, 0]  # type: ignore[index]


def test_genuine_voc_masks_hold_voc_ids_and_the_border(shared_data) -> None:  # type: ignore[no-untyped-def]
    classes = Classes.build([f"c{k}" for k in range(21)])
    paths = sorted((shared_data("voc2012_sample") / "SegmentationClass").glob("*.png"))
    found = {int(value) for path in paths for value in np.unique(reader(classes)(path))}
    assert found == {0, 1, 2, 5, 9, 12, 15, 17, 19, 20, 255}


def test_a_gif_label_of_drive_equals_its_palette_png(shared_data) -> None:  # type: ignore[no-untyped-def]
    folder = shared_data("drive") / "original_tif_gif"
    gifs = sorted(folder.rglob("*.gif"))
    assert gifs
    values = {int(value) for path in gifs for value in np.unique(read_label_values(path))}
    assert values == {0, 255}


# ---- what it may not be


def test_a_value_that_is_no_class_is_named_with_its_pixel(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"m\.png: value 7 at \(1, 0\) is no class \(0\.\.2\).*ignore_values: \[7\]"):
        reader()(save(tmp_path / "m.png", np.array([[0, 1], [7, 2]], np.uint8)))


@pytest.mark.parametrize("high", [128, 254])
def test_masks_of_two_values_come_with_the_config_line_that_reads_them(tmp_path: Path, high: int) -> None:
    with pytest.raises(DataError, match=rf"set data\.mask_values: \[0, {high}\]"):
        reader(TWO)(save(tmp_path / "m.png", np.array([[0, high]], np.uint8)))


def test_soft_edges_come_with_the_config_lines_that_leave_them_out(tmp_path: Path) -> None:
    path = save(tmp_path / "m.png", np.array([[0, 2, 130, 253, 255]], np.uint8))
    with pytest.raises(DataError, match=r"soft edges.*data\.ignore_values: rest"):
        reader(TWO)(path)
    assert reader(TWO, mask_values=(0, 255), ignore_values="rest")(path).tolist() == [[0, 255, 255, 255, 1]]


def test_ids_that_start_at_1_come_with_the_config_line_that_reads_them(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"set data\.mask_values: \[1, 2, 3\]"):
        reader()(save(tmp_path / "m.png", np.array([[1, 2, 3]], np.uint8)))


def test_an_rgb_label_is_refused_with_its_colors(tmp_path: Path) -> None:
    path = save(tmp_path / "m.png", np.array([[[255, 0, 0], [0, 0, 0]]], np.uint8))
    with pytest.raises(DataError, match=r"RGB label.*data\.mask_values: \[\[0, 0, 0\], \[255, 0, 0\]\]"):
        reader(TWO)(path)


def test_a_color_that_is_not_listed_is_named(tmp_path: Path) -> None:
    path = save(tmp_path / "m.png", np.array([[[1, 2, 3], [0, 0, 0]]], np.uint8))
    with pytest.raises(DataError, match=r"colour \[1, 2, 3\] at \(0, 0\)"):
        reader(TWO, mask_values=((0, 0, 0), (255, 0, 0)))(path)


def test_ids_where_colors_were_promised_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="single values, expected colours"):
        reader(TWO, mask_values=((0, 0, 0), (255, 0, 0)))(save(tmp_path / "m.png", IDS))


def test_a_jpeg_label_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="JPEG label"):
        reader()(save(tmp_path / "m.jpg", IDS))


@pytest.mark.parametrize("content", [None, b"", b"\x89PNG\r\n\x1a\n broken"])
def test_a_label_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "m.png").write_bytes(content)
    with pytest.raises(DataError, match=r"m\.png"):
        reader()(tmp_path / "m.png")


def test_a_truncated_label_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "m.png", np.random.default_rng(0).integers(0, 3, (90, 90), np.uint8))
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataError, match="can't be read"):
        reader()(path)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"mask_values": (0, 255, 3)}, "found 3 values, expected 2"),
        ({"mask_values": (5, 5)}, "5 stands for two classes"),
        ({"mask_values": (0, 1), "ignore_values": (1,)}, "or for a class and ignore"),
        ({"mask_values": (0, 1), "ignore_values": ((0, 0, 9),)}, "mixed"),
        ({"mask_values": (0, 70000)}, "ids 0..65535"),
        ({"mask_values": ((0, 0, 0), (0, 300, 0))}, "values 0..255"),
    ],
)
def test_mask_values_that_make_no_sense_are_refused(settings: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        reader(TWO, **settings)


# ---- the table of stored values


@pytest.mark.parametrize("dtype", [np.uint8, np.int32])
def test_a_table_gives_each_value_its_id_and_the_others_none(dtype: type) -> None:
    table = ValueTable.build({0: 3, 200: 1, 7: 255})
    stored = np.array([[0, 7], [200, 9]], dtype)
    assert table(stored).tolist() == [[3, 255], [1, table.unknown]]
    assert table.unknown not in (3, 1, 255)
    assert table.knows(stored.astype(np.int64)).tolist() == [[True, True], [True, False]]


def test_a_table_holds_values_below_0_and_knows_where_it_ends() -> None:
    table = ValueTable.build({-1: 255, 0: 0, 65535: 1})
    assert table(np.array([[-1, 0, 65535, -2, 65536]], np.int32)).tolist() == [
        [255, 0, 1, table.unknown, table.unknown]
    ]
    assert table(np.array([[0, 5]], np.uint8)).tolist() == [[0, table.unknown]]
    assert table.knows(np.array([-2, -1, 65535, 65536])).tolist() == [False, True, True, False]


def test_the_rest_of_a_table_may_have_an_id_beyond_its_end_too() -> None:
    table = ValueTable.build({5: 0}, rest=255)
    assert table(np.array([[5, 6, 70_000, -1]], np.int32)).tolist() == [[0, 255, 255, 255]]
    assert table.knows(np.array([5, 6])).all()


def test_a_table_of_colours_is_by_code() -> None:
    table = ValueTable.build({0x0A0B0C: 1}, by_color=True)
    assert table(np.array([[[10, 11, 12], [12, 11, 10]]], np.uint8)).tolist() == [[1, table.unknown]]


def test_what_a_table_does_not_know_can_be_ignored() -> None:
    table = ValueTable.build({0: 0, 1: 1}).ignoring_unknown(255)
    assert table(np.array([[0, 1, 2, 70_000]], np.int32)).tolist() == [[0, 1, 255, 255]]


def test_a_reader_can_be_made_without_a_config(tmp_path: Path) -> None:
    path = save(tmp_path / "m.png", np.array([[0, 9, 255]], np.uint8))
    plain = MaskReader.build(TWO, mask_values=(0, 255), ignore_values=(9,))
    assert plain(path).tolist() == [[0, 255, 1]]
    assert plain(path).tolist() == reader(TWO, mask_values=(0, 255), ignore_values=(9,))(path).tolist()
