"""The README and the pages in docs/: what they link to, list and tell a reader to type exists."""

import re
import shutil
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from segkit.cli import COMMANDS
from segkit.config.reading import load_config

if TYPE_CHECKING:
    from segkit.train import TrainResult

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [README, *DOCS]
PACKAGES = sorted(path.parent for path in (ROOT / "segkit").rglob("__init__.py") if path.parent != ROOT / "segkit")
MAX_LINES, MAX_COLUMNS = 150, 120


def prose(text: str) -> str:
    """Return a page without its blocks of code, in which brackets are no links."""
    return re.sub(r"^\s*```.*?^\s*```$", "", text, flags=re.DOTALL | re.MULTILINE)


def links(text: str) -> list[str]:
    """Return the targets of a page's links and images that lead to files of this repository."""
    targets = re.findall(r"\]\(([^)\s]+)\)", prose(text))
    return [target for target in targets if not re.match(r"[a-z]+:", target)]


def anchors(text: str) -> set[str]:
    """Return what a link may name after the # of a page: its headings, as GitHub spells them."""
    headings = re.findall(r"^#+ (.+)$", prose(text), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def is_broken(target: str, page: Path) -> bool:
    """True if a link of a page leads to no file, or to no heading of that file."""
    name, _, anchor = target.partition("#")
    file = page.parent / name if name else page
    return not file.exists() or (anchor != "" and anchor not in anchors(file.read_text(encoding="utf-8")))


def blocks(text: str, language: str) -> list[str]:
    """Return what stands between the fences of a page's blocks of code in a language; of plain ones, for ``."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```$", text, flags=re.DOTALL | re.MULTILINE)
    return [textwrap.dedent(block) for _, block in found]


def commands_shown(text: str) -> set[str]:
    """Return every word that a page shows as a command of segkit, in its blocks of code and between backticks."""
    lines = [line for language in ("", "bash") for block in blocks(text, language) for line in block.splitlines()]
    spans = re.findall(r"`([^`\n]+)`", prose(text))
    matches = (re.match(r"(?:.*\buv run |srun )?segkit (\w[\w-]*)", shown) for shown in lines + spans)
    return {match[1] for match in matches if match}


def tree_of(text: str) -> str:
    """Return the block of the README that shows the tree."""
    match = re.search(r"^## The tree\n+```\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)
    assert match is not None
    return match[1]


def test_the_readme_is_short() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) < MAX_LINES


def test_no_line_of_the_readme_is_too_wide() -> None:
    lines = README.read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if len(line) > MAX_COLUMNS] == []


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.relative_to(ROOT / "segkit").as_posix())
def test_the_tree_names_every_package(package: Path) -> None:
    tree = tree_of(README.read_text(encoding="utf-8"))
    assert any(_names(line, package) for line in tree.splitlines()), f"{package.relative_to(ROOT)} is missing"


def _names(line: str, package: Path) -> bool:
    """True if a line of the tree names a package: at its start, or behind the package it is in."""
    *above, name = package.relative_to(ROOT / "segkit").parts
    if above:
        return line.startswith(f"  {above[0]}/") and f" {name}/:" in line
    return line.startswith(f"  {name}/")


def test_the_tree_names_only_what_exists() -> None:
    tree = tree_of(README.read_text(encoding="utf-8"))
    packages = re.findall(r"^  (\w+)/", tree, flags=re.MULTILINE)
    files = re.findall(r"^  ((?:\w+\.py +)+)", tree, flags=re.MULTILINE)
    names = packages + [name for group in files for name in group.split()]
    assert [name for name in names if not (ROOT / "segkit" / name).exists()] == []
    assert {path.name for path in (ROOT / "segkit").glob("[a-z]*.py")} <= set(names)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_link_resolves(page: Path) -> None:
    assert [target for target in links(page.read_text(encoding="utf-8")) if is_broken(target, page)] == []


@pytest.mark.parametrize("page", DOCS, ids=lambda path: path.name)
def test_every_page_is_linked_from_the_readme(page: Path) -> None:
    assert f"docs/{page.name}" in {link.partition("#")[0] for link in links(README.read_text(encoding="utf-8"))}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_command_shown_exists(page: Path) -> None:
    assert commands_shown(page.read_text(encoding="utf-8")) <= set(COMMANDS)


def test_the_readme_shows_every_command() -> None:
    assert commands_shown(README.read_text(encoding="utf-8")) == set(COMMANDS)


@pytest.mark.parametrize(
    ("target", "broken"),
    [
        ("data.md", False),
        ("data.md#split", False),
        ("#split", False),
        ("data.md#no-such-heading", True),
        ("no_such_page.md", True),
    ],
)
def test_a_broken_link_is_seen(target: str, broken: bool, tmp_path: Path) -> None:
    page = tmp_path / "data.md"
    page.write_text("# Data\n\n## Split\n\n```\n# no heading\n```\n", encoding="utf-8")
    assert is_broken(target, page) == broken


def test_the_config_of_the_five_minutes_is_one(tmp_path: Path) -> None:
    (text,) = blocks(README.read_text(encoding="utf-8"), "yaml")
    (tmp_path / "mine.yaml").write_text(text, encoding="utf-8")
    assert load_config(tmp_path / "mine.yaml").run == "runs/mine"


def test_the_lines_of_the_library_predict_a_mask(
    trained: "TrainResult", shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (code,) = blocks(README.read_text(encoding="utf-8"), "python")
    checkpoint, image = tmp_path / "runs/mine/checkpoints/best.pt", tmp_path / "new_images/cat_101.jpg"
    for source, target in ((trained.best, checkpoint), (min((shapes / "JPEGImages").iterdir()), image)):
        target.parent.mkdir(parents=True)
        shutil.copy(source, target)
    monkeypatch.chdir(tmp_path)
    values: dict[str, object] = {}
    exec(compile(code, "README.md", "exec"), values)
    pixels, mask = np.asarray(values["image"]), np.asarray(values["mask"])
    assert (mask.dtype, mask.shape) == (np.uint8, pixels.shape[:2])
    assert mask.max() < len(trained.classes)
