import csv
import io
import math

from segkit.classes import Classes
from segkit.metrics import ConfusionMatrix
from segkit.report.tables import confusion_csv, percent, scores_table, weights_table

CLASSES = Classes.build(["background", "a rather long class name", "never"])
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


def test_weights_stand_beside_the_share_of_their_class() -> None:
    assert "background   75.00 % of pixels   weight 0.500" in weights_table(["background", "b"], [0.75, 0.25], [0.5, 2])
    assert "weight" not in weights_table(["background"], [1.0], None)


def test_nan_is_a_dash() -> None:
    assert (percent(math.nan), percent(0.5)) == ("-", "50.00 %")
