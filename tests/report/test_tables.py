import csv
import io
import math
from typing import get_args

import numpy as np

from segkit.classes import Classes
from segkit.config.schema import ClassWeighting
from segkit.datasets.survey import Survey
from segkit.evaluation.confusion import ConfusionMatrix
from segkit.losses.class_weights import class_weights
from segkit.report.class_tables import classes_table, weight_rules_table
from segkit.report.tables import confusion_csv, percent, scores_table

CLASSES = Classes.build(["background", "a rather long class name", "never"])
FOUND = Survey(
    num_images=4,
    class_pixels=(75, 25, 0),
    class_images=(4, 1, 0),
    surrounding_pixels=(100, 30, 0),
    ignored_pixels=0,
    shown=np.packbits([[1, 0, 0], [1, 0, 0], [1, 0, 0], [1, 1, 0]], axis=1).tobytes(),
)
SCORES = ConfusionMatrix.from_counts([[50, 10, 0], [5, 35, 0], [0, 0, 0]], num_images=2).scores()


def test_the_table_holds_every_class_and_the_means_in_percent() -> None:
    lines = scores_table(SCORES, CLASSES).splitlines()
    assert lines[2].split() == ["background", "76.92", "83.33", "90.91", "86.96", "60.00%"]
    assert lines[4].split() == ["never", "-", "-", "-", "-", "0.00%"]
    assert lines[6].split()[:2] == ["mean", "73.46"]
    assert "mIoU 73.46 %" in lines[7]
    assert "2 images" in lines[7]


def test_rows_of_the_table_are_equally_wide_and_fit_a_terminal() -> None:
    lines = scores_table(SCORES, CLASSES).splitlines()[:6]
    assert len({len(line) for line in lines if not line.startswith("mean")}) == 1
    assert max(len(line) for line in lines) <= 80


def test_the_confusion_matrix_is_a_csv_with_names_both_ways() -> None:
    rows = list(csv.reader(io.StringIO(confusion_csv(SCORES, CLASSES))))
    assert rows[0][1:] == list(CLASSES.names)
    assert rows[2] == ["a rather long class name", "5", "35", "0"]


def test_a_class_is_described_by_its_pixels_its_images_its_weight_and_how_often_it_is_seen() -> None:
    lines = classes_table(CLASSES, FOUND, [0.5, 2, 0], [1.0, 1.0, 1.0, 2.5]).splitlines()
    assert lines[0].split() == ["class", "pixels", "images", "weight", "seen", "per", "epoch"]
    assert lines[1].split() == ["background", "75.00", "%", "100.0", "%", "0.500", "4", "->", "5.5"]
    assert lines[2].split()[5:] == ["25.00", "%", "25.0", "%", "2.000", "1", "->", "2.5"]
    assert lines[3].split()[1:] == ["0.00", "%", "0.0", "%", "0.000", "0", "->", "0.0"]
    assert len({len(line) for line in lines}) == 1


def test_columns_that_say_nothing_are_left_out() -> None:
    assert "weight" not in classes_table(CLASSES, FOUND, None, [1.0] * 4)
    assert "seen" not in classes_table(CLASSES, FOUND, None, [1.0] * 4)


def test_the_weights_of_every_rule_stand_side_by_side() -> None:
    lines = [line.split() for line in weight_rules_table(CLASSES, FOUND).splitlines()]
    rules = [rule for rule in get_args(ClassWeighting) if rule != "none"]
    assert lines[0] == ["class", "pixels", *rules]
    for place, rule in enumerate(rules, start=3):
        weights = class_weights(
            rule, class_pixels=(75, 25, 0), surrounding_pixels=(100, 30, 0), class_images=(4, 1, 0), num_images=4
        )
        assert weights is not None
        assert [lines[1][place], lines[2][place + 4], lines[3][place]] == [f"{weight:.3f}" for weight in weights]


def test_nan_is_a_dash() -> None:
    assert (percent(math.nan), percent(0.5)) == ("-", "50.00 %")
