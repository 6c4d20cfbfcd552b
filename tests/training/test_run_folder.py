import csv
import json
from pathlib import Path

import pytest

from segkit.classes import Classes
from segkit.config.reading import load_config
from segkit.config.schema import RunConfig
from segkit.errors import RunFolderError
from segkit.evaluation.confusion import ConfusionMatrix
from segkit.evaluation.protocol import EvaluationProtocol
from segkit.training.run_folder import EpochRow, RunFolder


def row(epoch: int, miou: float | None = None) -> EpochRow:
    return EpochRow(epoch, step=epoch * 10, lr=0.1, train_loss=1.5, seconds=2.0, images_per_second=3.0, miou=miou)


def logged(folder: Path) -> list[dict[str, str]]:
    with (folder / "log.csv").open() as file:
        return list(csv.DictReader(file))


def test_a_new_run_may_have_an_empty_folder_or_none(tmp_path: Path) -> None:
    RunFolder(tmp_path).check_new()
    RunFolder(tmp_path / "none").check_new()


@pytest.mark.parametrize("name", ["anything", "log.csv"])
def test_a_folder_that_holds_something_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(RunFolderError, match=r"not empty.*run=FOLDER"):
        RunFolder(tmp_path).check_new()


def test_a_folder_that_holds_a_run_comes_with_the_way_to_continue_it(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.last.parent.mkdir()
    folder.last.touch()
    with pytest.raises(RunFolderError, match="--resume"):
        folder.check_new()
    folder.check_resumable()


def test_there_must_be_something_to_resume(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="nothing to resume"):
        RunFolder(tmp_path).check_resumable()


def test_space_is_checked_before_anything_is_written(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "deep" / "run")
    folder.check_space(needed=1)
    with pytest.raises(RunFolderError, match=r"MiB free on its disk, expected at least 953674316406 MiB"):
        folder.check_space(needed=10**18)
    assert not (tmp_path / "deep").exists()


def test_the_resolved_config_and_the_drawn_split_are_written(tmp_path: Path) -> None:
    RunFolder(tmp_path / "run").create(
        RunConfig(run="x"), {"torch": "2"}, splits={"val": ["a", "b"]}, files=[("val", "a", 3, 2)]
    )
    assert load_config(tmp_path / "run" / "config.yaml") == RunConfig(run="x")
    assert json.loads((tmp_path / "run" / "environment.json").read_text()) == {"torch": "2"}
    assert (tmp_path / "run" / "splits" / "val.txt").read_text() == "a\nb\n"
    assert RunFolder(tmp_path / "run").files() == [("val", "a", 3, 2)]


def test_epochs_become_rows(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.create(RunConfig(), {})
    folder.add(row(1))
    folder.add(row(2, miou=0.25))
    folder.close()
    assert [(r["epoch"], r["step"], r["miou"]) for r in logged(tmp_path / "run")] == [
        ("1", "10", ""),
        ("2", "20", "0.25"),
    ]
    assert list((tmp_path / "run").glob("events.out.tfevents*"))


def test_rows_beyond_a_checkpoint_are_dropped(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.reopen(5, 1)  # nothing there yet: nothing to do
    folder.create(RunConfig(), {})
    for epoch in (1, 2, 3):
        folder.add(row(epoch))
    folder.reopen(20, 3)
    folder.add(row(3, miou=0.5))
    folder.close()
    assert [(r["epoch"], r["miou"]) for r in logged(tmp_path / "run")] == [("1", ""), ("2", ""), ("3", "0.5")]


def test_a_run_that_was_killed_while_its_folder_was_made_is_begun_again(tmp_path: Path) -> None:
    for names in ((), (".unsaved",), (".unsaved", "checkpoints", "config.yaml", "log.csv")):
        folder = RunFolder(tmp_path / str(len(names)))
        folder.path.mkdir()
        for name in names:
            (folder.path / name).mkdir() if name == "checkpoints" else (folder.path / name).touch()
        folder.check_new()
        folder.create(RunConfig(), {})
        assert not (folder.path / "log.csv").exists()


def test_a_row_that_a_crash_cut_short_is_dropped(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.create(RunConfig(), {})
    folder.add(row(1))
    folder.close()
    with (tmp_path / "run" / "log.csv").open("a") as file:
        file.write("2,2")
    folder.reopen(100, 11)
    assert [r["epoch"] for r in logged(tmp_path / "run")] == ["1"]


def test_a_log_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.create(RunConfig(), {})
    (tmp_path / "run" / "log.csv").mkdir()
    with pytest.raises(RunFolderError, match="can't be written"):
        folder.add(row(1))


def test_a_run_that_never_saved_is_removed_and_one_that_did_stays(tmp_path: Path) -> None:
    for name, saved in (("failed", False), ("saved", True)):
        folder = RunFolder(tmp_path / name)
        folder.create(RunConfig(), {})
        if saved:
            folder.last.touch()
        folder.discard_if_empty()
        assert (tmp_path / name).exists() is saved


def test_a_folder_of_somebody_else_is_never_removed(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    RunFolder(tmp_path).discard_if_empty()
    assert (tmp_path / "checkpoints").is_dir()


def test_metrics_are_json(tmp_path: Path) -> None:
    scores = ConfusionMatrix.from_counts([[1, 0], [0, 0]], num_images=1).scores()
    protocol = EvaluationProtocol("val", 1, (32, 48), "bf16", ("flip", 1.25))
    RunFolder(tmp_path).write_metrics(scores, Classes.build(["a", "b"]), protocol)
    plain = json.loads((tmp_path / "metrics.json").read_text())
    assert plain["miou"] == 1
    assert plain["classes"][1]["iou"] is None
    assert plain["protocol"] == {
        "split": "val", "num_images": 1, "canvas": [32, 48], "tta": ["flip", 1.25], "postprocess": None,
        "temperature": None, "precision": "bf16", "runtime": "pytorch", "window": None, "absent_classes": "ignore",
        "weights": [], "data": None,
        "resolution": "each image at its own size; logits are resized, label maps never",
        "ignored_pixels": "count nowhere, whatever is predicted there",
    }  # fmt: skip
