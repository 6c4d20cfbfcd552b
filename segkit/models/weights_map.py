"""model.weights_map: a file that says what the tensors of another program's file are called here.

    tensors:                            # their name, a regular expression of all of it -> our name; null: leave it out
      backbone\\.(.*): encoder.\\1
      decode_head\\.conv_seg\\.(.*): segmentation_head.0.\\1
    classes: [road, sky, car]           # optional: what the rows of its class scores stand for
    mean: [0.485, 0.456, 0.406]         # optional: what its network expects, of RGB in 0..1
    std: [0.229, 0.224, 0.225]

The first pattern that fits a name counts; a name that none fits stays as it is. Our names are those of the encoder, the
network or the whole model; docs/models.md says how to list them.
"""

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from segkit.config.strict_yaml import parse_yaml
from segkit.errors import ConfigError, WeightsError, listed
from segkit.models.weight_file import SavedWeights, State

_KEYS = ("tensors", "classes", "mean", "std")


@dataclass(frozen=True)
class WeightsMap:
    """`patterns`: (regular expression, our name or None) in the order of the file."""

    path: Path
    patterns: tuple[tuple[re.Pattern[str], str | None], ...]
    classes: tuple[str, ...] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    @classmethod
    def read(cls, path: Path) -> "WeightsMap":
        """Read the YAML file.

        Raises:
            ConfigError: missing, not YAML, an unknown key, a wrong value, or a pattern that isn't a regular expression.
        """
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"model.weights_map: {path} can't be read ({error.strerror}); expected a file") from error
        plain = parse_yaml(text, where=str(path))
        if not isinstance(plain, dict) or not plain or set(plain) - set(_KEYS):
            found = ", ".join(map(str, plain)) if isinstance(plain, dict) and plain else "something else"
            raise ConfigError(f"{path}: found {found}, expected some of {', '.join(_KEYS)}")
        tensors = plain.get("tensors") or {}
        if not isinstance(tensors, dict) or not all(name is None or isinstance(name, str) for name in tensors.values()):
            raise ConfigError(f"{path}: tensors: expected lines 'their name: our name', or null to leave one out")
        return cls(
            path,
            tuple((_pattern(path, pattern), name) for pattern, name in tensors.items()),
            _list_of(path, plain, "classes", str),
            _list_of(path, plain, "mean", float, length=3),
            _list_of(path, plain, "std", float, length=3),
        )

    def apply(self, saved: SavedWeights) -> SavedWeights:
        """Return the weights under our names, with what the map says about them.

        Raises:
            WeightsError: a pattern fits no tensor, or two tensors would get one name.
        """
        used: set[re.Pattern[str]] = set()
        renamed: State = {}
        for name, tensor in saved.tensors.items():
            ours: str | None = name
            for pattern, target in self.patterns:
                if match := pattern.fullmatch(name):
                    used.add(pattern)
                    ours = None if target is None else match.expand(target)
                    break
            if ours in renamed:
                raise WeightsError(f"{self.path}: two tensors are to become {ours}, the second is {name}; expected one")
            if ours is not None:
                renamed[ours] = tensor
        if idle := [pattern.pattern for pattern, _ in self.patterns if pattern not in used]:
            raise WeightsError(
                f"{self.path}: found no tensor for {listed(idle)}; the file of weights has "
                f"{listed(saved.tensors, shown=4)}; expected patterns that fit its names"
            )
        return replace(
            saved,
            tensors=renamed,
            classes=self.classes or saved.classes,
            mean=self.mean or saved.mean,
            std=self.std or saved.std,
        )


def _pattern(path: Path, text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise ConfigError(f"{path}: {text!r} is not a regular expression ({error}); write a dot as \\.") from error


def _list_of(
    path: Path, plain: dict[str, Any], key: str, kind: type, *, length: int | None = None
) -> tuple[Any, ...] | None:
    values = plain.get(key)
    if values is None:
        return None
    accepted = (int, float) if kind is float else kind
    right = isinstance(values, list) and all(isinstance(v, accepted) and not isinstance(v, bool) for v in values)
    if not right or not values or len(values) != (length or len(values)):
        what = f"{length} numbers" if length else "a list of names"
        raise ConfigError(f"{path}: {key}: found {values!r}, expected {what}")
    return tuple(kind(value) for value in values)
