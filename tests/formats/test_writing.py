import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segkit.classes import Classes
from segkit.datasets.masks import read_label_values
from segkit.errors import DataError, RunFolderError
from segkit.formats.sample import NO_SPLIT, Sample, SampleSet
from segkit.formats.writing import (
    STALE_SECONDS,
    check_path,
    copy_image,
    describe_use,
    each_sample,
    encode_mask,
    fresh_folder,
    read_mask,
    refuse_inside,
    refuse_unless_empty,
    write_plainly,
)

# ---- the output folder


def test_an_empty_or_missing_folder_may_be_written_to(tmp_path: Path) -> None:
    refuse_unless_empty(tmp_path)
    refuse_unless_empty(tmp_path / "none")


def test_a_file_or_a_folder_that_holds_something_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for output in (tmp_path, tmp_path / "file"):
        with pytest.raises(RunFolderError, match="expected an empty folder or none"):
            refuse_unless_empty(output)


def test_only_the_source_itself_and_what_is_below_it_are_refused(tmp_path: Path) -> None:
    source = tmp_path / "set"
    source.mkdir()
    for output in (source, source / "x" / "y", tmp_path / "other" / ".." / "set" / "x"):
        with pytest.raises(RunFolderError, match="is inside the data set"):
            refuse_inside(source, output)
    for output in (tmp_path, tmp_path / "set2", tmp_path / "x"):
        refuse_inside(source, output)


def test_the_content_moves_to_the_output_at_the_end(tmp_path: Path) -> None:
    output = tmp_path / "a" / "b"
    with fresh_folder(output) as part:
        (part / "folder").mkdir()
        (part / "folder" / "x").write_text("1")
        (part / "y").write_text("2")
        assert not (output / "y").exists()
    assert sorted(path.relative_to(output).as_posix() for path in output.rglob("*")) == ["folder", "folder/x", "y"]


@pytest.mark.parametrize("exists", [True, False])
def test_a_failure_leaves_nothing_behind(tmp_path: Path, exists: bool) -> None:
    output = tmp_path / "a" / "b"
    if exists:
        output.mkdir(parents=True)

    def fail() -> None:
        with fresh_folder(output) as part:
            (part / "x").write_text("1")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert [*tmp_path.rglob("*")] == ([output.parent, output] if exists else [])


def test_what_another_program_wrote_meanwhile_stays(tmp_path: Path) -> None:
    def write_beside_another() -> None:
        with fresh_folder(tmp_path / "out") as part:
            (part / "x").write_text("1")
            (tmp_path / "out" / "other").write_text("2")

    with pytest.raises(RunFolderError, match="is not empty"):
        write_beside_another()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["other"]


def test_only_an_old_partial_folder_is_removed(tmp_path: Path) -> None:
    for name, age in (("old", STALE_SECONDS + 60), ("young", 60)):
        (tmp_path / f".segkit-part-{name}").mkdir()
        os.utime(tmp_path / f".segkit-part-{name}", (time.time() - age,) * 2)
    with fresh_folder(tmp_path) as part:
        (part / "x").write_text("1")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".segkit-part-young", "x"]


# ---- names and files


@pytest.mark.parametrize("name", ["a", "a/b.c", "..a", "a b/ü", "a..", "con:x"])
def test_a_relative_path_is_a_name(name: str) -> None:
    assert check_path(name, where="here") == name


@pytest.mark.parametrize(
    "name", ["", "/a", "a/", "a//b", ".", "a/../b", "..", "a\\b", "C:a", "x/c:/y", "a\nb", "\ud800"]
)
def test_a_path_that_leaves_the_folder_or_is_no_file_name_is_refused(name: str) -> None:
    with pytest.raises(DataError, match=r"here: found the name .*expected a relative path"):
        check_path(name, where="here")


@pytest.mark.parametrize(
    ("suffix", "form", "copied"), [("png", "PNG", "png"), ("JPG", "JPEG", "jpg"), ("png", "JPEG", "jpg")]
)
def test_an_image_is_copied_byte_for_byte_with_the_suffix_of_its_format(
    tmp_path: Path, suffix: str, form: str, copied: str
) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.new("RGB", (3, 2)).save(path, form)
    done = copy_image(Sample("x/b.c", path, lambda: np.zeros((2, 3), np.uint8)), tmp_path / "out")
    assert done == tmp_path / "out" / "x" / f"b.c.{copied}"
    assert done.read_bytes() == path.read_bytes()


def test_what_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFolderError, match=r"x: can't be written"):
        write_plainly(tmp_path / "file" / "x", b"1")


# ---- masks


def test_a_mask_of_another_size_than_its_image_is_refused(make_set: Callable[..., SampleSet]) -> None:
    (sample,) = make_set({"a": np.zeros((4, 6), np.uint8)}).splits[NO_SPLIT]
    assert read_mask(sample).shape == (4, 6)
    turned = replace(sample, read_mask=lambda: np.zeros((6, 4), np.uint8))
    with pytest.raises(DataError, match=r"a\.png: 6x4 pixels, its label 4x6, expected the same size"):
        read_mask(turned)


def test_an_encoded_mask_is_read_as_its_ids(tmp_path: Path) -> None:
    mask = np.array([[0, 1, 255], [1, 0, 0]], np.uint8)
    (tmp_path / "a.png").write_bytes(encode_mask(mask, Classes.build(["background", "cat"])))
    assert (read_label_values(tmp_path / "a.png") == mask).all()


def test_work_is_yielded_in_the_order_of_the_samples(make_set: Callable[..., SampleSet]) -> None:
    samples = make_set({f"{n:02d}": np.zeros((1, 1), np.uint8) for n in range(30)}).splits[NO_SPLIT]
    assert [*each_sample(lambda sample: sample.name, samples, title="x")] == [f"{n:02d}" for n in range(30)]


# ---- what to do next


@pytest.mark.parametrize(
    ("layout", "splits", "words"),
    [
        ("voc", ["train", "val"], ["data.root=OUT, without"]),
        ("voc", ["train", "test"], ["data.root=OUT data.val=test, without"]),
        ("voc", ["a", "b", "c"], ["data.root=OUT data.train=a data.val=b, without"]),
        ("voc", [NO_SPLIT], ["divide it: segkit split OUT --val 0.1", "data.root=OUT, without"]),
        ("voc", ["train"], ["divide it", "data.root=OUT, without"]),
        ("webdataset", [NO_SPLIT], ["data.root=OUT data.train=all data.val=all, without"]),
        ("webdataset", ["train"], ["data.root=OUT, without"]),
    ],
)
def test_the_settings_to_train_with_name_the_splits(layout: str, splits: list[str], words: list[str]) -> None:
    lines = describe_use(layout, Path("OUT"), splits)
    assert len(lines) == len(words)
    assert all(word in line for word, line in zip(words, lines, strict=True))
