"""YAML without its traps: a repeated key is an error, 1e-4 is a number, and only true and false are booleans."""

import re
from typing import Any

import yaml

from segkit.errors import ConfigError


class _Loader(yaml.SafeLoader):
    """Reads by the rules above."""

    keys: tuple[type, ...] = (str,)


class _NumberKeyLoader(_Loader):
    """Takes whole numbers as keys too."""

    keys = (str, int)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in resolvers if tag.rpartition(":")[2] not in ("float", "bool", "timestamp")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d[\d_]*\.[\d_]*([eE][-+]?\d+)?|\.\d+([eE][-+]?\d+)?|\d+[eE][-+]?\d+|\.(inf|nan))$"),
    list("-+0123456789."),
)
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(true|false|True|False)$"), list("tTfF"))


def _mapping_without_repeats(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, loader.keys) or isinstance(key, bool):
            raise yaml.MarkedYAMLError(
                problem=f"found the key {key!r}, expected a word", problem_mark=key_node.start_mark
            )
        if key in seen:
            raise yaml.MarkedYAMLError(
                problem=f"the key '{key}' is listed twice; remove one", problem_mark=key_node.start_mark
            )
        seen.add(key)
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping_without_repeats)


def parse_yaml(text: str, *, where: str, number_keys: bool = False) -> Any:
    """Return what a YAML text holds. `where` names it in messages. With `number_keys`, keys may be whole numbers.

    Raises:
        ConfigError: it is not valid YAML, or lists a key twice.
    """
    try:
        return yaml.load(text, Loader=_NumberKeyLoader if number_keys else _Loader)
    except yaml.MarkedYAMLError as error:
        line = f" line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(f"{where}{line}: {error.problem}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{where}: not valid YAML ({error})") from error


def dump_yaml(plain: dict[str, Any]) -> str:
    """Return nested dicts and lists of plain values as YAML, in their order, lists on one line."""
    return yaml.dump(plain, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


class _Dumper(yaml.SafeDumper):
    """Sections as blocks, lists on one line: [512, 512]."""


_Dumper.add_representer(
    list, lambda dumper, value: dumper.represent_sequence("tag:yaml.org,2002:seq", value, flow_style=True)
)
