"""The schema as JSON Schema, by which editors complete and check keys: `python -m segkit.config.editor >
configs/schema.json`.

An editor with a YAML language server reads it where the first line of a config names it:
`# yaml-language-server: $schema=PATH/schema.json`. It knows types and bounds; rules between keys it doesn't
(contradictions.py).
"""

import json
from typing import Any

from segkit.config.explain import choices
from segkit.config.keys import KEYS
from segkit.config.schema import RunConfig


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a config: every key with its explanation; unknown ones are refused."""
    from pydantic import TypeAdapter

    schema = TypeAdapter(RunConfig).json_schema()
    sections = schema.pop("$defs")
    properties: dict[str, Any] = {}
    for name, key in KEYS.items():
        section, _, last = name.rpartition(".")
        if key.is_section:
            properties[name] = _object({}, key.text)
            continue
        kind = sections[type(getattr(RunConfig(), section)).__name__] if section else schema
        entry = {each: value for each, value in kind["properties"][last].items() if each != "title"}
        entry["description"] = key.text.replace("{choices}", ", ".join(choices(key.kind)))
        (properties[section]["properties"] if section else properties)[last] = entry
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "segkit config",
        **_object(properties, "a whole experiment"),
    }


def _object(properties: dict[str, Any], text: str) -> dict[str, Any]:
    return {"type": "object", "description": text, "additionalProperties": False, "properties": properties}


if __name__ == "__main__":
    print(json.dumps(json_schema(), indent=1))
