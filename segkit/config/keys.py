"""Every key of the config by its dotted name, as the schema describes it; and the keys that two configs differ in."""

import dataclasses
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from segkit.config.schema import RunConfig


@dataclass(frozen=True)
class Key:
    """A key or a section. `kind` is its type with its bounds; text and marks are as in `segkit.config.schema.key`."""

    kind: Any
    text: str
    resumable: bool
    evaluable: bool

    @property
    def is_section(self) -> bool:
        return dataclasses.is_dataclass(self.kind)


def _walk(section: type, prefix: str = "") -> Iterator[tuple[str, Key]]:
    hints = typing.get_type_hints(section, include_extras=True)
    for spec in dataclasses.fields(section):
        key = Key(hints[spec.name], **spec.metadata)
        yield prefix + spec.name, key
        if key.is_section:
            yield from _walk(key.kind, f"{prefix}{spec.name}.")


# In the order of the schema, sections included: {'run': ..., 'data': ..., 'data.root': ..., ...}
KEYS = dict(_walk(RunConfig))
RESUMABLE = tuple(name for name, key in KEYS.items() if key.resumable)
EVALUABLE = tuple(name for name, key in KEYS.items() if key.evaluable)


def differences(old: RunConfig, new: RunConfig) -> dict[str, tuple[Any, Any]]:
    """Return {dotted key: (old value, new value)} for every setting that the two configs do not share."""

    def get(config: RunConfig, name: str) -> Any:
        value: Any = config
        for part in name.split("."):
            value = getattr(value, part)
        return value

    names = [name for name, key in KEYS.items() if not key.is_section]
    return {name: (get(old, name), get(new, name)) for name in names if get(old, name) != get(new, name)}
