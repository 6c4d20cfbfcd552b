import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segkit.classes import Classes
from segkit.config.schema import DataConfig
from segkit.datasets.images import image_size_hw
from segkit.datasets.masks import build_mask_reader
from segkit.doctor.check import check, write_page
from segkit.doctor.examination import Finding
from segkit.doctor.page import check_page, label_in_color


class Page(HTMLParser):
    """Counts tags and collects addresses; complains about tags that are not closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.counts: dict[str, int] = {}
        self.addresses: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.counts[tag] = self.counts.get(tag, 0) + 1
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "img", "line", "circle"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("line", "circle"):
            assert self.open.pop() == tag


@pytest.fixture
def spoiled(shapes: Path, tmp_path: Path) -> Path:
    root = tmp_path / "<b>data</b>"
    shutil.copytree(shapes, root)
    first = sorted((root / "SegmentationClass").iterdir())[0]
    Image.fromarray(np.full_like(np.array(Image.open(first)), 99)).save(first)
    return root


def page_of(root: Path, tmp_path: Path, *, augment: bool = False) -> str:
    write_page(check(root), tmp_path / "c.html", augment=augment)
    return (tmp_path / "c.html").read_text()


def test_the_page_is_one_file_that_fetches_and_runs_nothing(spoiled: Path, tmp_path: Path) -> None:
    page = Page(page_of(spoiled, tmp_path))
    assert page.open == []
    assert page.counts["img"] > 5
    assert all(address.startswith("data:image/jpeg;base64,") for address in page.addresses)
    assert "script" not in page.counts


def test_names_can_hold_no_markup(spoiled: Path, tmp_path: Path) -> None:
    text = page_of(spoiled, tmp_path)
    assert "<b>data" not in text
    assert "&lt;b&gt;data" in text


def test_of_very_many_files_a_thousand_are_listed_and_the_rest_is_counted(spoiled: Path) -> None:
    lines = tuple(f"file {k}" for k in range(1234))
    text = check_page(check(spoiled).examined, [Finding("some-code", "note", "many files", lines, "look")])
    assert "and 234 that are not listed here" in text
    assert text.count("<li>file ") == 1000


def test_findings_come_with_images_and_remedies(spoiled: Path, tmp_path: Path) -> None:
    text = page_of(spoiled, tmp_path)
    section = re.search(r'id="unknown-id">(.*?)</section>', text, re.DOTALL)
    assert section
    assert "data.ignore_values: [99]" in section[1]
    assert section[1].count("<figure>") == 1


def test_the_page_is_the_same_every_time(spoiled: Path, tmp_path: Path) -> None:
    assert page_of(spoiled, tmp_path) == page_of(spoiled, tmp_path)


def test_augmentations_are_shown_when_asked(shapes: Path, tmp_path: Path) -> None:
    assert "What training sees" not in page_of(shapes, tmp_path)
    assert "What training sees" in page_of(shapes, tmp_path, augment=True)


def test_a_real_set_has_a_page(shared_data: Callable[[str], Path], tmp_path: Path) -> None:
    root = shared_data("voc2012_sample")
    sizes = {image_size_hw(path) for path in (root / "JPEGImages").iterdir()}
    assert len(sizes) > 4
    assert page_of(root, tmp_path).count("<circle") == len(sizes)


def test_ids_that_are_no_class_are_painted_brightly() -> None:
    classes = Classes.build(["background", "object"])
    reader = build_mask_reader(DataConfig(), classes)
    painted = label_in_color(np.array([[0, 1, 7, 255, 256]], np.int32), reader)
    assert painted.shape == (1, 5, 3)
    assert painted[0, 4].min() >= 64
    assert painted[0, 0].tolist() == [0, 0, 0]
    assert painted[0, 1].tolist() == list(classes.colors[1])
    assert painted[0, 2].min() >= 64
