"""JSON of other tools is read and checked; what is wrong is named by its place."""

import json
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import Field, TypeAdapter, ValidationError

from segkit.errors import DataError, first_line, summarize

T = TypeVar("T")

FAR = 1e9  # no picture reaches there, and arithmetic stays finite
Coordinate = Annotated[float, Field(ge=-FAR, le=FAR, allow_inf_nan=False)]


def read_text(path: Path, *, expected: str) -> str:
    """Return a text file's content, UTF-8, without a BOM.

    Raises:
        DataError: it is missing, can't be read or is no text.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"{path}: can't be read ({error.strerror}), expected {expected}; check the path") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: no UTF-8 text, expected {expected}; export it again") from error


def read_json(path: Path, form: type[T], *, expected: str) -> T:
    """Return the content of a JSON file as `form`, a pydantic model or any type that pydantic can check.

    Raises:
        DataError: the file can't be read, is no JSON, or has another form; names the places.
    """
    text = read_text(path, expected=expected)
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: no JSON ({first_line(error)}), expected {expected}; export it again") from error
    return check(content, form, where=str(path), expected=expected)


def check(content: object, form: type[T], *, where: str, expected: str) -> T:
    """Return `content`, as JSON gives it, as `form`.

    Raises:
        DataError: it has another form.
    """
    try:
        checked: T = TypeAdapter(form).validate_python(content)
    except ValidationError as error:
        raise DataError(
            summarize(
                [
                    f"{where}: at {'.'.join(map(str, problem['loc'])) or 'its top'}: {problem['msg']}; expected "
                    f"{expected}"
                    for problem in error.errors(include_url=False, include_context=False, include_input=False)
                ]
            )
        ) from error
    return checked
