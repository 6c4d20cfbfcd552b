"""Mistakes in a config in a user's words: what was found, what was expected, and which key or value was meant."""

import dataclasses
import difflib
import json
import types
import typing
from collections.abc import Sequence
from typing import Annotated, Any, Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt

from segkit.config.keys import KEYS

# What other programs of this field call some of our keys, for the hint after "unknown key".
OTHER_NAMES = {
    "learning_rate": "optim.lr",
    "init_lr": "optim.lr",
    "optimizer": "optim.name",
    "num_classes": "data.classes",
    "class_names": "data.classes",
    "input_shape": "data.canvas",
    "image_size": "data.canvas",
    "crop_size": "data.canvas",
    "backbone": "model.encoder",
    "num_workers": "train.workers",
    "weight": "loss.class_weights",
    "output": "run",
    "name": "run",
    "run.name": "run",
    "run_name": "run",
    "experiment": "run",
    "save_dir": "run",
}


def explain_values(errors: Sequence[Any], plain: dict[str, Any]) -> list[str]:
    """Turn pydantic's errors about `plain` into one line per wrong key (a union reports one error per member)."""
    lines: dict[str, str] = {}
    for error in errors:
        parts = [str(part) for part in error["loc"]]
        name = parts[0]
        for part in parts[1:]:
            if f"{name}.{part}" not in KEYS:
                break
            name = f"{name}.{part}"
        if name in lines:
            continue
        found: Any = plain
        for part in name.split("."):
            found = found[part]
        kind = KEYS[name].kind
        near = _nearest(found, choices(kind)) if isinstance(found, str) else None
        hint = f"; did you mean {near}?" if near else ""
        lines[name] = f"{name}: found {json.dumps(found)}, expected {_describe(kind)}{hint}"
    return list(lines.values())


def unknown_keys(plain: dict[str, Any], prefix: str = "") -> list[str]:
    """Return one line per key of a nested dict that the schema doesn't have."""
    problems = []
    for last, value in plain.items():
        name = prefix + last
        if name not in KEYS:
            problems.append(unknown_key(name))
        elif isinstance(value, dict) and KEYS[name].is_section:
            problems += unknown_keys(value, f"{name}.")
    return problems


def unknown_key(name: str) -> str:
    """Say that no key has this dotted name, and which one was probably meant."""
    near = OTHER_NAMES.get(name) or _nearest(name, list(KEYS))
    if near is None:  # another program's word, or the right word in the wrong section
        last = name.rpartition(".")[2]
        near = OTHER_NAMES.get(last) or next((known for known in KEYS if known.rpartition(".")[2] == last), None)
    return f"{name}: unknown key" + (f"; did you mean {near}?" if near else "; configs/reference.yaml lists every key")


def choices(kind: Any) -> list[str]:
    """Return the words that a type allows, in their order; empty if it is not a choice of words."""
    if get_origin(kind) is Literal:
        return [str(choice) for choice in get_args(kind)]
    return [choice for member in get_args(kind) if get_origin(member) is Literal for choice in choices(member)]


def _nearest(word: str, known: Sequence[str]) -> str | None:
    return next(iter(difflib.get_close_matches(word, known, n=1, cutoff=0.6)), None)


def _describe(kind: Any) -> str:
    """Say in words what a type accepts: 'a number > 0', 'one of: voc, folders', 'a list of words'."""
    words = {int: "a whole number", float: "a number", str: "a word", bool: "true or false", type(None): "null"}
    if kind in words:
        return words[kind]
    origin, members = get_origin(kind), get_args(kind)
    if origin is Annotated:
        signs = {Ge: ">=", Gt: ">", Le: "<=", Lt: "<"}
        bounds = [f"{signs[type(b)]} {next(iter(dataclasses.asdict(b).values())):g}" for b in kind.__metadata__]
        return f"{_describe(members[0])} {' and '.join(bounds)}"
    if origin is Literal:
        return members[0] if len(members) == 1 else f"one of: {', '.join(members)}"
    if origin is types.UnionType or origin is typing.Union:
        return ", or ".join(_describe(member) for member in members)
    if origin is tuple and members[-1] is Ellipsis:
        return f"a list, each entry {_describe(members[0])}"
    if origin is tuple and len(set(members)) > 1:
        return f"a list of {' and '.join(_describe(member) for member in members)}"
    if origin is tuple:
        return f"a list of {len(members)}, each {_describe(members[0])}"
    return "keys with values below it"
