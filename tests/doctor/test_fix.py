import csv
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from segkit.cli import main
from segkit.config.schema import DataConfig
from segkit.datasets.shapes import draw_data_set
from segkit.doctor.check import check
from segkit.doctor.fix import Fixed, fix
from segkit.errors import DataError, RunFolderError
from segkit.loading.prepare import prepare_data


@pytest.fixture
def root(tmp_path: Path) -> Path:
    draw_data_set(tmp_path / "data", num_train=8, num_val=4, size_hw=(40, 56))
    return tmp_path / "data"


def names(root: Path, split: str) -> list[str]:
    return (root / "ImageSets" / "Segmentation" / f"{split}.txt").read_text().split()


def label(root: Path, name: str) -> Path:
    return root / "SegmentationClass" / f"{name}.png"


def stored(root: Path, name: str) -> np.ndarray:
    return np.array(Image.open(label(root, name)))


def write(root: Path, name: str, mask: np.ndarray) -> None:
    Image.fromarray(mask).save(label(root, name))


def fixed(root: Path, *, resize: bool = False) -> tuple[Path, Fixed, dict[str, str]]:
    """Return the repaired copy, what was said of it, and the change of each name."""
    output = root.parent / "fixed"
    done = fix(check(root).examined, output, resize=resize)
    rows = list(csv.DictReader((output / "changes.csv").read_text().splitlines()))
    return output, done, {row["name"]: row["change"] for row in rows}


def test_a_sound_data_set_comes_out_as_it_is(root: Path) -> None:
    output, done, changes = fixed(root)
    assert changes == {}
    assert done.counts == {"train": 8, "val": 4}
    for name in names(root, "train") + names(root, "val"):
        assert (stored(output, name) == stored(root, name)).all()
        image = Path("JPEGImages", f"{name}.jpg")
        assert (output / image).read_bytes() == (root / image).read_bytes()
    assert (output / "classes.txt").read_text() == (root / "classes.txt").read_text()
    assert prepare_data(DataConfig(root=str(output)), seed=0).classes.names[1] == "disc"


def in_colors(mask: np.ndarray) -> np.ndarray:
    return np.array([[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0]], np.uint8)[mask]  # VOC's, by class


REMAPPED: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "colours became ids": in_colors,
    "1 to 4 became 0 to 3": lambda mask: mask + 1,
}


@pytest.mark.parametrize("said", REMAPPED)
def test_values_become_ids(root: Path, said: str) -> None:
    everything = names(root, "train") + names(root, "val")
    truth = {name: stored(root, name) for name in everything}
    for name in everything:
        write(root, name, REMAPPED[said](truth[name]))
    output, done, changes = fixed(root)
    assert done.num_left_out == 0
    for name in everything:
        assert (stored(output, name) == truth[name]).all()
        assert said in changes[name]


def test_masks_of_0_and_255_become_0_and_1(root: Path) -> None:
    (root / "classes.txt").write_text("background\nobject\n")
    everything = names(root, "train") + names(root, "val")
    truth = {name: (stored(root, name) > 0).astype(np.uint8) for name in everything}
    for name in everything:
        write(root, name, truth[name] * 255)
    output, _, changes = fixed(root)
    assert all((stored(output, name) == truth[name]).all() for name in everything)
    assert changes[everything[0]] == "0 and 255 became 0 and 1"


def test_one_stray_id_moves_no_other_label(root: Path) -> None:
    everything = names(root, "train") + names(root, "val")
    truth = {name: stored(root, name) for name in everything}
    stray = truth[everything[0]].copy()
    stray[0, :3] = 4  # one more than the last class
    write(root, everything[0], stray)
    output, _, changes = fixed(root)
    assert list(changes) == everything[:1]
    assert all((stored(output, name) == truth[name]).all() for name in everything[1:])
    assert (stored(output, everything[0]) == np.where(stray == 4, 255, stray)).all()


def test_colours_that_are_not_those_of_the_classes_are_left_to_the_user(root: Path) -> None:
    name = names(root, "train")[0]
    write(root, name, np.array([[0, 0, 0], [9, 9, 200], [200, 9, 9], [9, 200, 9]], np.uint8)[stored(root, name)])
    assert fixed(root)[2][name] == "left out: what its label stores can't be told"


def test_colours_by_a_config_become_ids_in_its_order(root: Path, tmp_path: Path) -> None:
    colors = [[0, 0, 0], [9, 9, 200], [200, 9, 9], [9, 200, 9]]
    everything = names(root, "train") + names(root, "val")
    truth = {name: stored(root, name) for name in everything}
    for name in everything:
        write(root, name, np.array(colors, np.uint8)[truth[name]])
    (tmp_path / "c.yaml").write_text(f"data:\n  root: {root}\n  mask_values: {colors}\n")
    fix(check(tmp_path / "c.yaml").examined, tmp_path / "fixed")
    assert all((stored(tmp_path / "fixed", name) == truth[name]).all() for name in everything)
    assert "became 0 to 3" in (tmp_path / "fixed" / "changes.csv").read_text()


def test_palettes_that_changed_places_are_left_out(root: Path) -> None:
    name = names(root, "train")[0]
    mask = stored(root, name)
    mask[0, :2] = 1, 2
    palette = np.array(Image.open(label(root, names(root, "train")[1])).getpalette(), np.uint8).reshape(-1, 3)
    palette[[1, 2]] = palette[[2, 1]]
    image = Image.fromarray(np.array([0, 2, 1, 3], np.uint8)[mask])
    image.putpalette(palette.ravel().tolist())
    image.save(label(root, name))
    _, done, changes = fixed(root)
    assert changes[name].startswith("left out: its palette")
    assert done.counts["train"] == 7


def test_soft_borders_become_no_class(root: Path) -> None:
    name = names(root, "train")[0]
    mask = np.zeros((80, 112), np.uint8)
    mask[20:60, 20:60] = 2
    mask[18:20, 20:60] = 255
    small = cv2.resize(mask, (57, 41), interpolation=cv2.INTER_AREA)
    write(root, name, small)
    Image.new("RGB", (57, 41)).save(root / "JPEGImages" / f"{name}.jpg")
    output, _, changes = fixed(root)
    assert "nearest value" in changes[name]
    assert set(np.unique(stored(output, name))) <= {0, 1, 2, 255}
    assert (stored(output, name)[12:28, 12:28] == 2).all()


def test_labels_of_other_values_are_left_out_rather_than_emptied(root: Path) -> None:
    for name in names(root, "train") + names(root, "val"):
        write(root, name, stored(root, name) * 60)
    with pytest.raises(DataError, match="not one image is left"):
        fixed(root)


def test_a_label_that_would_be_emptied_is_left_out(root: Path) -> None:
    name = names(root, "train")[0]
    mask = stored(root, name)
    mask[: mask.shape[0] // 2] = 77
    write(root, name, mask)
    assert fixed(root)[2][name] == "left out: much of what it holds is no class"


def test_a_gif_called_jpg_keeps_its_name(root: Path) -> None:
    name = names(root, "train")[0]
    path = root / "JPEGImages" / f"{name}.jpg"
    with Image.open(path) as image:
        image.save(path, format="GIF")
    output = fixed(root)[0]
    assert (output / "JPEGImages" / f"{name}.jpg").read_bytes() == path.read_bytes()
    assert [finding for finding in check(output).findings if finding.severity == "error"] == []


def test_the_data_set_itself_is_no_place_to_write_to(root: Path) -> None:
    with pytest.raises(RunFolderError, match="is inside the data set"):
        fix(check(root).examined, root / "fixed")


def test_another_shape_is_not_squeezed(root: Path) -> None:
    name = names(root, "train")[0]
    write(root, name, np.repeat(stored(root, name), 2, axis=0))
    assert fixed(root, resize=True)[2][name].startswith("left out: the label is")


def test_split_files_that_were_not_looked_at_are_named(root: Path) -> None:
    shutil.copy(root / "ImageSets/Segmentation/train.txt", root / "ImageSets/Segmentation/trainval.txt")
    output = fixed(root)[0]
    assert "trainval.txt,split file not copied" in (output / "changes.csv").read_text()


def test_ids_that_are_no_class_become_ignored(root: Path) -> None:
    name = names(root, "train")[0]
    mask = stored(root, name)
    mask[:3] = 9
    write(root, name, mask)
    output, _, changes = fixed(root)
    assert (stored(output, name)[:3] == 255).all()
    assert (stored(output, name)[3:] == mask[3:]).all()
    assert "became ignored" in changes[name]


def test_a_jpeg_of_a_black_and_white_mask_gets_its_two_classes_back(root: Path) -> None:
    (root / "classes.txt").write_text("background\nobject\n")
    everything = names(root, "train") + names(root, "val")
    truth = {name: (stored(root, name) > 0).astype(np.uint8) for name in everything}
    for name in everything:
        Image.fromarray(truth[name] * 255).convert("RGB").save(label(root, name).with_suffix(".jpg"), quality=90)
        label(root, name).unlink()
    output, _, changes = fixed(root)
    assert all((stored(output, name) == truth[name]).mean() > 0.995 for name in everything)
    assert "nearest value" in changes[everything[0]]


def test_a_jpeg_whose_values_say_nothing_is_left_out(root: Path) -> None:
    name = names(root, "train")[0]
    Image.fromarray(stored(root, name) * 60).save(label(root, name).with_suffix(".jpg"))
    label(root, name).unlink()
    output, done, changes = fixed(root)
    assert changes[name] == "left out: its values are far from those of the classes"
    assert done.counts["train"] == 7
    assert name not in names(output, "train")


def test_sizes_are_made_equal_only_when_asked(root: Path) -> None:
    name = names(root, "train")[0]
    mask = stored(root, name)
    write(root, name, np.repeat(np.repeat(mask, 2, axis=0), 2, axis=1))
    output, _, changes = fixed(root)
    assert changes[name].startswith("left out: the label is")
    shutil.rmtree(output)
    output, _, changes = fixed(root, resize=True)
    assert (stored(output, name) == mask).all()
    assert changes[name].startswith("label resized")


def test_a_transposed_label_is_left_out_even_then(root: Path) -> None:
    name = next(n for n in names(root, "train") if len(set(stored(root, n).shape)) == 2)
    write(root, name, np.rot90(stored(root, name)).copy())
    assert fixed(root, resize=True)[2][name].startswith("left out: the label is")


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_labels_are_turned_as_exif_turns_their_images(root: Path, orientation: int) -> None:
    name = next(n for n in names(root, "train") if len(set(stored(root, n).shape)) == 2)
    path = root / "JPEGImages" / f"{name}.jpg"
    with Image.open(path) as image:
        exif = image.getexif()
        exif[0x0112] = orientation
        image.save(path, exif=exif)
    as_image = Image.fromarray(stored(root, name))
    as_image.getexif()[0x0112] = orientation
    expected = np.array(ImageOps.exif_transpose(as_image))
    output, _, changes = fixed(root)
    assert (stored(output, name) == expected).all()
    assert f"orientation {orientation}" in changes[name]


def test_split_files_are_cleaned_and_the_measuring_split_keeps_what_two_have(root: Path) -> None:
    train, val = names(root, "train"), names(root, "val")
    shutil.copy(root / "JPEGImages" / f"{val[1]}.jpg", root / "JPEGImages" / "copy.jpg")
    shutil.copy(label(root, val[1]), label(root, "copy"))
    split = root / "ImageSets" / "Segmentation" / "train.txt"
    split.write_text("\n".join([*train, train[0], val[0], "copy", "nobody", "../../etc/passwd"]))
    output, _, changes = fixed(root)
    assert names(output, "train") == train
    assert names(output, "val") == val
    assert "it is in val too" in changes[val[0]]
    assert "it is in val too" in changes["copy"]
    assert changes["nobody"] == "left out: no image"


def test_wrong_suffixes_are_put_right(root: Path) -> None:
    name = names(root, "train")[0]
    path = root / "JPEGImages" / f"{name}.jpg"
    Image.open(path).save(path, format="PNG")
    output, _, changes = fixed(root)
    assert (output / "JPEGImages" / f"{name}.png").read_bytes() == path.read_bytes()
    assert "right suffix" in changes[name]


def test_the_copy_is_clean(root: Path) -> None:
    train = names(root, "train")
    sound = {finding.code for finding in check(root).findings}
    write(root, train[0], np.full((40, 56), 200, np.uint8))
    label(root, train[1]).unlink()
    jpeg = label(root, train[2]).with_suffix(".jpg")
    Image.fromarray(stored(root, train[2])).save(jpeg, quality=100)
    label(root, train[2]).unlink()
    shutil.copy(label(root, train[3]), label(root, "nobody"))
    split = root / "ImageSets" / "Segmentation" / "train.txt"
    split.write_text("\n".join([*train, train[0]]))
    before = {finding.code for finding in check(root).findings}
    assert before >= {"unknown-id", "missing-label", "jpeg-label", "spare-label", "split-file"}
    output = fixed(root, resize=True)[0]
    left = {finding.code for finding in check(output).findings}
    assert left <= sound  # what the set was like before it was spoiled, such as few images to validate on


def test_a_folder_with_something_in_it_is_refused(root: Path, tmp_path: Path) -> None:
    (tmp_path / "fixed").mkdir()
    (tmp_path / "fixed" / "thesis.txt").write_text("work")
    with pytest.raises(RunFolderError, match="expected an empty folder"):
        fixed(root)


def test_nothing_left_is_said(root: Path) -> None:
    for name in names(root, "train") + names(root, "val"):
        label(root, name).unlink()
    with pytest.raises(DataError, match="not one image is left"):
        fixed(root)


def test_the_command_says_what_was_written_and_how_to_train_on_it(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    label(root, names(root, "train")[0]).unlink()
    words = ["check", str(root), "--html", str(tmp_path / "c.html"), "--fix", str(tmp_path / "out")]
    assert main(words) == 2
    said = capsys.readouterr().out
    assert "(train 7, val 4); 1 image left out, 1 changes" in said
    assert f"data.layout=voc data.root={tmp_path / 'out'}" in said


def test_resize_alone_has_no_effect_and_is_refused(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(root), "--resize"]) == 2
    assert "--resize: without effect" in capsys.readouterr().err
