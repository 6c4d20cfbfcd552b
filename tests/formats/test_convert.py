"""How often a conversion reads its files, and what it refuses before it reads any."""

import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from segkit.datasets import images
from segkit.errors import ConfigError, DataError
from segkit.formats.convert import convert, read_source
from segkit.formats.options import ReadOptions, WriteOptions
from segkit.formats.sample import SampleSet
from segkit.formats.table import FORMATS, SOURCES, TARGETS, names_with


@pytest.fixture
def two_images(make_set: Callable[..., SampleSet]) -> SampleSet:
    mask = np.zeros((9, 12), np.uint8)
    mask[2:5, 3:8], mask[6:8, 1:4] = 1, 2
    return make_set({"a": mask, "b": mask[::-1]})


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Counter[str]]:
    """Count, by image file, how often segkit.formats reads one in full, and how often it asks for its size."""
    for name in SOURCES:
        FORMATS[name].load_reader()
    for name in TARGETS:
        FORMATS[name].load_writer()
    counts = {name: Counter[str]() for name in ("read_encoded", "image_size_hw")}
    for name, counter in counts.items():
        original = getattr(images, name)

        def counting(path: Path, original: Callable[..., object] = original, counter: Counter[str] = counter) -> object:
            counter[str(path)] += 1
            return original(path)

        for module in [module for key, module in sys.modules.items() if key.startswith("segkit.formats")]:
            if getattr(module, name, None) is original:
                monkeypatch.setattr(module, name, counting)
    return counts


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("source", sorted({"voc", *names_with("polygons")}))
def test_each_image_is_read_once_in_full_and_asked_once_for_its_size(
    two_images: SampleSet, asked: dict[str, Counter[str]], tmp_path: Path, source: str, target: str
) -> None:
    convert(two_images, source, tmp_path / "first")
    for counter in asked.values():
        counter.clear()
    convert(read_source(tmp_path / "first", format=source), target, tmp_path / "out")
    for counter in asked.values():
        assert [*counter.values()] == [1, 1], counter
        assert all(path.startswith(str(tmp_path / "first")) for path in counter)


def test_an_unknown_format_is_refused_with_the_nearest_known_one(two_images: SampleSet, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--from: found labelm, .*did you mean labelme\?"):
        read_source(tmp_path, format="labelm")
    with pytest.raises(ConfigError, match=r"--to: found webdatasets, .*did you mean webdataset\?"):
        convert(two_images, "webdatasets", tmp_path / "out")


@pytest.mark.parametrize("name", SOURCES)
def test_labels_are_taken_by_formats_that_say_so(tmp_path: Path, name: str) -> None:
    with pytest.raises((ConfigError, DataError)) as caught:
        read_source(tmp_path, format=name, options=ReadOptions(labels=tmp_path / "none"))
    assert ("--labels: no effect" in str(caught.value)) == (name not in names_with("takes_labels"))


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize(
    ("options", "flag", "word"),
    [
        (WriteOptions(tolerance=1.0), "polygons", "--tolerance"),
        (WriteOptions(samples_per_shard=1), "shards", "--samples-per-shard"),
    ],
)
def test_options_are_taken_by_formats_that_say_so(
    two_images: SampleSet, tmp_path: Path, name: str, options: WriteOptions, flag: str, word: str
) -> None:
    if name in names_with(flag):
        convert(two_images, name, tmp_path / "out", options=options)
    else:
        with pytest.raises(ConfigError, match=f"{word}: no effect on {name}; it needs --to"):
            convert(two_images, name, tmp_path / "out", options=options)
    assert (tmp_path / "out").exists() == (name in names_with(flag))


def test_a_tolerance_below_zero_is_refused(two_images: SampleSet, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--tolerance: found -1, expected 0"):
        convert(two_images, "labelme", tmp_path / "out", options=WriteOptions(tolerance=-1.0))


def test_a_missing_source_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none: no such file or folder"):
        read_source(tmp_path / "none", format="voc")


def test_splits_are_chosen_and_unknown_ones_refused(make_set: Callable[..., SampleSet], tmp_path: Path) -> None:
    mask = np.eye(4, dtype=np.uint8)
    convert(make_set({"train/a": mask, "val/b": mask}, splits=True), "voc", tmp_path / "voc")
    assert [*read_source(tmp_path / "voc", format="voc", splits=["val"]).splits] == ["val"]
    with pytest.raises(ConfigError, match=r"--splits: found test, expected some of: train, val"):
        read_source(tmp_path / "voc", format="voc", splits=["test"])
