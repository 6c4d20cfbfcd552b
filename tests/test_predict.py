import csv
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from segkit.errors import DataError, RunFolderError
from segkit.inference.predictor import Predictor
from segkit.predict import find_inputs, predict_files


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
    with (output / "predictions.csv").open() as file:
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


def test_a_bad_image_is_a_row_with_its_error_and_the_others_are_done(
    predictor: Predictor, images: Path, tmp_path: Path
) -> None:
    (images / "b.png").write_bytes(b"no image")
    results = predict_files(predictor, str(images), tmp_path / "out")
    assert [bool(result.error) for result in results] == [False, True, False]
    assert "b.png: not an image" in rows(tmp_path / "out")[1]["error"]
    assert not (tmp_path / "out" / "masks" / "b.png").exists()
    assert (tmp_path / "out" / "masks" / "a.png").exists()


def test_images_of_one_name_get_masks_of_two(predictor: Predictor, images: Path, tmp_path: Path) -> None:
    Image.new("RGB", (5, 5)).save(images / "a.png")
    predict_files(predictor, str(images), tmp_path / "out", overlays=False)
    assert {path.name for path in (tmp_path / "out" / "masks").glob("a*")} == {"a.jpg.png", "a.png.png"}


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


# ---- when something ends it


def test_rows_of_what_was_saved_are_kept_when_the_rest_fails(
    predictor: Predictor, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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
    with pytest.raises(KeyboardInterrupt):
        predict_files(predictor, str(images), tmp_path / "out")
    with (tmp_path / "out" / "predictions.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if not row["error"]]
    assert {Path(row["input"]).stem for row in rows} == saved()


def test_an_image_beyond_memory_is_a_row_with_its_error(
    predictor: Predictor, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Predictor, canvas: np.ndarray) -> torch.Tensor:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes")

    monkeypatch.setattr(Predictor, "canvas_logits", fail)
    results = predict_files(predictor, str(images), tmp_path / "out")
    assert all("too large for this machine's memory" in result.error for result in results)
