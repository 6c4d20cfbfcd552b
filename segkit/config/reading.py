"""How a config is read, overridden, checked and written. pydantic checks types and ranges at this edge."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from segkit.config.contradictions import contradictions
from segkit.config.explain import explain_values, unknown_key, unknown_keys
from segkit.config.keys import KEYS
from segkit.config.schema import RunConfig
from segkit.config.strict_yaml import dump_yaml, parse_yaml
from segkit.errors import ConfigError, count


def load_config(path: Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Read a YAML file, apply `key=value` overrides, and check the result.

    An empty `run` becomes `runs/<name of the file>`. Paths are relative to the current folder.

    Raises:
        ConfigError: names every unknown key (with the nearest known one), wrong value and setting without effect.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise ConfigError(
            f"{path}: can't read this config ({reason}); expected a YAML file like configs/demo.yaml"
        ) from error
    plain = parse_yaml(text, where=str(path))
    if plain is None:
        plain = {}
    if not isinstance(plain, dict):
        raise ConfigError(f"{path}: found {type(plain).__name__}, expected sections such as 'data:' and 'train:'")
    problems = _apply_overrides(plain, overrides)
    config = config_from_dict(plain, where=str(path), problems=problems)
    return config if config.run else dataclasses.replace(config, run=f"runs/{path.stem}")


def override_config(config: RunConfig, overrides: Sequence[str], *, where: str) -> RunConfig:
    """Return `config` with `key=value` overrides applied.

    Raises:
        ConfigError: as `load_config`; the message starts with `where`.
    """
    plain = config_to_dict(config)
    problems = _apply_overrides(plain, overrides)
    return config_from_dict(plain, where=where, problems=problems)


def config_from_dict(plain: dict[str, Any], *, where: str, problems: Sequence[str] = ()) -> RunConfig:
    """Check a plain nested dict against the schema and build the config from it; missing keys get their defaults.

    Raises:
        ConfigError: every mistake at once, `problems` (found earlier by the caller) first.
    """
    from pydantic import TypeAdapter, ValidationError

    problems = [*problems, *unknown_keys(plain)]
    config = None
    try:
        # Strict JSON rules: "3" is not a number and 1 is not a bool, but a list may become a tuple.
        config = TypeAdapter(RunConfig).validate_json(json.dumps(plain), strict=True)
    except ValidationError as error:
        problems += explain_values(error.errors(include_url=False), plain)
    if config is not None:
        problems += contradictions(config)
    if problems or config is None:
        raise ConfigError(
            f"{where}: {count(len(problems), 'mistake')} in the config\n"
            + "\n".join(f"  {problem}" for problem in problems)
        )
    return config


def config_to_dict(config: RunConfig) -> dict[str, Any]:
    """Return the config as nested dicts and lists of plain values, as YAML and checkpoints hold it."""
    plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(config)))
    return plain


def flatten(plain: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested dicts as one, with keys such as train.seed."""
    found: dict[str, Any] = {}
    for name, value in plain.items():
        if isinstance(value, dict):
            found |= flatten(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = value
    return found


def dump_config(config: RunConfig) -> str:
    """Return the config as YAML, every key of every section, in the order of the schema."""
    return dump_yaml(config_to_dict(config))


def _apply_overrides(plain: dict[str, Any], overrides: Sequence[str]) -> list[str]:
    """Set each `section.key=value` in `plain`; return what is wrong with those that can't be set."""
    problems = []
    for override in overrides:
        key, equals, text = override.partition("=")
        key = key.strip()
        if not equals:
            problems.append(f"{override}: found no '=', expected key=value, as in train.epochs=10")
            continue
        if key not in KEYS and not key.startswith(("model.options.", "loss.schedule.")):
            problems.append(unknown_key(key))
            continue
        *sections, last = key.split(".")
        target: Any = plain
        for section in sections:
            if not isinstance(target.get(section), dict):
                target[section] = {}
            target = target[section]
        target[last] = parse_yaml(text, where=f"override {override}") if text.strip() else ""
    return problems
