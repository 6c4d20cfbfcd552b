import csv
import os
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import rasterio
import torch
from PIL import Image

from segkit.datasets.images import read_image
from segkit.datasets.masks import read_label_values
from segkit.errors import RunFolderError
from segkit.imaging.letterbox import LetterBox
from segkit.inference.predictor import Predictor
from segkit.predict import predict, predict_files
from segkit.prediction import strips
from segkit.prediction.job import prepare
from segkit.prediction.table import build_outputs


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
    def fail(self: Predictor, canvases: np.ndarray) -> torch.Tensor:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes")

    monkeypatch.setattr(Predictor, "canvases_logits", fail)
    results = predict_files(predictor, str(images), tmp_path / "out")
    assert all("too large for this machine's memory" in result.error for result in results)


def test_images_of_one_name_get_masks_of_two(predictor: Predictor, images: Path, tmp_path: Path) -> None:
    Image.new("RGB", (5, 5)).save(images / "a.png")
    predict_files(predictor, str(images), tmp_path / "out", overlays=False)
    assert {path.name for path in (tmp_path / "out" / "masks").glob("a*")} == {"a.jpg.png", "a.png.png"}


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

    def stop_at_the_third(self: Predictor, canvases: np.ndarray) -> torch.Tensor:
        calls.append(1)
        if len(calls) == 3:
            while not saved():  # by another thread; what it hasn't begun by now is given up
                time.sleep(0.01)
            raise KeyboardInterrupt
        return torch.zeros(1, 3, *predictor.canvas_hw)

    monkeypatch.setattr(Predictor, "canvases_logits", stop_at_the_third)
    with caplog.at_level("INFO", logger="segkit"), pytest.raises(KeyboardInterrupt):
        predict_files(predictor, str(images), tmp_path / "out")
    assert {Path(row["input"]).stem for row in rows(tmp_path / "out") if not row["error"]} == saved()
    assert f"{tmp_path / 'out' / 'predictions.csv'} lists what is done; --skip-existing continues" in caplog.text


def files_of(folder: Path) -> dict[str, bytes]:
    """Return every file but predictions.csv, which holds times."""
    paths = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".csv"]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def untimed(output: Path) -> list[dict[str, str]]:
    return [{name: cell for name, cell in row.items() if name != "seconds"} for row in rows(output)]


def test_a_stopped_job_continues_to_the_same_files_and_rows(
    predictor: Predictor, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    predict_files(predictor, str(images), straight)
    whole, calls = Predictor.canvases_logits, []

    def stop_at_the_second(self: Predictor, canvases: np.ndarray) -> torch.Tensor:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return torch.as_tensor(whole(self, canvases))

    with monkeypatch.context() as patch:
        patch.setattr(Predictor, "canvases_logits", stop_at_the_second)
        with pytest.raises(KeyboardInterrupt):
            predict_files(predictor, str(images), stopped)
    monkeypatch.setattr(
        Predictor, "canvases_logits", lambda self, canvases: (calls.append(1), whole(self, canvases))[1]
    )
    (stopped / "masks" / "b.png").unlink(missing_ok=True)
    calls.clear()
    before = len(files_of(stopped / "masks"))
    predict_files(predictor, str(images), stopped, skip_existing=True)
    assert len(calls) == 3 - before
    assert files_of(stopped) == files_of(straight)
    assert untimed(stopped) == untimed(straight)


def test_a_row_that_was_lost_comes_from_the_mask(predictor: Predictor, images: Path, tmp_path: Path) -> None:
    predict_files(predictor, str(images), tmp_path / "out")
    expected = untimed(tmp_path / "out")
    (tmp_path / "out" / "predictions.csv").unlink()
    predict_files(predictor, str(images), tmp_path / "out", skip_existing=True)
    assert untimed(tmp_path / "out") == expected


def test_what_failed_before_is_tried_again(predictor: Predictor, images: Path, tmp_path: Path) -> None:
    good = (images / "b.png").read_bytes()
    (images / "b.png").write_bytes(good[:50])
    assert [bool(row.error) for row in predict_files(predictor, str(images), tmp_path / "out")] == [False, True, False]
    (images / "b.png").write_bytes(good)
    results = predict_files(predictor, str(images), tmp_path / "out", skip_existing=True)
    assert [row.error for row in results] == ["", "", ""]
    assert [Path(row["input"]).name for row in rows(tmp_path / "out")] == ["a.jpg", "b.png", "c.d.jpg"]


def test_batches_give_the_masks_of_single_images(predictor: Predictor, images: Path, tmp_path: Path) -> None:
    predict_files(predictor, str(images), tmp_path / "single")
    (images / "bad.png").write_bytes(b"no image")
    job = prepare(str(images), tmp_path / "batch")
    results = predict(predictor, job, build_outputs(job.output, predictor.classes), batch_size=3)
    assert [bool(row.error) for row in results] == [False, False, True, False]
    assert files_of(tmp_path / "batch" / "masks") == files_of(tmp_path / "single" / "masks")


def test_a_batch_that_does_not_fit_into_memory_is_halved(
    predictor: Predictor, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, sizes = Predictor.canvases_logits, []

    def small_only(self: Predictor, canvases: np.ndarray) -> torch.Tensor:
        sizes.append(len(canvases))
        if len(canvases) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return torch.as_tensor(whole(self, canvases))

    monkeypatch.setattr(Predictor, "canvases_logits", small_only)
    job = prepare(str(images), tmp_path / "out")
    results = predict(predictor, job, build_outputs(job.output, predictor.classes), batch_size=3)
    assert [row.error for row in results] == ["", "", ""]
    assert sizes == [3, 1, 2, 1, 1]


def test_an_image_of_more_pixels_than_the_limit_is_a_row_with_its_error(
    predictor: Predictor, images: Path, tmp_path: Path
) -> None:
    Image.new("1", (3000, 1000)).save(images / "bomb.png")
    job = prepare(str(images), tmp_path / "out")
    outputs = build_outputs(job.output, predictor.classes)
    results = predict(predictor, job, outputs, max_megapixels=2.9)
    assert "its header says 3000x1000 = 3 megapixels, expected at most 3" in results[2].error
    assert [bool(row.error) for row in results] == [False, False, True, False]


def test_no_file_of_a_job_appears_before_it_is_whole(predictor: Predictor, images: Path, tmp_path: Path) -> None:
    predict_files(predictor, str(images), tmp_path / "out")
    assert not [path for path in (tmp_path / "out").rglob("*") if path.name.startswith(".")]


def test_a_folder_that_cannot_be_written_is_told_before_a_model_is_needed(images: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(RunFolderError, match="can't be written"):
        prepare(str(images), tmp_path / "file" / "out")


# ---- by windows


@pytest.fixture
def sliding(checkpoint: Path) -> Predictor:
    return Predictor.load(checkpoint, device="cpu", window=(64, 64))


def write_geotiff(path: Path, hw: tuple[int, int]) -> rasterio.Affine:
    transform = rasterio.Affine(0.2, 0, 500_000, 0, -0.2, 5_800_000)
    pixels = np.random.default_rng(0).integers(0, 256, (3, *hw), np.uint8)
    profile = {"driver": "GTiff", "count": 3, "height": hw[0], "width": hw[1], "dtype": "uint8", "tiled": True}
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(path, "w", crs="EPSG:25832", transform=transform, **profile) as file:
        file.write(pixels)
    return transform


def test_windows_give_the_mask_of_the_library(sliding: Predictor, images: Path, tmp_path: Path) -> None:
    Image.fromarray(np.random.default_rng(1).integers(0, 255, (100, 150, 3), np.uint8)).save(images / "large.png")
    predict_files(sliding, str(images / "large.png"), tmp_path / "out")
    expected = sliding(read_image(images / "large.png"))
    assert np.array_equal(read_label_values(tmp_path / "out" / "masks" / "large.png"), expected)
    image, letterboxed = read_image(images / "large.png"), Predictor(sliding.backend, window="off")
    assert not np.allclose(letterboxed.probabilities(image), sliding.probabilities(image), atol=1e-4)


def test_a_geotiff_by_windows_becomes_a_geotiff_of_ids_in_the_same_place(sliding: Predictor, tmp_path: Path) -> None:
    transform = write_geotiff(tmp_path / "in" / "map.tif", (100, 150))
    (row,) = predict_files(sliding, str(tmp_path / "in"), tmp_path / "out")
    with rasterio.open(tmp_path / "out" / "masks" / "map.tif") as mask:
        assert (mask.crs.to_epsg(), mask.transform) == (25832, transform)
        ids = mask.read(1)
    assert np.array_equal(ids, sliding(read_image(tmp_path / "in" / "map.tif")))
    assert row.pixels == tuple(np.bincount(ids.ravel(), minlength=3).tolist())
    assert (tmp_path / "out" / "overlays" / "map.jpg").is_file()
    assert predict_files(sliding, str(tmp_path / "in"), tmp_path / "out", skip_existing=True)[0].hw == (100, 150)


def test_outputs_that_need_all_scores_are_refused_for_a_huge_image(
    sliding: Predictor, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(strips, "WHOLE_BYTES", 4 * 3 * 64 * 64 - 1)  # b.png is huge, the others are not
    job = prepare(str(images), tmp_path / "out")
    results = predict(sliding, job, build_outputs(job.output, sliding.classes, ["coco_polygons"]))
    assert [bool(row.error) for row in results] == [False, True, False]
    assert "b.png: 64x64 pixels are too large for outputs that need all" in results[1].error
    (row,) = predict_files(sliding, str(images / "b.png"), tmp_path / "simple")
    assert not row.error
    assert np.array_equal(
        read_label_values(tmp_path / "simple" / "masks" / "b.png"), sliding(read_image(images / "b.png"))
    )


def test_a_predictor_slides_windows_where_training_saw_larger_scales_only(predictor: Predictor) -> None:
    noted = Predictor(predictor.backend, zoom=1.0, smallest_zoom=0.5)
    assert noted.windows((64, 128)) is None
    assert noted.windows((64, 129)) is not None
    assert predictor.windows((10_000, 10_000)) is None  # an older checkpoint, which doesn't say
