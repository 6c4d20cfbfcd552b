"""Every entry of the table of formats is a function with the one signature of its kind."""

import inspect
import subprocess
import sys

import pytest

from segkit.formats.options import ReadOptions, WriteOptions
from segkit.formats.table import FORMATS, SOURCES, TARGETS, names_with


def types_of(function: object) -> list[object]:
    assert callable(function)
    return [parameter.annotation for parameter in inspect.signature(function).parameters.values()]


@pytest.mark.parametrize("name", SOURCES)
def test_every_reader_exists_and_takes_a_source_and_options(name: str) -> None:
    kinds = types_of(FORMATS[name].load_reader())
    assert len(kinds) == 2
    assert kinds[-1] is ReadOptions


@pytest.mark.parametrize("name", TARGETS)
def test_every_writer_exists_and_takes_samples_a_folder_and_options(name: str) -> None:
    kinds = types_of(FORMATS[name].load_writer())
    assert len(kinds) == 3
    assert kinds[-1] is WriteOptions


def test_every_format_can_be_read_or_written() -> None:
    assert set(FORMATS) == {*SOURCES, *TARGETS}


@pytest.mark.parametrize("name", names_with("polygons"))
def test_what_is_written_as_polygons_can_be_read_again(name: str) -> None:
    assert name in SOURCES
    assert name in TARGETS


@pytest.mark.parametrize(("flag", "names"), [("takes_labels", SOURCES), ("polygons", TARGETS), ("shards", TARGETS)])
def test_a_flag_belongs_to_a_format_that_has_its_function(flag: str, names: tuple[str, ...]) -> None:
    assert set(names_with(flag)) <= set(names)
    assert names_with(flag)


def test_the_table_imports_no_format() -> None:
    code = "import sys, segkit.formats.table; print(sorted({'numpy', 'pydantic', 'cv2'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
