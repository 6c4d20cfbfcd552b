import cv2
import numpy as np
import pytest

from segkit.classes import Classes
from segkit.evaluation.confusion import ConfusionMatrix
from segkit.evaluation.judged import Judged
from segkit.evaluation.measurement import Measured, Measurement
from segkit.report.plots import classes_png, confusion_png, curves_png


def measured(num_classes: int) -> Measured:
    classes = Classes.build([f"class {k}" for k in range(num_classes)])
    measurement, matrix = Measurement(classes), ConfusionMatrix(num_classes)
    rng = np.random.default_rng(0)
    for k in range(4):
        truth = rng.integers(0, num_classes - 1, (30, 30)).astype(np.uint8)  # the last class is never there
        counted = measurement.look(f"{k}", Judged(truth, truth.copy(), num_classes=num_classes))
        matrix += counted.matrix
        measurement.add(counted)
    return measurement.measured(matrix.scores())


def pixels(png: bytes) -> np.ndarray:
    found = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)
    assert found is not None
    return found


@pytest.mark.parametrize("num_classes", [3, 40])
def test_plots_grow_with_the_classes_and_a_class_without_a_figure_does_no_harm(num_classes: int) -> None:
    small = measured(3)
    for draw in (classes_png, confusion_png):
        assert pixels(draw(measured(num_classes))).shape[0] >= pixels(draw(small)).shape[0]


def test_curves_are_drawn_of_what_is_logged() -> None:
    rows = [
        {"epoch": str(k), "lr": "0.001", "train_loss": str(1 / k), "val_loss": "", "miou": "0.5" if k == 2 else ""}
        for k in (1, 2)
    ]
    drawn = pixels(curves_png(rows))
    assert not np.array_equal(drawn, pixels(curves_png(rows[:1])))
    assert pixels(curves_png([])).shape == drawn.shape
