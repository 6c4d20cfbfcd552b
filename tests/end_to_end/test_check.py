"""Each finding on a data set spoiled for it, and silence on sound ones."""

import shlex
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from segkit.cli import main
from segkit.datasets.shapes import draw_data_set
from segkit.doctor.check import Checked, check, write_page
from segkit.doctor.examination import Examined, Finding
from segkit.doctor.findings import files, labels, splits
from segkit.errors import ConfigError, DataError

Rule = Callable[[Examined], Finding | None]


class DataSet:
    """A drawn data set in VOC layout that a test may spoil: 24 images to train on, 12 to validate, 4 classes."""

    def __init__(self, root: Path) -> None:
        self.root = self.source = root  # a test may check a config instead
        self.names = [(root / "ImageSets/Segmentation" / f"{s}.txt").read_text().split() for s in ("train", "val")]
        self.name = self.names[0][0]

    @property
    def train(self) -> list[str]:
        return self.names[0]

    @property
    def val(self) -> list[str]:
        return self.names[1]

    def image(self, name: str) -> Path:
        return self.root / "JPEGImages" / f"{name}.jpg"

    def label(self, name: str) -> Path:
        return self.root / "SegmentationClass" / f"{name}.png"

    def mask(self, name: str) -> np.ndarray:
        return np.array(Image.open(self.label(name)))

    def write(self, name: str, mask: np.ndarray) -> None:
        Image.fromarray(mask).save(self.label(name))

    def split(self, name: str) -> Path:
        return self.root / "ImageSets" / "Segmentation" / f"{name}.txt"

    def check(self) -> Checked:
        return check(self.source)

    def find(self, code: str) -> Finding:
        found = {finding.code: finding for finding in self.check().findings}
        assert code in found, list(found)
        return found[code]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("drawn")
    draw_data_set(root, num_train=24, num_val=12, size_hw=(64, 80))
    return root


@pytest.fixture
def clean(drawn: Path, tmp_path: Path) -> DataSet:
    shutil.copytree(drawn, tmp_path / "data")
    return DataSet(tmp_path / "data")


# ---- one way to spoil a data set for each finding: the code it must raise, and words of the line


def drop_image(data: DataSet) -> str:
    data.image(data.name).unlink()
    return f"{data.name}: named by a split"


def drop_label(data: DataSet) -> str:
    data.label(data.name).unlink()
    return f"{data.name}.jpg: no label"


def double(data: DataSet) -> str:
    shutil.copy(data.image(data.name), data.image(data.name).with_suffix(".png"))
    return data.name


def empty_image(data: DataSet) -> str:
    data.image(data.name).write_bytes(b"")
    return "0 bytes"


def truncate_image(data: DataSet) -> str:
    data.image(data.name).write_bytes(data.image(data.name).read_bytes()[:-300])
    return "damaged or truncated"


def text_image(data: DataSet) -> str:
    data.image(data.name).write_text("<html>404</html>")
    return "not an image"


def truncate_label(data: DataSet) -> str:
    data.label(data.name).write_bytes(data.label(data.name).read_bytes()[:-40])
    return data.label(data.name).name


def rename_png(data: DataSet) -> str:
    Image.open(data.image(data.name)).save(data.image(data.name), format="PNG")
    return "a PNG file"


def add_label(data: DataSet) -> str:
    shutil.copy(data.label(data.name), data.label("nobody"))
    return "nobody.png: no image"


def add_gif(data: DataSet) -> str:
    Image.open(data.image(data.name)).save(data.image("moving").with_suffix(".gif"))
    return "moving.gif"


def unlist(data: DataSet) -> str:
    data.split("train").write_text("\n".join(data.train[1:]))
    return data.name


def repeat_line(data: DataSet) -> str:
    data.split("train").write_text("\n".join([*data.train, data.name]))
    return f"'{data.name}' is listed twice"


def cut_label(data: DataSet) -> str:
    data.write(data.name, data.mask(data.name)[:-5])
    return data.label(data.name).name


def turn_label(data: DataSet) -> str:
    name = next(n for n in data.train if len(set(data.mask(n).shape)) == 2)
    data.write(name, np.rot90(data.mask(name)).copy())
    return f"{name}.png"


def turn_image_by_exif(data: DataSet) -> str:
    name = next(n for n in data.train if len(set(data.mask(n).shape)) == 2)
    set_orientation(data, name, 6)
    return "EXIF orientation 6"


def mirror_image_by_exif(data: DataSet) -> str:
    set_orientation(data, data.name, 2)
    return "EXIF orientation 2"


def set_orientation(data: DataSet, name: str, orientation: int) -> None:
    with Image.open(data.image(name)) as image:
        exif = image.getexif()
        exif[0x0112] = orientation
        image.save(data.image(name), exif=exif)


def as_jpeg(data: DataSet) -> str:
    Image.open(data.label(data.name)).convert("L").save(data.label(data.name).with_suffix(".jpg"))
    data.label(data.name).unlink()
    return f"{data.name}.jpg: L"


def as_rgb(data: DataSet) -> str:
    Image.open(data.label(data.name)).convert("RGB").save(data.label(data.name))
    return f"{data.name}.png: RGB"


def as_rgba(data: DataSet) -> str:
    Image.open(data.label(data.name)).convert("RGBA").save(data.label(data.name))
    return f"{data.name}.png: RGBA"


def foreign_id(data: DataSet) -> str:
    mask = data.mask(data.name)
    mask[:2, :3] = 77
    data.write(data.name, mask)
    return "77 (6 pixels)"


def all_from_one(data: DataSet) -> str:
    for name in data.train + data.val:
        data.write(name, data.mask(name) + 1)
    return "4 ("


def deep(data: DataSet) -> str:
    data.write(data.name, data.mask(data.name).astype(np.uint16) * 1000)
    return "I;16"


def soft(data: DataSet) -> str:
    mask = (data.mask(data.name) > 0).astype(np.uint8) * 255
    small = cv2.resize(mask, (40, 32), interpolation=cv2.INTER_AREA)
    data.write(data.name, cv2.resize(small, mask.shape[::-1], interpolation=cv2.INTER_LINEAR))
    return "different values"


def other_palettes(data: DataSet) -> str:
    for k, name in enumerate(data.train[:3]):  # the colours of 1 and 2 are swapped in the file, as quantisers do it
        mask = data.mask(name)
        mask[0, :2] = 1, 2
        swapped = Image.fromarray(np.choose(mask, [0, 2, 1, 3]).astype(np.uint8))
        palette = np.array(Image.open(data.label(data.train[5 + k])).getpalette(), np.uint8).reshape(-1, 3)
        palette[[1, 2]] = palette[[2, 1]]
        swapped.putpalette(palette.ravel().tolist())
        swapped.save(data.label(name))
    return "the colour of"


def ignore_all(data: DataSet) -> str:
    data.write(data.name, np.full_like(data.mask(data.name), 255))
    return f"{data.name}.png: every pixel is ignored"


def ignore_split(data: DataSet) -> str:
    for name in data.val:
        data.write(name, np.full_like(data.mask(name), 255))
    return "val: not one labelled pixel in 12 images"


def only_background(data: DataSet) -> str:
    data.write(data.name, np.zeros_like(data.mask(data.name)))
    return f"{data.name}.png: 'background' alone"


def nearly_all_background(data: DataSet) -> str:
    for name in data.train[1:] + data.val[1:]:
        data.write(name, np.zeros_like(data.mask(name)))
    return "'background' alone"


def drop_class(data: DataSet) -> str:
    for name in data.train:
        mask = data.mask(name)
        data.write(name, np.where(mask == 3, 0, mask).astype(np.uint8))
    return "train: no pixel of 1 of 4 classes, which can't be learned: star"


def write_twelve_bits(data: DataSet) -> str:
    """Replace two images by 16-bit ones, as microscopes and industrial cameras write them."""
    for name, highest in zip(data.train[:2], (4095, 1023), strict=True):
        stored = np.linspace(0, highest, 64 * 80).reshape(64, 80).astype(np.uint16)
        Image.fromarray(stored).save(data.image(name).with_suffix(".png"))
        data.image(name).unlink()
        data.write(name, np.arange(64 * 80).reshape(64, 80).astype(np.uint8) % 4)
    return f"{data.name}.png: up to 4095 of 65535"


def make_rare(data: DataSet) -> str:
    drop_class(data)
    mask = data.mask(data.name)
    mask[0, 0] = 3
    data.write(data.name, mask)
    return "in 1 image of train"


def shorten_val(data: DataSet) -> str:
    data.split("val").write_text("\n".join(data.val[:3]))
    return "val: 3 images, expected 10 or more"


def in_both(data: DataSet) -> str:
    data.split("val").write_text("\n".join([*data.val, data.name]))
    return f"{data.name}: in 'train' and in 'val'"


def copy_image(data: DataSet, target: str, split: str) -> None:
    shutil.copy(data.image(data.name), data.image(target))
    shutil.copy(data.label(data.name), data.label(target))
    data.split(split).write_text(data.split(split).read_text() + f"\n{target}")


def same_bytes_across(data: DataSet) -> str:
    copy_image(data, "again", "val")
    return "again.jpg (val)"


def same_bytes_within(data: DataSet) -> str:
    copy_image(data, "again", "train")
    data.write("again", np.zeros_like(data.mask(data.name)))
    return "their labels differ"


def nearly_same(data: DataSet) -> str:
    copy_image(data, "again", "val")
    image = Image.open(data.image(data.name))
    image.point(lambda value: min(255, int(value * 1.08))).save(data.image("again"), quality=80)
    return "again.jpg (val)"


def sequence(data: DataSet) -> str:
    """A camera that moves over one large image, its frames dealt to both splits."""
    rng = np.random.default_rng(0)
    world = cv2.resize(rng.integers(0, 255, (12, 60, 3), np.uint8), (600, 64), interpolation=cv2.INTER_CUBIC)
    for k in range(12):
        Image.fromarray(world[:, 3 * k : 3 * k + 80]).save(data.image(f"drive_{k:03d}"))
        data.write(f"drive_{k:03d}", np.full((64, 80), k % 4, np.uint8))
        split = data.split("val" if k % 3 == 0 else "train")
        split.write_text(split.read_text() + f"\ndrive_{k:03d}")
    return "drive_#: 8 in train, 4 in val"


def empty_train(data: DataSet) -> str:
    data.split("train").write_text("\n")
    return "train: no image"


def drop_val(data: DataSet) -> str:
    data.split("val").unlink()
    return "no split to validate on, among train"


def grey(data: DataSet) -> str:
    Image.open(data.image(data.name)).convert("L").save(data.image(data.name))
    return f"{data.name}.jpg"


def unname(data: DataSet) -> str:
    (data.root / "classes.txt").unlink()
    for name in data.train + data.val:
        data.write(name, (data.mask(name) > 0).astype(np.uint8) * 255)
    return "data.mask_values: [0, 255]"


def black_and_white(data: DataSet) -> str:
    (data.root / "classes.txt").write_text("background\nobject\n")
    for name in data.train + data.val:
        data.write(name, (data.mask(name) > 0).astype(np.uint8) * 255)
    return f"{data.name}.png: 0 and 255"


def expect_colors(data: DataSet) -> str:
    data.source = data.root.parent / "colors.yaml"
    data.source.write_text(f"data: {{root: {data.root}, mask_values: [[0, 0, 0], [1, 0, 0], [2, 0, 0], [3, 0, 0]]}}\n")
    return f"{data.name}.png: P"


SPOILED: list[tuple[Rule, str, str, Callable[[DataSet], str]]] = [
    (files.missing_images, "missing-image", "error", drop_image),
    (files.missing_labels, "missing-label", "error", drop_label),
    (files.same_names, "same-name", "error", double),
    (files.unreadable_images, "unreadable-image", "error", empty_image),
    (files.unreadable_images, "unreadable-image", "error", truncate_image),
    (files.unreadable_images, "unreadable-image", "error", text_image),
    (files.unreadable_labels, "unreadable-label", "error", truncate_label),
    (files.split_files, "split-file", "error", repeat_line),
    (files.sizes_differ, "size", "error", cut_label),
    (files.transposed, "transposed", "error", turn_label),
    (files.turned_by_exif, "exif", "error", turn_image_by_exif),
    (files.maybe_turned, "exif-unsure", "warning", mirror_image_by_exif),
    (labels.jpeg_labels, "jpeg-label", "error", as_jpeg),
    (labels.color_labels, "color-label", "error", as_rgb),
    (labels.color_labels, "color-label", "error", as_rgba),
    (labels.unknown_ids, "unknown-id", "error", foreign_id),
    (labels.unknown_ids, "unknown-id", "error", all_from_one),
    (labels.deep_labels, "deep-label", "error", deep),
    (labels.soft_labels, "soft-label", "error", soft),
    (labels.palettes_differ, "palette", "error", other_palettes),
    (splits.nothing_labelled, "no-label", "error", ignore_split),
    (splits.overlap_by_name, "overlap", "error", in_both),
    (splits.identical_across, "identical", "error", same_bytes_across),
    (splits.near_duplicates, "near-duplicate", "warning", nearly_same),
    (splits.sequences_across, "sequence", "warning", sequence),
    (splits.all_ignored, "all-ignored", "warning", ignore_all),
    (splits.background_only, "empty", "note", only_background),
    (splits.background_only, "empty", "warning", nearly_all_background),
    (splits.absent_classes, "absent-class", "warning", drop_class),
    (splits.rare_classes, "rare-class", "warning", make_rare),
    (splits.too_small, "small", "warning", shorten_val),
    (splits.identical_within, "copies", "warning", same_bytes_within),
    (files.spare_labels, "spare-label", "warning", add_label),
    (files.unread_formats, "unread-format", "warning", add_gif),
    (files.wrong_suffixes, "wrong-suffix", "warning", rename_png),
    (labels.unnamed_classes, "unnamed-classes", "warning", unname),
    (files.unlisted, "unlisted", "note", unlist),
    (splits.grey_images, "grey", "note", grey),
    (splits.low_bits, "low-bits", "note", write_twelve_bits),
    (splits.empty_splits, "empty-split", "error", empty_train),
    (splits.no_validation, "no-validation", "warning", drop_val),
    (labels.zero_255, "zero-255", "error", black_and_white),
    (labels.id_labels, "id-label", "error", expect_colors),
]


def test_a_sound_data_set_has_no_finding(clean: DataSet) -> None:
    checked = clean.check()
    assert checked.findings == []
    assert checked.exit_code == 0


@pytest.mark.parametrize(("rule", "code", "severity", "spoil"), SPOILED, ids=[spoil.__name__ for *_, spoil in SPOILED])
def test_each_fault_has_its_finding_file_and_remedy(
    clean: DataSet, rule: Rule, code: str, severity: str, spoil: Callable[[DataSet], str]
) -> None:
    words = spoil(clean)
    checked = clean.check()
    found = rule(checked.examined)
    assert found is not None, checked.findings
    assert found in checked.findings
    assert (found.code, found.severity) == (code, severity)
    assert any(words in line for line in found.lines), found.lines
    assert found.remedy
    expected = {"error": 2, "warning": 1, "note": 0}
    assert checked.exit_code == max(expected[finding.severity] for finding in checked.findings)


def test_masks_that_label_little_are_no_fault_where_that_is_meant(clean: DataSet) -> None:
    ignore_all(clean)
    checked = clean.check()
    assert "all-ignored" in {finding.code for finding in checked.findings}
    meant = replace(checked.examined, data=replace(checked.examined.data, unlabeled="ignore"))
    assert splits.all_ignored(meant) is None


def test_every_rule_is_provoked_above_and_has_a_code_of_its_own() -> None:
    codes_of = {rule: {code for other, code, *_ in SPOILED if other is rule} for rule in splits.RULES}
    assert {rule.__name__ for rule, found in codes_of.items() if len(found) != 1} == set()
    assert len(set().union(*codes_of.values())) == len(splits.RULES)


@pytest.mark.parametrize("name", ["camvid", "voc2012_sample", "weizmann_horses", "drive", "leaf_black_rot"])
def test_real_data_sets_have_no_error(shared_data: Callable[[str], Path], name: str) -> None:
    checked = check(shared_data(name))
    assert [finding for finding in checked.findings if finding.severity == "error"] == []


def test_camvid_is_distinguished_from_numbered_photos(shared_data: Callable[[str], Path]) -> None:
    camvid = {finding.code: finding for finding in check(shared_data("camvid")).findings}
    assert camvid["sequence"].lines == ("0016E5_#: 204 in train, 101 in val", "0001TP_#: 62 in train, 62 in test")
    horses = {finding.code: finding for finding in check(shared_data("weizmann_horses")).findings}
    assert "sequence" not in horses


def test_the_photo_that_weizmann_horses_have_in_both_splits_is_found(shared_data: Callable[[str], Path]) -> None:
    """horse175 and horse205 differ in a few grey levels only; nothing else there is alike."""
    found = {finding.code: finding for finding in check(shared_data("weizmann_horses")).findings}
    (line,) = found["near-duplicate"].lines
    assert "horse175.jpg (train)" in line
    assert "horse205.jpg (val)" in line


# ---- the words of remedies


def test_masks_of_0_and_255_are_named_with_the_line_that_reads_them(clean: DataSet) -> None:
    black_and_white(clean)
    assert "data.mask_values: [0, 255]" in clean.find("zero-255").remedy
    for name in clean.train:
        clean.write(name, clean.mask(name) // 255)
    assert "zero-255" not in {finding.code for finding in clean.check().findings}


def test_ids_that_start_at_1_come_with_their_values(clean: DataSet) -> None:
    all_from_one(clean)
    found = clean.find("unknown-id")
    assert found.title == "ids that start at 1"
    assert "data.mask_values: [1, 2, 3, 4]" in found.remedy


def test_instances_are_called_instances(clean: DataSet) -> None:
    for k, name in enumerate(clean.train[:8]):
        mask = np.zeros((64, 80), np.uint8)
        for number in range(5 + k):
            mask[5 * number : 5 * number + 4, 4:20] = number + 1
        clean.write(name, mask)
        Image.new("RGB", (80, 64), (9, 99, k)).save(clean.image(name))
    assert "instances" in clean.find("unknown-id").title


def test_the_colour_table_is_found(clean: DataSet) -> None:
    colors = np.array([[0, 0, 0], [10, 20, 30], [40, 50, 60], [70, 80, 90]], np.uint8)
    for name in clean.train + clean.val:
        clean.write(name, colors[clean.mask(name)])
    remedy = clean.find("color-label").remedy
    assert all(str(color) in remedy for color in colors.tolist())
    assert remedy.index("[0, 0, 0]") < min(remedy.index(str(color)) for color in colors.tolist()[1:])


def test_other_colours_under_the_same_ids_alone_are_a_warning(clean: DataSet) -> None:
    image = Image.open(clean.label(clean.name))
    image.putpalette([200 + k % 50 for k in range(768)])
    image.save(clean.label(clean.name))
    assert clean.find("palette").severity == "warning"


def test_one_foreign_id_does_not_make_ids_start_at_1(clean: DataSet) -> None:
    mask = clean.mask(clean.name)
    mask[0, :3] = 4
    clean.write(clean.name, mask)
    found = clean.find("unknown-id")
    assert found.title == "ids that are no class"
    assert "data.ignore_values: [4]" in found.remedy


def test_values_as_many_as_classes_come_as_mask_values(clean: DataSet) -> None:
    for name in clean.train + clean.val:
        clean.write(name, clean.mask(name) * 60)
    assert "data.mask_values: [0, 60, 120, 180]" in clean.find("unknown-id").remedy


def test_masks_of_0_and_65535_come_with_the_line_that_reads_them(clean: DataSet) -> None:
    (clean.root / "classes.txt").write_text("background\nobject\n")
    for name in clean.train + clean.val:
        clean.write(name, (clean.mask(name) > 0).astype(np.uint16) * 65535)
    assert "data.mask_values: [0, 65535]" in clean.find("deep-label").remedy


def test_values_below_0_are_called_so(clean: DataSet) -> None:
    path = clean.label(clean.name).with_suffix(".tif")
    Image.fromarray(clean.mask(clean.name).astype(np.int32) - 1).save(path)
    clean.label(clean.name).unlink()
    assert "below 0" in clean.find("deep-label").remedy


# ---- no false alarms


def codes(data: DataSet) -> set[str]:
    return {finding.code for finding in data.check().findings}


def test_a_hundred_classes_are_no_fault(clean: DataSet) -> None:
    (clean.root / "classes.txt").write_text("\n".join(f"c{k}" for k in range(100)))
    for name in clean.train + clean.val:
        mask = clean.mask(name)
        mask.flat[:100] = np.arange(100)
        clean.write(name, mask)
    assert codes(clean) <= {"rare-class"}


def test_a_palette_of_one_colour_is_no_swap(clean: DataSet) -> None:
    image = Image.open(clean.label(clean.name))
    image.putpalette([0] * 768)
    image.save(clean.label(clean.name))
    assert clean.find("palette").severity == "warning"


def test_a_test_split_without_labels_is_a_warning(clean: DataSet) -> None:
    for k in range(10):
        Image.new("RGB", (80, 64), (k, 99, 200)).save(clean.image(f"t{k}"))
        clean.write(f"t{k}", np.full((64, 80), 255, np.uint8))
    clean.split("test").write_text("\n".join(f"t{k}" for k in range(10)))
    assert clean.find("no-label").severity == "warning"


def test_a_strange_exif_orientation_is_none(clean: DataSet) -> None:
    set_orientation(clean, clean.name, 300)
    assert codes(clean) == set()


def test_a_jpeg_preview_beside_a_label_is_not_the_label(clean: DataSet) -> None:
    for name in clean.train:
        Image.open(clean.image(name)).save(clean.label(name).with_suffix(".jpg"))
    assert codes(clean) == set()


def test_what_0_and_255_cause_is_said_once(clean: DataSet) -> None:
    black_and_white(clean)
    assert codes(clean) == {"zero-255"}


# ---- what must not be missed


def test_a_copy_within_val_is_found_beside_one_in_train(clean: DataSet) -> None:
    copy_image(clean, "first", "val")
    copy_image(clean, "second", "val")
    found = {finding.code: finding for finding in clean.check().findings}
    assert len(found["identical"].lines) == 1
    assert "second.jpg (val)" in found["copies"].lines[0]


def test_a_fixed_camera_is_found_however_many_images_it_took(clean: DataSet) -> None:
    rng = np.random.default_rng(0)
    scene = cv2.resize(rng.integers(0, 255, (6, 8, 3), np.uint8), (80, 64), interpolation=cv2.INTER_CUBIC)
    for k in range(300):
        shown = scene.copy()
        shown[k % 64, k % 80] = k % 256
        Image.fromarray(shown).save(clean.image(f"cam{k}"), quality=95)
        clean.write(f"cam{k}", np.full((64, 80), k % 4, np.uint8))
        split = clean.split("val" if k % 2 else "train")
        split.write_text(split.read_text() + f"\ncam{k}")
    assert len(clean.find("near-duplicate").lines) > 100


def test_training_on_the_validation_split_is_an_overlap(clean: DataSet, tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(f"data:\n  root: {clean.root}\n  val: train\n")
    assert "overlap" in {finding.code for finding in check(config).findings}


def test_a_test_split_that_a_held_out_share_takes_from_is_an_overlap(clean: DataSet, tmp_path: Path) -> None:
    (clean.root / "JPEGImages").rename(clean.root / "images")
    (clean.root / "SegmentationClass").rename(clean.root / "masks")
    (clean.root / "test.txt").write_text("\n".join(clean.val))
    config = tmp_path / "c.yaml"
    config.write_text(f"data:\n  root: {clean.root}\n  layout: folders\n  val_fraction: 0.25\n")
    found = {finding.code: finding for finding in check(config).findings}
    assert len(found["overlap"].lines) == len(clean.val)


def test_an_image_that_goes_away_meanwhile_is_left_out_of_the_page(clean: DataSet, tmp_path: Path) -> None:
    foreign_id(clean)
    checked = clean.check()
    clean.image(clean.name).unlink()
    write_page(checked, tmp_path / "c.html")
    assert "77 (6 pixels)" in (tmp_path / "c.html").read_text()


# ---- remedies do what they say


def test_the_command_against_sequences_parts_them(clean: DataSet) -> None:
    sequence(clean)
    remedy = clean.find("sequence").remedy
    words = shlex.split(remedy[remedy.index("segkit split") :])
    assert main(words[1:]) == 0
    assert "sequence" not in codes(clean)


def test_labels_under_other_names_come_with_the_command_that_pairs_them(clean: DataSet, tmp_path: Path) -> None:
    for name in clean.train + clean.val:
        clean.label(name).rename(clean.label(f"{name}_mask"))
    remedy = clean.find("missing-label").remedy
    words = shlex.split(remedy[remedy.index("segkit convert") :])
    assert main([*words[1:-1], str(tmp_path / "out")]) == 0
    assert len(list((tmp_path / "out" / "SegmentationClass").iterdir())) == 36


def test_names_without_their_folder_are_told_where_they_are(clean: DataSet) -> None:
    for folder, suffix in (("JPEGImages", "jpg"), ("SegmentationClass", "png")):
        (clean.root / folder / "s0").mkdir()
        path = clean.root / folder / f"{clean.name}.{suffix}"
        path.rename(clean.root / folder / "s0" / path.name)
    assert "without its folder" in clean.find("missing-image").remedy


@pytest.mark.parametrize(("channels", "suffix"), [(1, "png"), (1, "tif"), (3, "png"), (3, "tif"), (4, "png")])
@pytest.mark.parametrize("highest", [1023, 4095, 4096, 65535])
def test_sixteen_bit_images_of_twelve_bits_are_noted(clean: DataSet, channels: int, suffix: str, highest: int) -> None:
    for name in clean.train:
        stored = np.full((64, 80, channels), highest // 3, np.uint16)
        stored[:8, :8] = highest
        stored[..., 3:] = 65535  # alpha says nothing of the pixels
        clean.image(name).unlink()
        assert cv2.imwrite(str(clean.image(name).with_suffix(f".{suffix}")), stored)
    found = {finding.code: finding for finding in clean.check().findings}
    assert ("low-bits" in found) == (highest < 4096)
    if highest < 4096:
        assert len(found["low-bits"].lines) == len(clean.train)
        assert f"by {65536 // (highest + 1)}" in found["low-bits"].remedy


def test_one_bright_image_shows_that_all_use_sixteen_bits(clean: DataSet) -> None:
    write_twelve_bits(clean)
    Image.fromarray(np.full((64, 80), 60000, np.uint16)).save(clean.image(clean.train[2]).with_suffix(".png"))
    clean.image(clean.train[2]).unlink()
    assert "low-bits" not in codes(clean)


# ---- sources


def sizes(checked: Checked) -> dict[str, int]:
    return {split: len(indices) for split, indices in checked.examined.inventory.splits.items()}


def test_a_config_s_own_splits_and_classes_count(clean: DataSet, tmp_path: Path) -> None:
    clean.split("mine").write_text("\n".join(clean.train[:20]))
    config = tmp_path / "c.yaml"
    config.write_text(f"data:\n  root: {clean.root}\n  train: mine\n")
    checked = check(config, ["data.val=val"])
    assert {split: len(indices) for split, indices in checked.examined.inventory.splits.items()} == {
        "mine": 20,
        "val": 12,
    }


def test_a_share_held_out_by_seed_is_checked_as_training_would_draw_it(clean: DataSet, tmp_path: Path) -> None:
    (clean.root / "JPEGImages").rename(clean.root / "images")
    (clean.root / "SegmentationClass").rename(clean.root / "masks")
    config = tmp_path / "c.yaml"
    config.write_text(f"data:\n  root: {clean.root}\n  layout: folders\n  val_fraction: 0.25\n")
    checked = check(config)
    assert {split: len(indices) for split, indices in checked.examined.inventory.splits.items()} == {
        "train": 27,
        "val": 9,
    }
    assert checked.exit_code < 2


def test_shards_are_checked_too(clean: DataSet, tmp_path: Path) -> None:
    assert main(["convert", str(clean.root), "--to", "webdataset", str(tmp_path / "shards")]) == 0
    config = tmp_path / "c.yaml"
    config.write_text(f"data:\n  root: {tmp_path / 'shards'}\n  layout: webdataset\n")
    checked = check(config)
    assert checked.findings == []
    assert sizes(checked) == {"train": 24, "val": 12}


def test_sources_that_are_none_are_refused(tmp_path: Path, clean: DataSet) -> None:
    with pytest.raises(DataError, match="found nothing there, expected a data set's folder"):
        check(tmp_path / "nowhere")
    with pytest.raises(DataError, match="found a file that is no config"):
        check(clean.root / "classes.txt")
    with pytest.raises(DataError, match="found neither images/ and masks/"):
        check(tmp_path)
    with pytest.raises(ConfigError, match=r"data\.vall: unknown key"):
        check(clean.root, ["data.vall=val"])
    shutil.rmtree(clean.root / "JPEGImages")
    (clean.root / "JPEGImages").mkdir()
    clean.split("train").write_text("")
    clean.split("val").write_text("")
    with pytest.raises(DataError, match="no images"):
        check(clean.root)


# ---- the command


def test_the_command_prints_what_it_found_and_ends_with_its_code(
    clean: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["check", str(clean.root)]) == 0
    assert "nothing to complain about" in capsys.readouterr().out
    add_label(clean)
    assert main(["check", str(clean.root)]) == 1
    capsys.readouterr()
    foreign_id(clean)
    assert main(["check", str(clean.root)]) == 2
    said = capsys.readouterr().out
    assert "error:   ids that are no class: 1\n" in said
    assert said.index("error:") < said.index("warning: labels without an image")
    assert (tmp_path / "check.html").is_file()


def test_only_ten_files_are_printed(clean: DataSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in clean.train:
        clean.label(name).unlink()
    main(["check", str(clean.root), "--html", str(tmp_path / "c.html")])
    said = capsys.readouterr().out
    assert said.count(": no label") == 10
    assert "... and 14 more" in said


def test_the_page_is_written_where_the_user_is_and_not_beside_the_data(
    clean: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    before = sorted(clean.root.rglob("*"))
    main(["check", str(clean.root)])
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["check.html"]
    assert sorted(clean.root.rglob("*")) == before
    main(["check", str(clean.root), "--html", str(clean.root / "mine.html")])
    assert (clean.root / "mine.html").is_file()


def test_a_file_that_is_not_ours_is_not_overwritten(
    clean: DataSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "thesis.html").write_text("my work")
    assert main(["check", str(clean.root), "--html", str(tmp_path / "thesis.html")]) == 2
    assert "found something that segkit check didn't write" in capsys.readouterr().err
    assert (tmp_path / "thesis.html").read_text() == "my work"


def test_the_source_is_left_as_it_is(clean: DataSet, tmp_path: Path) -> None:
    foreign_id(clean)
    before = {path: path.read_bytes() for path in clean.root.rglob("*") if path.is_file()}
    main(["check", str(clean.root), "--html", str(tmp_path / "c.html"), "--fix", str(tmp_path / "fixed")])
    assert {path: path.read_bytes() for path in clean.root.rglob("*") if path.is_file()} == before
