"""Read and check JSON and text of other tools, many files at once; messages name the field that is wrong.

Nothing in the files is trusted. Not here: images and masks (segkit.datasets), XML (cvat), CSV (rle_csv).
"""

import functools
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import Field, TypeAdapter, ValidationError

from segkit.errors import DataError, first_line, summarize
from segkit.runtime.machine import count_threads
from segkit.runtime.threads import prefetch

T = TypeVar("T")
R = TypeVar("R")

FAR = 1e6  # pixels: beyond any image, and arithmetic stays finite
Coordinate = Annotated[float, Field(ge=-FAR, le=FAR, allow_inf_nan=False)]


def find_one(source: Path, suffix: str, *, expected: str) -> Path:
    """Return a file, or the one with the suffix (.json) that a folder holds.

    Raises:
        DataError: the folder holds none, or several.
    """
    if not source.is_dir():
        return source
    found = sorted(source.glob(f"*{suffix}"))
    if len(found) != 1:
        kind, names = suffix.strip(".").upper(), ", ".join(path.name for path in found)
        raise DataError(
            f"{source}: found {len(found)} {kind} files{names and f': {names}'}, expected one, {expected}; name the "
            "file you mean"
        )
    return found[0]


def read_text(path: Path, *, expected: str) -> str:
    """Return a text file's content, UTF-8, without a BOM.

    Raises:
        DataError: it is missing, can't be read or is not UTF-8.
    """
    try:
        return _read_bytes(path, expected=expected).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not a text file in UTF-8, expected {expected}; export it again") from error


def load_json(path: Path, *, expected: str) -> Any:
    """Return what a JSON file holds, unchecked; NaN and Infinity, which JSON doesn't know, are refused.

    Raises:
        DataError: it can't be read, or is not JSON.
    """
    try:
        return json.loads(_read_bytes(path, expected=expected), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: broken JSON ({first_line(error)}), expected {expected}; export it again") from error


def read_json(path: Path, form: type[T], *, expected: str) -> T:
    """Return the content of a JSON file as `form`, a pydantic model or any type that pydantic can check.

    Raises:
        DataError: the file can't be read, is not JSON, or has another form; the message names the fields.
    """
    return check(load_json(path, expected=expected), form, where=str(path), expected=expected)


def check(content: object, form: type[T], *, where: str, expected: str) -> T:
    """Return `content`, parsed JSON, as `form`; see `read_json`.

    Raises:
        DataError: it has another form.
    """
    try:
        checked: T = _adapter(form).validate_python(content)  # type: ignore[arg-type]  # a type is hashable
    except ValidationError as error:
        fields: dict[str, str] = {}
        for problem in error.errors(include_url=False, include_context=False):
            field = ".".join(map(str, problem["loc"])) or "its top level"
            found = "nothing" if problem["type"] == "missing" else _shorten(problem["input"])
            fields.setdefault(field, f"found {found} ({problem['msg']})")
        raise DataError(
            summarize([f"{where}: {field}: {found}, expected {expected}" for field, found in fields.items()])
        ) from error
    return checked


def collect(function: Callable[[T], R], inputs: Iterable[T]) -> Iterator[tuple[T, R]]:
    """Yield (x, function(x)), computed by threads, in order; errors are raised at the end, as one.

    Raises:
        DataError: with the first ten messages and how many there are.
    """

    def attempt(given: T) -> tuple[T, R | None, str | None]:
        try:
            return given, function(given), None
        except DataError as error:
            return given, None, str(error)

    problems = []
    for given, result, problem in prefetch(attempt, inputs, threads=count_threads(), ahead=32):
        if problem is None:
            yield given, result  # type: ignore[misc]
        else:
            problems.append(problem)
    if problems:
        raise DataError(summarize(problems))


def _read_bytes(path: Path, *, expected: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: can't be read ({error.strerror}), expected {expected}; check the path") from error


@functools.cache
def _adapter(form: type[T]) -> TypeAdapter[T]:
    return TypeAdapter(form)


def _shorten(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _refuse_constant(name: str) -> None:
    raise ValueError(f"the value {name}")
