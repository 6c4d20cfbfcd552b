import dataclasses
import shutil
from pathlib import Path

import pytest

from segkit.cli import main
from segkit.compare import checkpoint_of, compare_runs, differing
from segkit.errors import CheckpointError, ConfigError
from segkit.eval_miou import eval_miou
from segkit.evaluation.comparison import Comparison, Difference
from segkit.models.checkpoint import Checkpoint
from segkit.report.comparison_text import verdict


@pytest.fixture(scope="module")
def runs(varied: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two run folders, of which the second's model predicts its first class more often."""
    folder = tmp_path_factory.mktemp("runs")
    for name, shift in (("plain", 0.0), ("shifted", 3.0)):
        (folder / name / "checkpoints").mkdir(parents=True)
        checkpoint = Checkpoint.load(varied)
        bias = checkpoint.weights["network.head.bias"].clone()
        bias[0] += shift
        checkpoint.weights["network.head.bias"] = bias
        seeded = dataclasses.replace(checkpoint.config.train, seed=int(shift))
        checkpoint.config = dataclasses.replace(checkpoint.config, train=seeded)
        checkpoint.save(folder / name / "checkpoints" / "best.pt")
    return folder / "plain", folder / "shifted"


def test_the_differences_are_those_of_two_evaluations(runs: tuple[Path, Path], tmp_path: Path) -> None:
    result = compare_runs([str(run) for run in runs])
    scores = [eval_miou(checkpoint_of(run), output=tmp_path / run.name, figures=[]).scores for run in runs]
    (found,) = result.compared
    assert found.comparison.miou.value == pytest.approx(scores[1].miou - scores[0].miou)
    assert found.ious == [[*each.iou.tolist(), each.miou] for each in scores]
    assert found.settings == [("train.seed", 0, 3)]


def test_a_model_beside_itself_is_alike(runs: tuple[Path, Path], tmp_path: Path) -> None:
    shutil.copytree(runs[0], tmp_path / "copy")
    (found,) = compare_runs([str(runs[0]), str(tmp_path / "copy")]).compared
    assert found.comparison.miou.value == 0
    assert "predict alike" in verdict(found.first, found.second, found.comparison)


def test_several_trainings_are_one_side(runs: tuple[Path, Path]) -> None:
    first, second = map(str, runs)
    (found,) = compare_runs([f"{first},{second}", f"{second},{first}"]).compared
    assert found.comparison.trainings == (2, 2)
    assert found.comparison.counts_training
    assert found.comparison.miou.value == pytest.approx(0)


def test_images_that_changed_most_come_first_and_last(runs: tuple[Path, Path]) -> None:
    (found,) = compare_runs([str(run) for run in runs]).compared
    changes = [new - old for _, old, new in found.changes]
    assert changes == sorted(changes)
    lost = [name for name, old, new in found.changes if new < old]
    gained = [name for name, old, new in found.changes if new > old]
    assert found.most_changed(2) == lost[:2] + gained[::-1][:2]


def test_the_page_shows_both_predictions_and_asks_for_nothing(  # type: ignore[no-untyped-def]
    runs: tuple[Path, Path], tmp_path: Path, tab, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "compare.html"
    assert main(["compare", *map(str, runs), "--output", str(page)]) == 0
    printed = capsys.readouterr().out
    assert "setting  train.seed: 0 to 3" in printed
    assert f"written: {page}" in printed
    tab.size(390, 800, phone=True)
    tab.go(page.as_uri())
    assert tab.errors == []
    assert [url for url in tab.requests if not url.startswith(("file:", "data:"))] == []
    assert tab.js("document.documentElement.scrollWidth <= innerWidth")
    names = tab.js("[...document.querySelector('.layers').querySelectorAll('button')].map(each => each.textContent)")
    assert names == ["truth", "plain", "shifted"]


def test_one_model_alone_is_refused(runs: tuple[Path, Path]) -> None:
    with pytest.raises(ConfigError, match="found 1 model, expected at least two"):
        compare_runs([str(runs[0])])


def test_models_of_other_classes_are_refused(runs: tuple[Path, Path], tmp_path: Path) -> None:
    other = Checkpoint.load(checkpoint_of(runs[0]))
    other.classes = dataclasses.replace(other.classes, names=("a", *other.classes.names[1:]))
    other.save(tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match=r"has the classes a, .*compare models of the same classes"):
        compare_runs([str(runs[0]), str(tmp_path / "other.pt")])


def test_a_folder_without_a_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"checkpoints/best\.pt: no such file"):
        compare_runs([str(tmp_path), str(tmp_path)])


def test_settings_that_differ_are_found_at_any_depth() -> None:
    first = {"a": 1, "b": {"c": [1, 2], "d": None}, "run": "x"}
    second = {"a": 1, "b": {"c": [1, 3], "d": None, "e": 2}, "run": "y"}
    assert differing(first, second) == [("b.c", [1, 2], [1, 3]), ("b.e", None, 2)]


@pytest.mark.parametrize(
    ("found", "trainings", "expected"),
    [
        (
            Difference(0.02, 0.01, 0.03, 0.004),
            (1, 1),
            r"^b is better than a by 2\.00 points.*1\.00 to 3\.00, p = 0\.004",
        ),
        (
            Difference(-0.02, -0.03, -0.01, 0.0001),
            (3, 3),
            r"^a is better than b by .*p < 0\.001.*noise of training counts",
        ),
        (
            Difference(0.01, -0.01, 0.03, 0.4),
            (1, 1),
            r"^b is ahead of a by 1\.00 .*could be chance .*-1\.00 to \+3\.00",
        ),
        (Difference(0.02, 0.01, 0.03, 0.004), (1, 2), r"noise of training isn't in this \(1 and 2 trainings\)"),
    ],
)
def test_the_verdict_says_whether_it_could_be_chance(
    found: Difference, trainings: tuple[int, int], expected: str
) -> None:
    import re

    assert re.search(expected, verdict("a", "b", Comparison(found, [], trainings)))


def test_the_bits_of_a_comparison_depend_on_nothing_but_the_models(runs: tuple[Path, Path]) -> None:
    twice = [compare_runs([str(run) for run in runs]).compared[0].comparison for _ in range(2)]
    assert twice[0] == twice[1]
