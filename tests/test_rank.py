import csv
import json
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from segkit.cli import main
from segkit.errors import ConfigError
from segkit.inference.uncertainty import disagreement, diverse_order, embedding, entropy, margin
from segkit.rank import rank_images


def flat(*values: float) -> np.ndarray:
    """Probabilities of one class each that are the same at every pixel: float32 [C, 2, 3]."""
    return np.broadcast_to(np.array(values, np.float32)[:, None, None], (len(values), 2, 3))


# ---- scores, by hand


def test_entropy_is_0_when_sure_and_1_for_an_even_guess() -> None:
    assert entropy(flat(1, 0)) == pytest.approx(0, abs=1e-6)
    assert entropy(flat(0.25, 0.25, 0.25, 0.25)) == pytest.approx(1)
    assert entropy(flat(0.9, 0.1)) == pytest.approx(-(0.9 * math.log(0.9) + 0.1 * math.log(0.1)) / math.log(2))


def test_margin_is_what_the_second_class_lacks() -> None:
    assert margin(flat(0.1, 0.7, 0.2)) == pytest.approx(1 - 0.5)
    assert margin(flat(0, 1, 0)) == pytest.approx(0)


def test_models_that_are_sure_of_different_things_disagree_and_models_that_are_unsure_alike_do_not() -> None:
    assert disagreement([flat(1, 0), flat(0, 1)]) == pytest.approx(1)
    assert disagreement([flat(0.5, 0.5), flat(0.5, 0.5)]) == pytest.approx(0, abs=1e-6)


def test_an_embedding_says_what_is_where() -> None:
    probabilities = np.zeros((2, 4, 4), np.float32)
    probabilities[0] = 1
    probabilities[:, :2, 2:] = np.array([0, 1])[:, None, None]
    assert embedding(probabilities).tolist() == [1, 0, 0, 1, 1, 0, 1, 0]


def test_diverse_images_come_from_every_cluster_where_the_plain_order_takes_one_first() -> None:
    scores = np.array([0.9, 0.89, 0.88, 0.5, 0.49])
    places = np.array([[0.0, 0], [0.1, 0], [0, 0.1], [5, 5], [5.1, 5]])
    assert diverse_order(scores, places)[:2] == [0, 3]
    assert sorted(diverse_order(scores, places)) == [0, 1, 2, 3, 4]
    assert np.argsort(-scores)[:2].tolist() == [0, 1]


# ---- the command


@pytest.fixture
def images(shapes: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for path in sorted((shapes / "JPEGImages").glob("*.jpg"))[:5]:
        Image.open(path).save(folder / path.name)
    return folder


def test_the_ranking_is_in_the_order_of_scores_and_lists_every_image(
    varied: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["rank", str(varied), str(images), "--by", "margin", "--top", "2", "--output", str(out)]) == 0
    assert "5 images" in capsys.readouterr().out
    rows = list(csv.DictReader((out / "ranking.csv").read_text().splitlines()))
    scores = [float(row["score"]) for row in rows]
    assert scores == sorted(scores, reverse=True)
    assert {Path(row["image"]).name for row in rows} == {path.name for path in images.iterdir()}
    assert sum(float(row[key]) for key in rows[0] if key.startswith("share_") for row in rows) == pytest.approx(5)
    sheet = cv2.imread(str(out / "contact_sheet.png"))
    assert sheet is not None
    files = sorted((out / "prelabels").glob("*.json"))
    assert {path.stem for path in files} == {Path(row["image"]).stem for row in rows[:2]}
    label = json.loads(files[0].read_text())
    assert (files[0].parent / label["imagePath"]).resolve().is_file()


def test_disagreement_of_a_model_with_itself_is_nothing(varied: Path, images: Path, tmp_path: Path) -> None:
    result = rank_images([varied, varied], str(images), tmp_path / "out", by="disagreement", top=0)
    assert max(image.score for image in result.images) == pytest.approx(0, abs=1e-6)


def test_disagreement_needs_several_models(varied: Path, images: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--by disagreement: found one model, expected several"):
        rank_images([varied], str(images), tmp_path / "out", by="disagreement")


def test_an_image_that_cannot_be_read_is_a_row_with_its_error(varied: Path, images: Path, tmp_path: Path) -> None:
    (images / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    assert main(["rank", str(varied), str(images), "--output", str(tmp_path / "out"), "--diverse"]) == 1
    rows = list(csv.DictReader((tmp_path / "out" / "ranking.csv").read_text().splitlines()))
    assert [bool(row["error"]) for row in rows] == [False] * 5 + [True]
    assert "broken.jpg" in rows[-1]["error"]
