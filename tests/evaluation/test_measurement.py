import itertools
import json

import numpy as np
import pytest

from segkit.classes import Classes
from segkit.evaluation.bootstrap import miou_interval
from segkit.evaluation.confusion import ConfusionMatrix
from segkit.evaluation.families import build_families
from segkit.evaluation.judged import MOST_SAMPLES, Judged
from segkit.evaluation.measurement import Measured, Measurement

CLASSES = Classes.build(["a", "b", "c"])


def judged(seed: int, *, also: bool = False) -> Judged:
    rng = np.random.default_rng(seed)
    scores = np.kron(rng.normal(size=(3, 5, 6)), np.ones((6, 6))) + 0.7 * rng.normal(size=(3, 30, 36))
    probabilities = (np.exp(scores) / np.exp(scores).sum(axis=0)).astype(np.float32)
    truth = np.kron(rng.normal(size=(3, 5, 6)), np.ones((6, 6))).argmax(axis=0).astype(np.uint8)
    prediction = probabilities.argmax(axis=0).astype(np.uint8)
    return Judged(
        truth,
        prediction,
        num_classes=3,
        probabilities=lambda rows, columns: probabilities[:, rows[:, None], columns],
        canvas=lambda: (truth[::2, ::2], prediction[::2, ::2]),
    )


def new(**settings: object) -> Measurement:
    return Measurement(CLASSES, build_families(3, probabilities=True), **settings)  # type: ignore[arg-type]


def measure(seeds: list[int], **settings: object) -> Measured:
    measurement, matrix = new(**settings), ConfusionMatrix(3)
    for seed in seeds:
        counted = measurement.look(f"{seed:03d}", judged(seed))
        matrix += counted.matrix
        measurement.add(counted)
    return measurement.measured(matrix.scores())


class TwoRanks:
    """What `Ranks.gather` does, of two measurements in one process."""

    def __init__(self, *parts: Measurement) -> None:
        self.parts = [(part.rows, part.totals, part.others) for part in parts]

    def gather(self, value: object) -> list[object]:
        return list(self.parts)


def test_two_ranks_give_the_figures_of_one_to_the_last_bit_in_any_order() -> None:
    whole = measure(list(range(8)), also=("letterbox",))
    parts = [new(also=("letterbox",)), new(also=("letterbox",))]
    for seed in (5, 2, 7, 0):
        parts[0].add(parts[0].look(f"{seed:03d}", judged(seed)))
    for seed in (1, 6, 4, 3):
        parts[1].add(parts[1].look(f"{seed:03d}", judged(seed)))
    parts[0].gather(TwoRanks(*parts))  # type: ignore[arg-type]
    assert json.dumps(parts[0].measured(whole.scores).to_dict()) == json.dumps(whole.to_dict())


def test_the_interval_of_the_mean_iou_is_that_of_the_bootstrap_of_the_confusion_matrix() -> None:
    found = measure(list(range(10)))
    counts = np.stack([row.marginals for row in found.rows])[None]
    assert found.intervals["iou"].mean == pytest.approx(miou_interval(counts))


def test_every_figure_has_a_mean_in_metrics_and_those_kept_by_image_an_interval_around_it() -> None:
    content = measure(list(range(12))).to_dict()
    for name in ("boundary_iou", "boundary_f", "surface_dice", "iou_small", "average_precision", "object_ap"):
        assert 0 <= content[f"mean_{name}"] <= 1
        assert name in content["classes"][0]
    for name, (low, high) in content["intervals"].items():
        if content[name] is not None:
            assert low <= content[name] + 1e-9, name
            assert content[name] <= high + 1e-9, name


def test_the_cells_of_an_image_are_its_confusion_matrix() -> None:
    for row, seed in zip(measure([3, 4]).rows, (3, 4), strict=True):
        matrix = np.zeros((3, 4), np.int64)
        matrix[tuple(row.cells.T)] = row.pixels
        image = judged(seed)
        expected = ConfusionMatrix(3)
        expected.update(image.prediction, image.truth)
        assert np.array_equal(matrix[:, :3], expected.counts)


def test_the_digest_of_the_data_changes_with_one_label_and_with_a_name() -> None:
    def digest(name: str, truth: np.ndarray) -> str:
        measurement = Measurement(CLASSES)
        counted = measurement.look(name, Judged(truth, truth.copy(), num_classes=3))
        measurement.add(counted)
        return measurement.measured(counted.matrix.scores()).data

    truth = np.zeros((8, 8), np.uint8)
    other = truth.copy()
    other[3, 3] = 1
    found = [digest("a", truth), digest("a", other), digest("b", truth)]
    assert len(set(found)) == 3
    assert digest("a", truth.copy()) == found[0]


def test_other_protocols_are_scored_on_the_same_predictions() -> None:
    found = measure(list(range(6)), also=("letterbox", "crop"))
    matrix = ConfusionMatrix(3)
    for seed in range(6):
        image = judged(seed)
        matrix.update(image.prediction[::2, ::2], image.truth[::2, ::2])
    assert found.others["letterbox"].miou == matrix.scores().miou
    assert found.others["crop"].truth_pixels.sum() == 6 * 15 * 18
    assert found.to_dict()["other_protocols"]["letterbox"]["miou"] == matrix.scores().miou


@pytest.mark.parametrize("size_hw", [(1, 1), (3, 200_000), (1000, 900), (181, 181)])
def test_the_grid_of_probabilities_spans_the_image_and_stays_small(size_hw: tuple[int, int]) -> None:
    rows, columns = Judged(np.zeros(size_hw, np.uint8), np.zeros(size_hw, np.uint8), num_classes=2).grid
    assert 1 <= len(rows) * len(columns) <= 1.5 * MOST_SAMPLES  # a narrow image has no square grid
    for positions, side in ((rows, size_hw[0]), (columns, size_hw[1])):
        steps = {int(b - a) for a, b in itertools.pairwise(positions)}
        assert len(steps) <= 1
        assert 0 <= positions[0] <= positions[-1] < side
