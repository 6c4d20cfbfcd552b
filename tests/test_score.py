import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from segkit.cli import main
from segkit.errors import ConfigError, DataError
from segkit.evaluation.confusion import ConfusionMatrix
from segkit.score import score_masks


def write(path: Path, ids: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), ids)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Three masks of 3 classes, one in a subfolder, a quarter of each predicted wrong; ids 0..2, 255 ignored."""
    rng = np.random.default_rng(0)
    for name in ("a", "b", "below/c"):
        truth = rng.integers(0, 3, (24, 32)).astype(np.uint8)
        truth[:4] = 255
        wrong = rng.random((24, 32)) < 0.25
        write(tmp_path / "truth" / f"{name}.png", truth)
        write(tmp_path / "pred" / f"{name}.png", np.where(wrong, (truth + 1) % 3, truth).astype(np.uint8))
    return tmp_path / "pred", tmp_path / "truth"


CLASSES = ["data.classes=[x,y,z]"]


def test_the_scores_are_those_of_the_confusion_matrix(folders: tuple[Path, Path]) -> None:
    matrix = ConfusionMatrix(3)
    for name in ("a", "b", "below/c"):
        prediction, truth = (cv2.imread(str(folder / f"{name}.png"), -1) for folder in folders)
        matrix.update(prediction, truth)
    measured = score_masks(*folders, CLASSES).measured
    assert measured.scores.miou == matrix.scores().miou
    assert np.array_equal(measured.scores.counts, matrix.counts)
    assert [row.name for row in measured.rows] == ["a", "b", "below/c"]


def test_a_prediction_that_is_no_class_is_a_miss_and_its_file_is_named(
    folders: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    pred, truth = folders
    ids = cv2.imread(str(pred / "b.png"), -1)
    ids[10:12, :5], ids[12, :3] = 77, 255
    write(pred / "b.png", ids)
    measured = score_masks(pred, truth, CLASSES).measured
    assert measured.scores.truth_pixels.sum() == 3 * 20 * 32
    assert measured.scores.counts.sum() == 3 * 20 * 32 - 13
    assert "b.png: 13 labelled pixels" in caplog.text


def test_what_is_predicted_on_ignored_pixels_counts_nowhere(folders: tuple[Path, Path]) -> None:
    pred, truth = folders
    before = score_masks(pred, truth, CLASSES).measured
    ids = cv2.imread(str(pred / "a.png"), -1)
    ids[:4] = 2
    write(pred / "a.png", ids)
    assert score_masks(pred, truth, CLASSES).measured.to_dict() == before.to_dict()


def test_a_missing_prediction_is_named(folders: tuple[Path, Path]) -> None:
    (folders[0] / "below/c.png").unlink()
    with pytest.raises(DataError, match=r"1 prediction of 3 missing(?s:.*)below/c\.png"):
        score_masks(*folders, CLASSES)


def test_a_prediction_without_a_truth_is_named_in_a_warning(
    folders: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    before = score_masks(*folders, CLASSES).measured.scores.miou
    write(folders[0] / "extra.png", np.zeros((4, 4), np.uint8))
    assert score_masks(*folders, CLASSES).measured.scores.miou == before
    assert "extra" in caplog.text


def test_masks_of_different_size_are_named_with_both_sizes(folders: tuple[Path, Path]) -> None:
    write(folders[0] / "a.png", np.zeros((12, 16), np.uint8))
    with pytest.raises(DataError, match=r"a\.png: 16x12 pixels, expected 32x24 as .*truth/a\.png"):
        score_masks(*folders, CLASSES)


def test_a_truth_that_holds_no_class_stops_with_file_and_pixel(folders: tuple[Path, Path]) -> None:
    ids = cv2.imread(str(folders[1] / "a.png"), -1)
    ids[7, 3] = 9
    write(folders[1] / "a.png", ids)
    with pytest.raises(DataError, match=r"truth/a\.png: value 9 at \(7, 3\) is no class"):
        score_masks(*folders, CLASSES)


def test_two_files_of_one_name_are_refused(folders: tuple[Path, Path]) -> None:
    write(folders[1] / "a.bmp", np.zeros((24, 32), np.uint8))
    with pytest.raises(DataError, match=r"a\.png: has the name of .*a\.bmp"):
        score_masks(*folders, CLASSES)


@pytest.mark.parametrize(("stored", "prediction_ids"), [((0, 255), False), ((0, 1), True)])
def test_predictions_are_read_as_the_truth_or_as_ids(
    tmp_path: Path, stored: tuple[int, int], prediction_ids: bool
) -> None:
    ids = np.zeros((8, 8), np.uint8)
    ids[:4] = 1
    write(tmp_path / "truth/a.png", ids * 255)
    write(tmp_path / "pred/a.png", np.asarray(stored, np.uint8)[ids])
    overrides = ["data.classes=[no,yes]", "data.mask_values=[0,255]", "data.ignore_index=254"]
    found = score_masks(tmp_path / "pred", tmp_path / "truth", overrides, prediction_ids=prediction_ids)
    assert found.measured.scores.miou == 1


@pytest.mark.parametrize(("absent", "expected"), [("ignore", 1.0), ("zero", 2 / 3), ("one", 1.0)])
def test_absent_classes_count_as_they_are_asked_to(tmp_path: Path, absent: str, expected: float) -> None:
    ids = np.zeros((8, 8), np.uint8)
    ids[:4] = 1
    for folder in ("truth", "pred"):
        write(tmp_path / folder / "a.png", ids)
    found = score_masks(tmp_path / "pred", tmp_path / "truth", CLASSES, absent=absent)  # type: ignore[arg-type]
    assert found.measured.scores.miou == pytest.approx(expected)
    assert found.protocol.to_dict()["absent_classes"] == absent


def test_a_setting_without_effect_on_masks_is_refused(folders: tuple[Path, Path]) -> None:
    with pytest.raises(ConfigError, match=r"data\.canvas: without effect on masks"):
        score_masks(*folders, [*CLASSES, "data.canvas=[8,8]"])


def test_the_command_prints_the_protocol_and_writes_every_figure(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--pred", str(folders[0]), "--truth", str(folders[1]), "--classes", "x,y,z"]
    assert main(["score", *words, "--output", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert "3 masks at their own size" in printed
    assert "boundary IoU" in printed
    written = json.loads((tmp_path / "out/metrics.json").read_text())
    assert written["mean_boundary_iou"] is not None
    low, high = written["intervals"]["miou"]
    assert low <= written["miou"] <= high
    assert len((tmp_path / "out/images.csv").read_text().splitlines()) == 4
    assert main(["score", *words, "--figures", "boundry"]) == 2
    assert "--figures: found 'boundry', expected boundary" in capsys.readouterr().err


def test_masks_are_scored_without_torch(folders: tuple[Path, Path]) -> None:
    script = (
        "import sys; from segkit.cli import main; "
        f"code = main(['score', '--pred', {str(folders[0])!r}, '--truth', {str(folders[1])!r}, '--classes', 'x,y,z']); "
        "sys.exit(code or 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
