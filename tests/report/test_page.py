"""The page in a browser: what its script does, and that it asks for nothing outside itself."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from segkit.classes import Classes
from segkit.eval_miou import eval_miou
from segkit.evaluation.confusion import ConfusionMatrix
from segkit.evaluation.families import build_families
from segkit.evaluation.judged import Judged
from segkit.evaluation.measurement import Measured, Measurement
from segkit.report.charts import Line, line_chart
from segkit.report.gallery import choose, feeders, shown
from segkit.report.page import report_page


@pytest.fixture(scope="module")
def page(trained, tmp_path_factory: pytest.TempPathFactory) -> Path:  # type: ignore[no-untyped-def]
    output = tmp_path_factory.mktemp("report")
    eval_miou(trained.best, output=output, report=True)
    return output / "report.html"


def measured(num_images: int, names: tuple[str, ...] = ("a", "b", "c")) -> Measured:
    """Random masks, right in three of four pixels; images further on are worse."""
    classes = Classes.build(names)
    measurement = Measurement(classes, build_families(3, probabilities=False))
    matrix = ConfusionMatrix(3)
    for k in range(num_images):
        rng = np.random.default_rng(k)
        truth = np.kron(rng.integers(0, 3, (4, 4)), np.ones((6, 6), int)).astype(np.uint8)
        wrong = rng.random(truth.shape) < k / num_images
        prediction = np.where(wrong, (truth + 1) % 3, truth).astype(np.uint8)
        counted = measurement.look(f"{k:04d}", Judged(truth, prediction, num_classes=3))
        matrix += counted.matrix
        measurement.add(counted)
    return measurement.measured(matrix.scores())


# ---- in the browser


def test_the_page_opens_from_disk_without_an_error_or_a_request(tab, page: Path) -> None:  # type: ignore[no-untyped-def]
    for phone, dark in ((False, False), (True, True)):
        tab.size(390 if phone else 1200, 800, phone=phone, dark=dark)
        tab.go(page.as_uri())
        assert tab.js("document.documentElement.scrollWidth <= innerWidth")
    assert tab.errors == []
    assert [url for url in tab.requests if not url.startswith(("file:", "data:"))] == []


def test_the_slider_moves_the_edge_by_keyboard_too(tab, page: Path) -> None:  # type: ignore[no-untyped-def]
    tab.go(page.as_uri())
    cut = "document.querySelector('.stack').style.getPropertyValue('--cut')"
    tab.js("document.querySelector('figure.compared input').focus()")
    tab.key("ArrowRight")
    assert tab.wait(cut) == "51%"


def test_layers_are_exchanged(tab, page: Path) -> None:  # type: ignore[no-untyped-def]
    tab.go(page.as_uri())
    tab.js("document.querySelector('.layers button').click()")
    assert tab.js("document.querySelector('.layers button').textContent") == "truth"
    assert tab.js("document.querySelector('.layer').src === document.querySelector('.layers button').dataset.source")
    assert tab.js("document.querySelector('.layer').naturalWidth") > 0


def test_a_column_sorts_both_ways(tab, page: Path) -> None:  # type: ignore[no-untyped-def]
    tab.go(page.as_uri())
    column = "[...document.querySelectorAll('table.sortable tbody tr')].map(row => +row.children[3].dataset.key)"
    head = "document.querySelectorAll('table.sortable th')[3]"
    tab.js(f"{head}.querySelector('button').click()")
    assert tab.js(column) == sorted(tab.js(column), reverse=True)
    assert tab.js(f"{head}.getAttribute('aria-sort')") == "descending"
    tab.js(f"{head}.querySelector('button').click()")
    assert tab.js(column) == sorted(tab.js(column))


def test_a_cell_of_the_confusion_matrix_leads_to_the_images_that_feed_it(tab, page: Path) -> None:  # type: ignore[no-untyped-def]
    tab.go(page.as_uri())
    tab.js("[...document.querySelectorAll('.matrix td button')].find(cell => cell.textContent).click()")
    assert tab.js("document.querySelectorAll('#feeding li').length") > 0
    assert "predicted as" in tab.js("document.getElementById('cell').textContent")
    link = "document.querySelector('#feeding a').getAttribute('href')"
    assert tab.js(f"document.querySelector({link}).tagName") == "FIGURE"
    tab.js("document.querySelector('input[value=pixels]').click()")
    assert tab.js(
        "[...document.querySelectorAll('.matrix td button')].every(cell => cell.textContent === cell.dataset.pixels)"
    )


# ---- what is on it


def test_names_are_text_whatever_they_hold() -> None:
    names = ("</script><script>alert(1)</script>", "<b>", "c")
    text = report_page("<i>", "p", measured(3, names))
    assert "<script>alert" not in text
    assert "<b>" not in text.replace("<b>{", "").split('<h2 id="classes">')[1].split("<h2")[0]


def test_groups_hold_the_worst_and_the_best_images() -> None:
    groups = {choice.title: list(choice.images) for choice in choose(measured(20))}
    assert "0000" in groups["Best images"]
    assert "0019" in groups["Worst images"]
    assert not set(groups["Best images"]) & set(groups["Worst images"])


def test_a_cell_names_the_images_that_feed_it_most() -> None:
    found = measured(10)
    fed = feeders(found)[0, 1]
    pixels = {
        row.name: dict(zip(map(tuple, row.cells.tolist()), row.pixels.tolist(), strict=True)) for row in found.rows
    }
    most = max(counts.get((0, 1), 0) for counts in pixels.values())
    assert fed[0][1] == most == pixels[fed[0][0]][0, 1]
    assert [count for _, count in fed] == sorted((count for _, count in fed), reverse=True)


def test_the_page_of_a_thousand_images_stays_below_15_mb() -> None:
    found = measured(1000)
    rng = np.random.default_rng(0)
    choices = choose(found)
    names = list(dict.fromkeys(name for choice in choices for name in choice.images))
    noise = rng.integers(0, 256, (900, 1200, 3)).astype(np.uint8)  # what compresses worst
    ids = rng.integers(0, 3, (900, 1200)).astype(np.uint8)
    one = shown("image", "name", noise, ids, ids[::-1], found.classes)
    images = [replace(one, id=f"image-{k}", name=name) for k, name in enumerate(names)]
    assert len(report_page("t", "p", found, choices=choices, images=images)) < 15e6


def test_a_chart_without_a_number_is_drawn_empty() -> None:
    assert 'class="line"' not in line_chart([Line("a", [(float("nan"), 1.0)])], x_label="x", y_label="y")
