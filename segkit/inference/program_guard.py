"""Read a torch.export archive before PyTorch does, and refuse what could run code when it is loaded or run.

PyTorch evaluates the archive's expressions as Python, resolves any function of the torch and operator modules by its
name, unpickles tensors, and compiled packages are native code; its documentation says to load trusted files only. What
segkit writes needs none of this: tensors are raw bytes, operations are PyTorch's core ones, expressions are sizes.
"""

import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from segkit.errors import CheckpointError

# torch.ops.aten.conv2d.default; operator's arithmetic on sizes; PyTorch's own functions of them
TARGETS = re.compile(
    r"torch\.ops\.aten\.\w+\.\w+|_operator\.(add|sub|mul|floordiv|truediv|mod|neg|pow|eq|ne|lt|le|gt|ge|getitem)"
    r"|torch\.sym_(max|min|not|ite|sum|float|int)"
)
# As sympy writes expressions of sizes: Add(Integer(1), Mul(Integer(-1), Symbol('s34', positive=True, integer=True)))
NAMES = {
    "Symbol", "Integer", "Rational", "Add", "Mul", "Pow", "Mod", "FloorDiv", "CleanDiv", "CeilToInt", "FloorToInt",
    "Max", "Min", "Eq", "Ne", "Lt", "Le", "Gt", "Ge", "And", "Or", "Not", "PythonMod", "True", "False", "true", "false",
    "positive", "negative", "nonnegative", "integer", "StrictLessThan", "LessThan", "StrictGreaterThan", "GreaterThan",
    "Equality", "Unequality",
}  # fmt: skip
TOKEN = re.compile(r"\s*(?:(?P<name>[A-Za-z_]\w*)|'(?P<symbol>[su]\d+)'|[-+*/%(),=<>!&|~]|\d+)")
METADATA = {"stack_trace", "nn_module_stack", "torch_fn"}  # plain text


def refuse_code(path: Path) -> None:
    """Read a .pt2 archive's structure.

    Raises:
        CheckpointError: it is no such archive, or holds what segkit doesn't write.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                inner = name.partition("/")[2]  # below the archive's own folder
                if inner.startswith("models/") and inner.endswith(".json"):
                    _check_graph(json.loads(archive.read(name)), path)
                elif inner.startswith("data/") and inner.endswith("_config.json"):
                    _check_payload(json.loads(archive.read(name)), path)
                elif inner.startswith("data/sample_inputs/") or inner.endswith(".pt"):
                    _check_pickle(archive.read(name), path)
                elif inner.startswith("data/aotinductor/"):
                    raise _refusal(path, "compiled code")
    except (zipfile.BadZipFile, OSError, ValueError, KeyError, RecursionError) as error:
        raise CheckpointError(
            f"{path}: not an archive of torch.export, or truncated; copy it again, or export it again"
        ) from error


def _check_graph(content: Any, path: Path) -> None:
    if content.get("guards_code"):
        raise _refusal(path, "checks written in Python")
    for key, value in _walk(content):
        if key == "target" and isinstance(value, str) and not TARGETS.fullmatch(value):
            raise _refusal(path, f"the operation {value!r:.80}")
        if key == "expr_str" and not _is_size(value):
            raise _refusal(path, f"the expression {value!r:.80}")
        if key == "metadata" and isinstance(value, dict) and (strange := value.keys() - METADATA):
            raise _refusal(path, f"the note {min(strange)!r:.80}")
        if key in ("as_custom_obj", "as_operator", "as_graph") and value is not None:
            raise _refusal(path, f"an argument of another kind ({key})")


def _check_payload(content: Any, path: Path) -> None:
    for entry in content["config"].values():
        if entry.get("use_pickle") or not entry.get("tensor_meta"):
            raise _refusal(path, "pickled objects")


def _check_pickle(content: bytes, path: Path) -> None:
    if not content:
        return
    try:
        torch.load(io.BytesIO(content), weights_only=True)
    except Exception as error:  # the unpickler raises many types
        raise _refusal(path, "pickled objects other than tensors") from error


def _is_size(expression: Any) -> bool:
    """True for arithmetic on sizes alone: no names but sympy's functions, no text but symbols."""
    if not isinstance(expression, str):
        return False
    end = 0
    while end < len(expression):
        token = TOKEN.match(expression, end)
        if token is None or (token["name"] and token["name"] not in NAMES):
            return False
        end = token.end()
    return True


def _walk(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key, inner
            yield from _walk(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _walk(inner)


def _refusal(path: Path, what: str) -> CheckpointError:
    return CheckpointError(
        f"{path}: refused: it holds {what}, which could run code; expected what segkit export writes: PyTorch's core "
        "operations and tensors"
    )
