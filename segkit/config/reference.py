"""The schema as a YAML file to read and to copy from: `python -m segkit.config.reference > configs/reference.yaml`."""

import textwrap
from collections.abc import Iterator
from typing import Any

from segkit.config.explain import choices
from segkit.config.keys import KEYS, Key
from segkit.config.reading import config_to_dict
from segkit.config.schema import RunConfig
from segkit.config.strict_yaml import dump_yaml

WIDTH = 120  # columns

HEADER = """\
# yaml-language-server: $schema=schema.json
# Every key with its default: the manual, generated from segkit/config/schema.py. Copy what you need into a file of your
# own; leave out what you don't change. Paths are relative to the folder that you start segkit in. Any key can be given
# on the command line: train.epochs=10
# [resume]: may change when a run resumes. [eval]: has an effect in `segkit eval`.
"""


def reference_yaml() -> str:
    """Return every section and key in the order of the schema, with its default, explanation and marks."""
    plain = config_to_dict(RunConfig())
    entries = {name: _entry(name, plain) for name in KEYS}
    column = max(map(len, entries.values())) + 2
    lines: list[str] = []
    for name, entry in entries.items():
        if "." not in name:
            lines.append("")
        lines += _explained(entry, KEYS[name], column)
    return HEADER + "\n".join(lines) + "\n"


def _entry(name: str, plain: dict[str, Any]) -> str:
    *sections, last = name.split(".")
    if KEYS[name].is_section:
        return f"{last}:"
    for section in sections:
        plain = plain[section]
    return "  " * len(sections) + dump_yaml({last: plain[last]}).rstrip("\n")


def _explained(entry: str, key: Key, column: int) -> Iterator[str]:
    """Yield `entry` with the explanation beside it, wrapped, so that it starts in the same column everywhere."""
    marks = [word for word, marked in (("[resume]", key.resumable), ("[eval]", key.evaluable)) if marked]
    text = " ".join([key.text.replace("{choices}", ", ".join(choices(key.kind))), *marks])
    comments = textwrap.wrap(text, WIDTH - column - 2, break_long_words=False, break_on_hyphens=False)
    if not comments:
        yield entry
    for comment in comments:
        yield f"{entry:{column}}# {comment}"
        entry = ""


if __name__ == "__main__":
    print(reference_yaml(), end="")
