from pathlib import Path

import pytest

from segkit.config.explain import choices
from segkit.config.keys import KEYS
from segkit.config.reading import config_from_dict
from segkit.config.reference import WIDTH, reference_yaml
from segkit.config.schema import RunConfig
from segkit.config.strict_yaml import parse_yaml

FILE = Path(__file__).parents[2] / "configs" / "reference.yaml"


def test_the_file_in_configs_is_the_generated_one() -> None:
    remedy = "run: python -m segkit.config.reference > configs/reference.yaml"
    assert FILE.read_text(encoding="utf-8") == reference_yaml(), remedy


def test_it_is_a_config_with_every_key_at_its_default() -> None:
    plain = parse_yaml(reference_yaml(), where="reference")
    assert config_from_dict(plain, where="reference") == RunConfig()
    names = [name for section, keys in plain.items() for name in (section, *(f"{section}.{key}" for key in keys or ()))]
    assert names == list(KEYS)


@pytest.mark.parametrize("name", [name for name, key in KEYS.items() if not key.is_section])
def test_every_key_is_explained_with_each_word_that_it_takes(name: str) -> None:
    text = KEYS[name].text
    assert len(text) > 5
    assert not text.endswith(".")
    for word in choices(KEYS[name].kind):
        assert word in text or "{choices}" in text


def test_lines_fit_the_page() -> None:
    assert max(map(len, reference_yaml().splitlines())) <= WIDTH


@pytest.mark.parametrize(
    ("key", "end"),
    [
        ("epochs", "training split [resume]"),
        ("channels_last", "run fastest [eval]"),
        ("device", "or mps [resume] [eval]"),
        ("seed", "follows from it"),
    ],
)
def test_marks_come_after_the_explanation(key: str, end: str) -> None:
    line = next(line for line in reference_yaml().splitlines() if line.startswith(f"  {key}:"))
    assert line.endswith(end)
