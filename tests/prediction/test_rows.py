import resource
from pathlib import Path

import pytest

from segkit.classes import Classes
from segkit.errors import RunFolderError
from segkit.prediction.rows import Predicted, Rows, earlier_row, read_rows

ROW = Predicted("in/a.jpg", (2, 3), (4, 2), 0.25)


def test_each_row_is_on_the_disk_once_it_is_added(tmp_path: Path, two_classes: Classes) -> None:
    rows = Rows(tmp_path / "predictions.csv", two_classes)
    rows.add(ROW)
    assert (tmp_path / "predictions.csv").read_text().splitlines() == [
        "input,height,width,pixels_background,pixels_object,seconds,error",
        "in/a.jpg,2,3,4,2,0.2500,",
    ]
    rows.close()


@pytest.mark.parametrize("name", ["in/a.jpg", "=1+1.jpg", "-a.jpg", "@b, c.png", "two\nlines.png", "caf\udce9.jpg"])
def test_a_row_of_an_earlier_job_is_found_whatever_its_name_is(tmp_path: Path, two_classes: Classes, name: str) -> None:
    row = Predicted(name, (2, 3), (4, 2), 0.25)
    Rows(tmp_path / "predictions.csv", two_classes, [row]).close()
    assert earlier_row(read_rows(tmp_path / "predictions.csv", two_classes), name) == row


def test_no_cell_is_a_formula(tmp_path: Path, two_classes: Classes) -> None:
    Rows(tmp_path / "predictions.csv", two_classes, [Predicted("=1+1.jpg", error="+bad")]).close()
    cells = (tmp_path / "predictions.csv").read_text().splitlines()[1].split(",")
    assert [cells[0], cells[-1]] == ["'=1+1.jpg", "'+bad"]


def test_rows_with_an_error_are_not_taken_for_done(tmp_path: Path, two_classes: Classes) -> None:
    Rows(tmp_path / "predictions.csv", two_classes, [ROW, Predicted("b.jpg", error="broken")]).close()
    assert list(read_rows(tmp_path / "predictions.csv", two_classes)) == ["in/a.jpg"]


def test_a_table_of_other_classes_is_refused(tmp_path: Path, two_classes: Classes) -> None:
    Rows(tmp_path / "predictions.csv", two_classes, [ROW]).close()
    with pytest.raises(RunFolderError, match="not a table of these 3 classes"):
        read_rows(tmp_path / "predictions.csv", Classes.build(["a", "b", "c"]))


def test_a_line_that_was_cut_off_is_no_row(tmp_path: Path, two_classes: Classes) -> None:
    path = tmp_path / "predictions.csv"
    Rows(path, two_classes, [ROW, Predicted("b.jpg", (2, 2), (4, 0), 0.1)]).close()
    path.write_bytes(path.read_bytes()[:-12])
    assert list(read_rows(path, two_classes)) == ["in/a.jpg"]


def test_a_row_that_does_not_fit_on_the_disk_leaves_whole_rows(tmp_path: Path, two_classes: Classes) -> None:
    path = tmp_path / "predictions.csv"
    rows = Rows(path, two_classes)
    rows.add(ROW)
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 5, limits[1]))  # as if the disk had room for 5 bytes
    try:
        with pytest.raises(OSError, match=r"No space left|too large"):
            rows.add(ROW)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    rows.close()
    assert path.read_bytes() == before
