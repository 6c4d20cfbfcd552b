import inspect

import pytest

from segkit import errors
from segkit.errors import SegkitError, count, first_line, listed, summarize

TREE = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, Exception)]


@pytest.mark.parametrize("kind", TREE)
def test_every_error_is_one_of_segkits_and_drawn_in_the_tree(kind: type[Exception]) -> None:
    assert issubclass(kind, SegkitError)
    assert errors.__doc__ is not None
    assert kind.__name__ in errors.__doc__


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("one\ntwo"), "one"),
        (ValueError(), "ValueError"),
        (OSError(" \n"), "OSError"),
        (ValueError("x" * 200), "x" * 160),
    ],
)
def test_the_first_line_of_an_error_is_never_empty_nor_long(error: Exception, line: str) -> None:
    assert first_line(error) == line


def test_as_many_problems_as_are_shown_are_all_listed() -> None:
    assert summarize(["a", "b"], shown=2) == "a\nb"


def test_of_more_problems_the_first_come_with_the_total() -> None:
    assert summarize(["a", "b", "c"], shown=2) == "a\nb\n... and 1 more (3 in total)"


@pytest.mark.parametrize(("number", "words"), [(0, "0 images"), (1, "1 image"), (2, "2 images")])
def test_only_one_is_singular(number: int, words: str) -> None:
    assert count(number, "image") == words


def test_lists_are_cut_with_how_many_are_left() -> None:
    assert listed([1, 2], shown=2) == "1, 2"
    assert listed([1, 2, 3, 4], shown=2) == "1, 2 and 2 more"
