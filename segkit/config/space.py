"""The space of a search: which keys of a config are tried at which values, read from a YAML file.

optim.lr: {low: 0.0001, high: 0.01, log: true}     # a number between two; of integers whole ones; step: on a grid
loss.class_weights: [none, log]                    # one of a few
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segkit.config.keys import KEYS
from segkit.config.strict_yaml import parse_yaml
from segkit.errors import ConfigError

BOUNDS = {"low", "high", "log", "step"}


@dataclass(frozen=True)
class Between:
    """A number from low to high, both included; with `log` as likely to be in each decade."""

    low: float
    high: float
    log: bool = False
    step: float | None = None

    @property
    def whole(self) -> bool:
        """True if only whole numbers are tried."""
        return isinstance(self.low, int) and isinstance(self.high, int) and not isinstance(self.step, float)


@dataclass(frozen=True)
class Choice:
    """One of a few values, each as JSON, since a value may be a list."""

    values: tuple[str, ...]


Space = Mapping[str, Between | Choice]


def read_space(path: Path) -> Space:
    """Return what a YAML file lets a search try, by key.

    Raises:
        ConfigError: every mistake at once: no such key, bounds that are none, fewer than two choices.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"--space {path}: can't be read ({error}); expected a YAML file of keys and values"
        ) from error
    plain = parse_yaml(text, where=str(path))
    if not isinstance(plain, dict) or not plain:
        raise ConfigError(
            f"--space {path}: found no keys, expected some, as in optim.lr: {{low: 0.0001, high: 0.01, log: true}}"
        )
    problems: list[str] = []
    space: dict[str, Between | Choice] = {}
    for name, entry in plain.items():
        try:
            space[str(name)] = _read(str(name), entry)
        except ValueError as error:
            problems.append(f"{name}: {error}")
    if problems:
        raise ConfigError("\n".join([f"--space {path}:", *(f"  {problem}" for problem in problems)]))
    return space


def _read(name: str, entry: Any) -> Between | Choice:
    """Raises ValueError for what is no key, or no values."""
    if not name.startswith("model.options.") and (name not in KEYS or KEYS[name].is_section):
        raise ValueError("no key of a config; see configs/reference.yaml")
    if name == "run":
        raise ValueError("each trial has a folder of its own; leave it out")
    if isinstance(entry, list):
        if len(entry) < 2:
            raise ValueError(f"found {json.dumps(entry)}, expected at least two values")
        return Choice(tuple(json.dumps(value) for value in entry))
    if not isinstance(entry, dict) or not {"low", "high"} <= entry.keys() <= BOUNDS:
        raise ValueError(f"found {json.dumps(entry)}, expected a list of values, or low and high (log, step)")
    between = Between(**entry)
    numbers = [between.low, between.high, *([] if between.step is None else [between.step])]
    if not all(isinstance(number, int | float) and not isinstance(number, bool) for number in numbers):
        raise ValueError(f"found {json.dumps(entry)}, expected numbers")
    if not isinstance(between.log, bool):
        raise ValueError(f"log: found {json.dumps(between.log)}, expected true or false")
    if between.low >= between.high:
        raise ValueError(f"found low {between.low} and high {between.high}, expected low below high")
    if between.log and (between.low <= 0 or between.step is not None):
        raise ValueError("log needs low above 0, and goes without step")
    if between.step is not None and between.step <= 0:
        raise ValueError(f"step: found {between.step}, expected a number above 0")
    return between
