import csv
import os
import random
import sys
import time
import unicodedata
from collections import Counter
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from segkit.datasets.images import read_image
from segkit.errors import DataError, RunFolderError
from segkit.imaging.letterbox import LetterBox
from segkit.inference.predictor import Predictor
from segkit.predict import find_inputs, output_names, predict_files


@pytest.fixture(scope="module")
def predictor(checkpoint: Path) -> Predictor:
    return Predictor.load(checkpoint, device="cpu")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for name, hw in (("a.jpg", (40, 60)), ("b.png", (64, 64)), ("deep/er/c.d.jpg", (33, 90))):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (*hw, 3), np.uint8)).save(path)
    return tmp_path / "in"


def rows(output: Path) -> list[dict[str, str]]:
    with (output / "predictions.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


# ---- files


def test_a_folder_is_predicted_with_its_structure(predictor: Predictor, images: Path, tmp_path: Path) -> None:
    results = predict_files(predictor, str(images), tmp_path / "out")
    assert [result.error for result in results] == ["", "", ""]
    masks = sorted(
        path.relative_to(tmp_path / "out" / "masks").as_posix() for path in (tmp_path / "out" / "masks").rglob("*.png")
    )
    assert masks == ["a.png", "b.png", "deep/er/c.d.png"]
    assert (tmp_path / "out" / "overlays" / "deep" / "er" / "c.d.jpg").is_file()


def test_masks_are_palette_pngs_of_class_ids_at_the_original_size(
    predictor: Predictor, images: Path, tmp_path: Path
) -> None:
    predict_files(predictor, str(images / "a.jpg"), tmp_path / "out")
    with Image.open(tmp_path / "out" / "masks" / "a.png") as image:
        assert image.mode == "P"
        assert image.getpalette()[:9] == [0, 0, 0, 250, 0, 0, 0, 0, 250]  # type: ignore[index]
        assert np.array_equal(np.array(image), predictor(np.array(Image.open(images / "a.jpg"))))


def test_rows_hold_size_and_pixels_by_class(predictor: Predictor, images: Path, tmp_path: Path) -> None:
    predict_files(predictor, str(images), tmp_path / "out", overlays=False)
    found = rows(tmp_path / "out")
    assert [(row["height"], row["width"]) for row in found] == [("40", "60"), ("64", "64"), ("33", "90")]
    for row in found:
        assert sum(int(row[f"pixels_{name}"]) for name in predictor.classes.names) == int(row["height"]) * int(
            row["width"]
        )
        assert float(row["seconds"]) > 0
    assert not (tmp_path / "out" / "overlays").exists()


def test_masks_that_are_there_are_not_overwritten_unless_asked(
    predictor: Predictor, images: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    predict_files(predictor, str(images / "a.jpg"), out)
    (out / "masks" / "a.png").write_text("corrected by hand")
    with pytest.raises(RunFolderError, match="--overwrite"):
        predict_files(predictor, str(images / "a.jpg"), out)
    assert (out / "masks" / "a.png").read_text() == "corrected by hand"
    predict_files(predictor, str(images / "a.jpg"), out, overwrite=True)
    assert (out / "masks" / "a.png").read_bytes().startswith(b"\x89PNG")


def test_output_within_the_input_is_not_predicted_again(predictor: Predictor, images: Path) -> None:
    predict_files(predictor, str(images), images / "out")
    assert len(predict_files(predictor, str(images), images / "out", overwrite=True)) == 3


# ---- one bad input of many


def test_a_bad_image_is_a_row_with_its_error_and_the_others_are_done(
    predictor: Predictor, images: Path, tmp_path: Path
) -> None:
    (images / "b.png").write_bytes(b"no image")
    results = predict_files(predictor, str(images), tmp_path / "out")
    assert [bool(result.error) for result in results] == [False, True, False]
    assert "b.png: not an image" in rows(tmp_path / "out")[1]["error"]
    assert not (tmp_path / "out" / "masks" / "b.png").exists()
    assert (tmp_path / "out" / "masks" / "a.png").exists()


def error_of(output: Path, name: str) -> str:
    """Return the error in the row of the one input whose path ends so."""
    (row,) = (row for row in rows(output) if row["input"].endswith(name))
    return row["error"]


def predict_with_one_bad(predictor: Predictor, images: Path) -> Path:
    """Predict a folder of four, of which one is bad; return the output folder."""
    output = images.parent / "out"
    results = predict_files(predictor, str(images), output)
    assert sorted(bool(result.error) for result in results) == [False, False, False, True]
    assert len(list((output / "masks").rglob("*.png"))) == 3
    return output


def test_a_link_that_leads_to_itself_is_a_row_with_its_error(predictor: Predictor, images: Path) -> None:
    (images / "loop.jpg").symlink_to(images / "loop.jpg")
    assert "loop.jpg: can't read the image" in error_of(predict_with_one_bad(predictor, images), "loop.jpg")


def test_a_link_to_nothing_is_a_row_with_its_error(predictor: Predictor, images: Path) -> None:
    (images / "gone.jpg").symlink_to(images / "nothing.jpg")
    assert "gone.jpg: can't read the image" in error_of(predict_with_one_bad(predictor, images), "gone.jpg")


def test_a_pipe_is_a_row_with_its_error_and_nobody_waits_for_it(predictor: Predictor, images: Path) -> None:
    os.mkfifo(images / "pipe.jpg")
    assert "pipe.jpg: not a file" in error_of(predict_with_one_bad(predictor, images), "pipe.jpg")


def test_a_link_to_an_endless_device_is_a_row_with_its_error(predictor: Predictor, images: Path) -> None:
    (images / "zero.jpg").symlink_to("/dev/zero")
    assert "zero.jpg: not a file" in error_of(predict_with_one_bad(predictor, images), "zero.jpg")


def test_a_folder_with_the_name_of_an_image_is_searched(predictor: Predictor, images: Path, tmp_path: Path) -> None:
    (images / "deep").rename(images / "deep.jpg")
    results = predict_files(predictor, str(images), tmp_path / "out", overlays=False)
    assert [result.error for result in results] == ["", "", ""]
    assert (tmp_path / "out" / "masks" / "deep.jpg" / "er" / "c.d.png").is_file()


def test_a_name_too_long_for_the_output_is_a_row_with_its_error(predictor: Predictor, images: Path) -> None:
    name = "x" * 250  # with .jpg.png it would have 258 characters
    Image.new("RGB", (5, 5)).save(images / f"{name}.jpg")
    Image.new("RGB", (5, 5)).save(images / f"{name}.png")
    results = predict_files(predictor, str(images), images.parent / "out")
    assert ["name too long" in result.error for result in results] == [False, False, False, True, True]
    assert (images.parent / "out" / "overlays" / "deep" / "er" / "c.d.jpg").is_file()


def test_what_opencv_refuses_is_a_row_with_its_error(
    predictor: Predictor, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Predictor, image: np.ndarray) -> tuple[LetterBox, np.ndarray]:
        return cv2.resize(image, (0, 0))  # an error of OpenCV's own

    monkeypatch.setattr(Predictor, "letterbox", refuse)
    results = predict_files(predictor, str(images), tmp_path / "out")
    assert all("OpenCV" in result.error for result in results)
    assert len(rows(tmp_path / "out")) == 3


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_a_name_that_is_not_utf8_is_predicted_and_listed_readably(predictor: Predictor, images: Path) -> None:
    (images / "b.png").rename(os.fsdecode(os.fsencode(images / "caf") + b"\xe9.png"))
    output = images.parent / "out"
    results = predict_files(predictor, str(images), output)
    assert [result.error for result in results] == ["", "", ""]
    assert rows(output)[1]["input"] == str(images / "caf\\udce9.png")
    assert os.path.isfile(os.fsencode(output / "masks" / "caf") + b"\xe9.png")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_an_error_about_a_name_that_is_not_utf8_is_listed_readably(predictor: Predictor, images: Path) -> None:
    Path(os.fsdecode(os.fsencode(images / "caf") + b"\xe9.png")).write_bytes(b"")
    assert "caf\\udce9.png: the file is empty" in error_of(predict_with_one_bad(predictor, images), "udce9.png")


@pytest.mark.parametrize(("width", "suffix"), [(65_500, ".jpg"), (65_501, ".png")])
def test_an_image_too_wide_for_a_jpeg_gets_a_png_overlay(
    predictor: Predictor, tmp_path: Path, width: int, suffix: str
) -> None:
    image = np.full((2, width, 3), 90, np.uint8)
    Image.fromarray(image).save(tmp_path / "wide.png")
    (result,) = predict_files(predictor, str(tmp_path / "wide.png"), tmp_path / "out")
    assert not result.error
    (written,) = (tmp_path / "out" / "overlays").iterdir()
    assert written.name == f"wide{suffix}"
    assert read_image(written).shape == image.shape


def test_an_image_beyond_memory_is_a_row_with_its_error(
    predictor: Predictor, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Predictor, canvas: np.ndarray) -> torch.Tensor:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes")

    monkeypatch.setattr(Predictor, "canvas_logits", fail)
    results = predict_files(predictor, str(images), tmp_path / "out")
    assert all("too large for this machine's memory" in result.error for result in results)


# ---- names of outputs


def names_of(*relative: str) -> list[str]:
    return output_names([Path(name) for name in relative])


def test_an_output_is_named_as_its_input_without_suffix() -> None:
    assert names_of("a.jpg", "b.PNG", "deep/er/c.d.jpg", "no/suffix") == ["a", "b", "deep/er/c.d", "no/suffix"]


def test_suffixes_are_kept_where_names_would_be_equal_without_them() -> None:
    assert names_of("a.jpg", "a.png", "b.png", "in/a.jpg") == ["a.jpg", "a.png", "b", "in/a"]


def test_a_kept_suffix_does_not_take_the_name_of_another() -> None:
    assert names_of("a.jpg", "a.jpg.png", "a.png") == ["a.jpg", "a.jpg.png", "a.png"]


def test_names_that_differ_only_in_case_are_numbered() -> None:
    assert names_of("A.jpg", "a.jpg", "B/x.png", "b/y.png") == ["A.jpg", "a.jpg-2", "B/x", "b/y"]


def test_names_that_differ_only_in_how_an_accent_is_stored_are_numbered() -> None:
    assert names_of("caf\u00e9.jpg", "cafe\u0301.jpg") == ["caf\u00e9.jpg", "cafe\u0301.jpg-2"]


def test_a_file_is_not_named_as_a_folder_that_others_need() -> None:
    assert names_of("a.jpg", "a.png/b.jpg") == ["a.jpg", "a.png/b"]


def test_names_stay_below_the_output_folder() -> None:
    assert names_of("x/../../a.jpg", "../a.png", "...jpg") == ["x/a", "a", ".."]


def test_names_of_any_inputs_are_usable_together_on_any_file_system() -> None:
    """Names of few letters, so that stems, suffixes, cases and folders collide often."""
    rng = random.Random(0)
    words = ["a", "A", "b", "a.jpg", "A.PNG", "a.png-2", "a.jpg-2", "..", "\u00e9", "e\u0301", "\udce9"]
    numbered = 0
    for _ in range(3000):
        made = ["/".join(rng.choices(words, k=rng.choice((1, 1, 1, 2, 3)))) + rng.choice((".jpg", ".png", ".JPG"))
                for _ in range(rng.randint(1, 8))]  # fmt: skip
        relative = sorted({Path(name) for name in made})
        names = output_names(relative)
        folders = {as_stored(parent.as_posix()) for name in names for parent in PurePosixPath(name).parents}
        for suffix in (".png", ".jpg"):  # of masks and of overlays
            written = {as_stored(name + suffix) for name in names}
            assert len(written) == len(relative), relative
            assert not written & folders, relative
        assert all(".." not in PurePosixPath(name).parent.parts and not name.startswith("/") for name in names)
        plain = [path.with_suffix("").as_posix() for path in relative]
        counts = Counter(as_stored(name) for name in plain)
        if max(counts.values()) == 1 and not any(".." in name or "." in name for name in plain):
            assert names == plain
        numbered += any(name.endswith("-2") and path.suffix for name, path in zip(names, relative, strict=True))
    assert numbered > 100  # the set of words does make them collide


def as_stored(name: str) -> str:
    """Return what a file system that ignores case and how accents are stored takes a name for."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).lower())


def test_images_of_one_name_get_masks_of_two(predictor: Predictor, images: Path, tmp_path: Path) -> None:
    Image.new("RGB", (5, 5)).save(images / "a.png")
    predict_files(predictor, str(images), tmp_path / "out", overlays=False)
    assert {path.name for path in (tmp_path / "out" / "masks").glob("a*")} == {"a.jpg.png", "a.png.png"}


# ---- what an input may be


def test_a_pattern_finds_images_at_any_depth(images: Path) -> None:
    root, found = find_inputs(f"{images}/**/*.jpg", outside=Path("out"))
    assert root == images
    assert [path.name for path in found] == ["a.jpg", "c.d.jpg"]


def test_an_image_with_brackets_in_its_name_is_taken_as_it_is(images: Path) -> None:
    odd = images / "x[1].jpg"
    (images / "a.jpg").rename(odd)
    assert find_inputs(str(odd), outside=Path("out"))[1] == [odd]


@pytest.mark.parametrize(
    ("source", "words"),
    [("nowhere", "no such file or folder"), ("*.gif", "matches no image"), ("empty", "no images")],
)
def test_inputs_that_hold_no_image_are_named(tmp_path: Path, source: str, words: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=words):
        find_inputs(str(tmp_path / source), outside=Path("out"))


def test_a_pattern_follows_a_loop_of_folders_once(images: Path) -> None:
    (images / "deep" / "up").symlink_to(images)
    found = find_inputs(f"{images}/**/*.png", outside=Path("out"))[1]
    assert [path.relative_to(images).as_posix() for path in found] == ["b.png"]


def test_a_pattern_follows_links_to_folders_elsewhere(images: Path, tmp_path: Path) -> None:
    (images / "deep").rename(tmp_path / "elsewhere")
    (images / "link").symlink_to(tmp_path / "elsewhere")
    found = find_inputs(f"{images}/**/*.d.jpg", outside=Path("out"))[1]
    assert found == [images / "link" / "er" / "c.d.jpg"]


def test_a_pattern_that_matches_an_image_in_two_ways_lists_it_once(images: Path) -> None:
    found = find_inputs(f"{images}/**/**/*.jpg", outside=Path("out"))[1]
    assert [path.name for path in found] == ["a.jpg", "c.d.jpg"]


# ---- when something ends it


def test_rows_of_what_was_saved_are_kept_when_the_rest_fails(
    predictor: Predictor,
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    calls = []

    def saved() -> set[str]:
        return {path.stem for path in (tmp_path / "out" / "masks").rglob("*.png")}

    def stop_at_the_third(self: Predictor, canvas: np.ndarray) -> torch.Tensor:
        calls.append(1)
        if len(calls) == 3:
            while not saved():  # by another thread; what it hasn't begun by now is given up
                time.sleep(0.01)
            raise KeyboardInterrupt
        return torch.zeros(4, *predictor.canvas_hw)

    monkeypatch.setattr(Predictor, "canvas_logits", stop_at_the_third)
    with caplog.at_level("INFO", logger="segkit"), pytest.raises(KeyboardInterrupt):
        predict_files(predictor, str(images), tmp_path / "out")
    assert {Path(row["input"]).stem for row in rows(tmp_path / "out") if not row["error"]} == saved()
    assert f"{tmp_path / 'out' / 'predictions.csv'} lists what is done; --overwrite starts again" in caplog.text
