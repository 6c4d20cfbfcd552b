from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from segkit.errors import ConfigError, DataError
from segkit.formats.masks.color_masks import read
from segkit.formats.options import ReadOptions

Find = Callable[[str], Path]
RED, BLUE = (255, 0, 0), (0, 0, 255)


def lay_out(root: Path, labels: dict[str, np.ndarray]) -> Path:
    for name, label in labels.items():
        for folder, pixels in (("images", np.zeros((*label.shape[:2], 3), np.uint8)), ("masks", label)):
            (root / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(root / folder / f"{name}.png")
    return root


def scene(*, soft: bool = False) -> np.ndarray:
    label = np.zeros((80, 80, 3), np.uint8)
    line = cv2.LINE_AA if soft else cv2.LINE_8
    cv2.circle(label, (30, 30), 20, RED, -1, line)
    cv2.circle(label, (60, 60), 12, BLUE, -1, line)
    return label


def test_colors_are_found_over_all_labels_and_counted(tmp_path: Path) -> None:
    first, second = np.zeros((2, 4, 3), np.uint8), np.zeros((2, 4, 3), np.uint8)
    first[:, 1:3], second[:, 2:] = RED, BLUE
    samples = read(lay_out(tmp_path, {"a": first, "b": second}), ReadOptions())
    assert samples.classes.names == ("background", "class_0000FF", "class_FF0000")
    assert samples.classes.colors == ((0, 0, 0), BLUE, RED)
    assert [p.read_mask().tolist()[0] for p in samples.splits["all"]] == [[0, 2, 2, 0], [0, 0, 1, 1]]
    assert "background (0, 0, 0): 8 (50.00%); class_0000FF (0, 0, 255): 4 (25.00%)" in samples.notes[0]


def test_transparency_is_not_looked_at(tmp_path: Path) -> None:
    label = np.zeros((2, 4, 4), np.uint8)
    label[:, 2:, :3] = RED
    assert read(lay_out(tmp_path, {"a": label}), ReadOptions()).splits["all"][0].read_mask().tolist()[0] == [0, 0, 1, 1]


def test_names_in_the_order_of_the_colors(tmp_path: Path) -> None:
    root = lay_out(tmp_path, {"a": scene()})
    assert read(root, ReadOptions(classes=("sea", "sky", "rust"))).classes.colors == ((0, 0, 0), BLUE, RED)
    with pytest.raises(ConfigError, match=r"found 2 names, expected 3.*\(0, 0, 0\), \(0, 0, 255\), \(255, 0, 0\)"):
        read(root, ReadOptions(classes=("sea", "sky")))
    with pytest.raises(ConfigError, match="--unlabeled"):
        read(root, ReadOptions(unlabeled="ignore"))


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("colors.csv", "name,r,g,b\nrust,255,0,0\nbackground,0,0,0\n__ignore__,0,0,255\n"),
        ("class_dict.csv", "rust, 255, 0, 0\nbackground, 0, 0, 0\n__ignore__, 0, 0, 255\n"),
        ("label_colors.txt", "255 0 0 rust\n0 0 0 background\n0 0 255 __ignore__\n"),
        ("labelmap.txt", "rust:255,0,0::\nbackground:0,0,0::\n__ignore__:0,0,255::\n"),
    ],
)
def test_a_file_names_the_colors(tmp_path: Path, file: str, content: str) -> None:
    root = lay_out(tmp_path, {"a": scene()})
    (root / file).write_text(content)
    samples = read(root, ReadOptions())
    assert samples.classes.names == ("background", "rust")
    mask = samples.splits["all"][0].read_mask()
    assert (mask[30, 30], mask[60, 60], mask[0, 0]) == (1, 255, 0)


def test_a_color_that_the_file_lacks_is_named(tmp_path: Path) -> None:
    root = lay_out(tmp_path, {"a": scene()})
    (root / "colors.csv").write_text("background,0,0,0\nrust,255,0,0\n")
    with pytest.raises(DataError, match=r"the labels hold \(0, 0, 255\) in \d+ pixels, which has no name"):
        read(root, ReadOptions())


def test_soft_edges_are_refused_and_counted(tmp_path: Path) -> None:
    root = lay_out(tmp_path, {"a": scene(soft=True)})
    assert len(np.unique(scene(soft=True).reshape(-1, 3), axis=0)) == 60
    with pytest.raises(DataError, match="found 60 colours, of which 57 look like soft edges"):
        read(root, ReadOptions())


def test_a_line_one_pixel_wide_is_a_class_if_it_is_no_trifle(tmp_path: Path) -> None:
    label = scene()
    label[5], label[:, 75] = (0, 255, 0), (0, 255, 0)
    assert len(read(lay_out(tmp_path, {"a": label}), ReadOptions()).classes) == 4


def test_what_was_once_a_jpeg_is_refused(tmp_path: Path) -> None:
    Image.fromarray(scene()).save(tmp_path / "once.jpg", quality=95)
    label = np.array(Image.open(tmp_path / "once.jpg"))
    with pytest.raises(DataError, match="look like soft edges"):
        read(lay_out(tmp_path / "set", {"a": label}), ReadOptions())


def test_a_rare_class_with_a_body_is_a_class(tmp_path: Path) -> None:
    label = np.zeros((200, 200, 3), np.uint8)
    label[:100], label[150:152, 150:152] = RED, BLUE  # 4 of 40000 pixels
    assert len(read(lay_out(tmp_path, {"a": label}), ReadOptions()).classes) == 3


def test_ids_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="one value per pixel, expected RGB"):
        read(lay_out(tmp_path, {"a": np.zeros((2, 2), np.uint8)}), ReadOptions())


def test_real_labels_in_rgb(shared_data: Find) -> None:
    samples = read(shared_data("format_zoo/pseudo_refuge_dataset"), ReadOptions())
    assert len(samples.classes) == 3
    stored = np.array(Image.open(shared_data("format_zoo/pseudo_refuge_dataset") / "ann_dir/pseudo_g0001.png"))
    mask = samples.splits["all"][0].read_mask()
    assert (np.array(samples.classes.colors)[mask] == stored).all()


def test_real_labels_in_rgba(shared_data: Find, tmp_path: Path) -> None:
    (tmp_path / "masks").mkdir()
    label = Image.open(shared_data("format_zoo/deeplab2_rgb_labels") / "bird_pred_class.png")
    label.save(tmp_path / "masks" / "bird.png")
    (tmp_path / "images").mkdir()
    Image.new("RGB", label.size).save(tmp_path / "images" / "bird.jpg")
    mask = read(tmp_path, ReadOptions()).splits["all"][0].read_mask()
    assert mask.shape == label.size[::-1]
    assert len(np.unique(mask)) == len(np.unique(np.array(label.convert("RGB")).reshape(-1, 3), axis=0))
