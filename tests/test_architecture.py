"""The plan of the house: who may import whom, and how large a file, a loop and the top of the package may become."""

import ast
import graphlib
import re
import tomllib
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "segkit"
PACKAGES = sorted(path.parent for path in PACKAGE.rglob("__init__.py") if path.parent != PACKAGE)

TOP_LEVEL = {
    "__init__.py", "py.typed", "cli.py", "errors.py", "classes.py", "train.py", "eval_miou.py", "predict.py",
    "plan.py", "tune.py", "lr_find.py", "cross_validation.py", "postprocess.py", "score.py", "compare.py",
    "suspects.py", "rank.py", "calibrate.py", "commands", "config", "datasets", "loading", "formats", "doctor",
    "imaging", "models", "losses", "inference", "prediction", "evaluation", "training", "export", "serving", "report",
    "runtime",
}  # fmt: skip
MAX_LINES = 400  # of a file; a longer one is two
MAX_LOOP_LINES = 120  # of the training loop, comments and blank lines included: it is read as one page


def entries(folder: Path) -> set[str]:
    """Return the names of the files and folders in a package, without .py."""
    return {path.stem for path in folder.iterdir() if path.name not in ("__init__.py", "__pycache__")}


def docstring(folder: Path) -> str:
    text = ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8")))
    assert text is not None
    return text


def named(text: str) -> set[str]:
    """Return the names that a package's docstring explains: of 'fix, label_maps: a repaired copy.' both.

    Such a list of names begins a line or a sentence, in lower case, and ends with a colon; or it ends the first
    paragraph, after a colon: 'Formats of masks: voc, camvid.'
    """
    first, _, rest = (re.sub(r"\s+", " ", part) if part != "\n\n" else part for part in text.partition("\n\n"))
    lists = re.findall(r"(?:^|[.?!;)]\s)([a-z_0-9]+/?(?:, [a-z_0-9]+/?)*):\s", rest)
    lists += re.findall(r": ([a-z_0-9]+/?(?:, [a-z_0-9]+/?)+)\.$", first)
    return {name.removesuffix("/") for names in lists for name in names.split(", ")}


# ---- imports


def test_every_module_imports_only_from_floors_below(monkeypatch: pytest.MonkeyPatch) -> None:
    from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports

    monkeypatch.setattr("logging.config.dictConfig", lambda _: None)  # it would silence segkit for all tests after it
    monkeypatch.chdir(ROOT)
    assert lint_imports(no_cache=True) == EXIT_STATUS_SUCCESS


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = grimp.build_graph("segkit", exclude_type_checking_imports=True, cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    graphlib.TopologicalSorter(imports).prepare()  # raises CycleError, which lists the circle


def test_the_map_of_the_package_shows_the_floors_that_are_enforced() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    enforced = [layer.replace("segkit.", "") for layer in contracts[0]["layers"]]
    lines = docstring(PACKAGE).splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("    cli"))
    shown = [re.split(r"\s{2,}", line.strip())[0] for line in lines[start : start + len(enforced)]]
    assert shown == enforced


# ---- sizes


def test_the_top_level_is_the_one_of_the_design() -> None:
    found = {path.name for path in PACKAGE.iterdir() if path.name != "__pycache__"}
    assert found <= TOP_LEVEL


def test_no_file_is_too_long() -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in PACKAGE.rglob("*.py")}
    assert {path: length for path, length in lengths.items() if length > MAX_LINES} == {}


def test_the_training_loop_fits_on_a_page() -> None:
    loops = [
        node.end_lineno - node.lineno + 1
        for node in ast.walk(ast.parse((PACKAGE / "train.py").read_text()))
        if isinstance(node, ast.For) and isinstance(node.target, ast.Name) and node.target.id == "step"
        if node.end_lineno is not None
    ]
    assert len(loops) == 1
    assert loops[0] <= MAX_LOOP_LINES


# ---- docstrings


@pytest.mark.parametrize("folder", PACKAGES, ids=lambda folder: str(folder.relative_to(PACKAGE)))
def test_a_package_names_each_of_its_files_and_nothing_else(folder: Path) -> None:
    assert named(docstring(folder)) == entries(folder)


def test_the_map_of_the_package_names_each_of_its_entries() -> None:
    floors = set(re.findall(r"\w+", docstring(PACKAGE).partition("    cli")[2].partition("Shapes and names")[0]))
    assert entries(PACKAGE) - {"py"} - floors - {"cli"} == set()


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("A thing.\n\nfix, label_maps: a copy. page: text.\n", {"fix", "label_maps", "page"}),
        ("A thing.\n\nfix: a copy.\nlabel_maps: which\nvalues. findings/: rules.", {"fix", "label_maps", "findings"}),
        ("Formats: labelme, coco.\n\ncoco_files: JSON (one file). x: y.", {"labelme", "coco", "coco_files", "x"}),
        ("A thing.\n\nresume: may this run continue? saver: checkpoints.", {"resume", "saver"}),
        ("A sentence: with a colon. Another one: too.\n\nA Third: too.", set()),
    ],
)
def test_names_in_a_docstring_are_those_that_begin_a_line_or_a_sentence(text: str, names: set[str]) -> None:
    assert named(text) == names
