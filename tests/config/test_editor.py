import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from segkit.config.editor import json_schema
from segkit.config.keys import KEYS
from segkit.config.reading import config_to_dict
from segkit.config.schema import RunConfig
from segkit.config.strict_yaml import parse_yaml

CONFIGS = Path(__file__).parents[2] / "configs"
FILES = sorted(CONFIGS.rglob("*.yaml"))


def test_the_file_in_configs_is_the_generated_one() -> None:
    remedy = "run: python -m segkit.config.editor > configs/schema.json"
    assert json.loads((CONFIGS / "schema.json").read_text(encoding="utf-8")) == json_schema(), remedy


def test_it_explains_every_key() -> None:
    properties = json_schema()["properties"]
    found = list(properties) + [
        f"{section}.{key}" for section, entry in properties.items() for key in entry.get("properties", ())
    ]
    assert set(found) == set(KEYS)
    assert properties["optim"]["properties"]["name"]["description"].startswith("optimizer: adamw, adam, sgd")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_each_config_keeps_to_it_and_names_it(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    jsonschema.validate(parse_yaml(text, where=str(path)), json_schema())
    first = text.splitlines()[0]
    assert first.startswith("# yaml-language-server: $schema=")
    assert (path.parent / first.partition("=")[2]).resolve() == CONFIGS / "schema.json"


@pytest.mark.parametrize(
    "wrong",
    [
        {"data": {"rot": "x"}},
        {"datta": {}},
        {"train": {"epochs": 0}},
        {"train": {"epochs": "3"}},
        {"optim": {"name": "adamx"}},
        {"data": {"canvas": [512]}},
        {"eval": {"tta": ["flop"]}},
    ],
)
def test_what_the_config_refuses_it_refuses(wrong: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, json_schema())


def test_every_default_keeps_to_it() -> None:
    jsonschema.validate(config_to_dict(RunConfig()), json_schema())
