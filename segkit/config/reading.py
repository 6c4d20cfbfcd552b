"""How a config is read, overridden, checked, explained and written. pydantic checks types and ranges at this edge."""

import dataclasses
import difflib
import functools
import json
import types
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt

from segkit.config.schema import RunConfig
from segkit.config.strict_yaml import dump_yaml, parse_yaml
from segkit.errors import ConfigError


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
    """Return `config` with `key=value` overrides applied; see `load_config` for what is checked."""
    plain = config_to_dict(config)
    problems = _apply_overrides(plain, overrides)
    return config_from_dict(plain, where=where, problems=problems)


def config_from_dict(plain: dict[str, Any], *, where: str, problems: Sequence[str] = ()) -> RunConfig:
    """Check a plain nested dict against the sections above and build the config from it.

    Raises:
        ConfigError: every mistake at once, `problems` (found earlier by the caller) first.
    """
    from pydantic import TypeAdapter, ValidationError

    problems = [*problems, *_unknown_keys(plain)]
    config = None
    try:
        # Strict JSON rules: "3" is no number and 1 is no bool, but a list may become a tuple.
        config = TypeAdapter(RunConfig).validate_json(json.dumps(plain), strict=True)
    except ValidationError as error:
        problems += _explain(error.errors(include_url=False), plain)
    if config is not None:
        problems += _contradictions(config)
    if problems or config is None:
        raise ConfigError(
            f"{where}: {len(problems)} mistake{'s' if len(problems) > 1 else ''} in the config\n"
            + "\n".join(f"  {problem}" for problem in problems)
        )
    return config


def config_to_dict(config: RunConfig) -> dict[str, Any]:
    """Return the config as nested dicts and lists of plain values, as YAML and checkpoints hold it."""
    plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(config)))
    return plain


def dump_config(config: RunConfig) -> str:
    """Return the config as YAML, every key of every section, in the order of the dataclasses."""
    return dump_yaml(config_to_dict(config))


@functools.cache
def known_keys() -> dict[str, Any]:
    """Return every dotted key with its type, sections included: {'data': DataConfig, 'data.root': str, ...}."""

    def walk(section: type, prefix: str) -> Iterator[tuple[str, Any]]:
        hints = typing.get_type_hints(section, include_extras=True)
        for spec in dataclasses.fields(section):
            yield prefix + spec.name, hints[spec.name]
            if dataclasses.is_dataclass(hints[spec.name]):
                yield from walk(hints[spec.name], f"{prefix}{spec.name}.")

    return dict(walk(RunConfig, ""))


def differences(old: RunConfig, new: RunConfig) -> dict[str, tuple[Any, Any]]:
    """Return {dotted key: (old value, new value)} for every setting that the two configs do not share."""

    def get(config: RunConfig, key: str) -> Any:
        value: Any = config
        for name in key.split("."):
            value = getattr(value, name)
        return value

    leaves = [key for key, kind in known_keys().items() if not dataclasses.is_dataclass(kind)]
    return {key: (get(old, key), get(new, key)) for key in leaves if get(old, key) != get(new, key)}


# What other programs of this field call some of our keys, for the hint behind "unknown key".
_OTHER_NAMES = {
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


def _apply_overrides(plain: dict[str, Any], overrides: Sequence[str]) -> list[str]:
    """Set each `section.key=value` in `plain`; return what is wrong with those that can't be set."""
    problems = []
    for override in overrides:
        key, equals, text = override.partition("=")
        key = key.strip()
        if not equals:
            problems.append(f"{override}: found no '=', expected key=value, as in train.epochs=10")
            continue
        if key not in known_keys() and not key.startswith("model.options."):
            problems.append(_unknown_key(key))
            continue
        *sections, last = key.split(".")
        target: Any = plain
        for section in sections:
            if not isinstance(target.get(section), dict):
                target[section] = {}
            target = target[section]
        target[last] = parse_yaml(text, where=f"override {override}") if text.strip() else ""
    return problems


def _explain(errors: Sequence[Any], plain: dict[str, Any]) -> list[str]:
    """Turn pydantic's errors into one line per wrong key (a union reports one error per member)."""
    lines: dict[str, str] = {}
    for error in errors:
        parts = [str(part) for part in error["loc"]]
        key = parts[0]
        for part in parts[1:]:
            if f"{key}.{part}" not in known_keys():
                break
            key = f"{key}.{part}"
        if key in lines:
            continue
        found: Any = plain
        for part in key.split("."):
            found = found[part]
        kind = known_keys()[key]
        near = _nearest(found, _choices(kind)) if isinstance(found, str) else None
        hint = f"; did you mean {near}?" if near else ""
        lines[key] = f"{key}: found {json.dumps(found)}, expected {_describe(kind)}{hint}"
    return list(lines.values())


def _unknown_keys(plain: dict[str, Any], prefix: str = "") -> list[str]:
    problems = []
    for name, value in plain.items():
        key = prefix + name
        if key not in known_keys():
            problems.append(_unknown_key(key))
        elif isinstance(value, dict) and dataclasses.is_dataclass(known_keys()[key]):
            problems += _unknown_keys(value, f"{key}.")
    return problems


def _unknown_key(key: str) -> str:
    near = _OTHER_NAMES.get(key) or _nearest(key, list(known_keys()))
    if near is None:  # another program's word, or the right word in the wrong section
        last = key.rpartition(".")[2]
        near = _OTHER_NAMES.get(last) or next(
            (known for known in known_keys() if known.rpartition(".")[2] == last), None
        )
    return f"{key}: unknown key" + (f"; did you mean {near}?" if near else "; configs/reference.yaml lists every key")


def _nearest(word: str, known: Sequence[str]) -> str | None:
    return next(iter(difflib.get_close_matches(word, known, n=1, cutoff=0.6)), None)


def _choices(kind: Any) -> list[str]:
    if get_origin(kind) is Literal:
        return [str(choice) for choice in get_args(kind)]
    return [choice for member in get_args(kind) if get_origin(member) is Literal for choice in _choices(member)]


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
    if origin is tuple:
        return f"a list of {len(members)}, each {_describe(members[0])}"
    return "keys with values below it"


def _contradictions(config: RunConfig) -> list[str]:
    """List settings that can't have an effect, or that contradict each other. A default never counts as a setting."""
    data, augment, loss, optim, train = config.data, config.augment, config.loss, config.optim, config.train
    changed = differences(RunConfig(), config)
    pixel_losses = loss.cross_entropy + loss.focal > 0
    no_effect = {
        "data.val_fraction": (data.layout == "folders", "data.layout: folders (voc and webdataset have splits)"),
        "data.cache_gib": (
            data.cache != "none" or data.layout == "webdataset",
            "data.cache: ram or disk, or data.layout: webdataset",
        ),
        "data.repeat_threshold": (data.sampler == "repeat_factor", "data.sampler: repeat_factor"),
        "augment.rare_crops": (
            any(augment.scale[1] * data.canvas[k] > (augment.crop or data.canvas)[k] for k in range(2)),
            "pictures that are cropped: augment.scale above 1, or augment.crop smaller than data.canvas",
        ),
        "loss.gamma": (loss.focal > 0, "loss.focal > 0"),
        "loss.alpha": (loss.focal > 0, "loss.focal > 0"),
        "loss.class_weights": (pixel_losses, "loss.cross_entropy or loss.focal > 0"),
        "optim.momentum": (optim.name == "sgd", "optim.name: sgd"),
        "optim.power": (optim.schedule == "poly", "optim.schedule: poly"),
        "optim.min_lr": (optim.schedule in ("poly", "cosine"), "optim.schedule: poly or cosine"),
        "optim.step_epochs": (optim.schedule == "step", "optim.schedule: step"),
        "optim.step_factor": (optim.schedule == "step", "optim.schedule: step"),
    }
    problems = [
        f"{key}: set, but without effect: it needs {needs}"
        for key, (effective, needs) in no_effect.items()
        if key in changed and not effective
    ]
    if loss.cross_entropy + loss.focal + loss.dice == 0:
        problems.append("loss: every weight is 0; expected at least one of cross_entropy, focal, dice above 0")
    if augment.scale[0] > augment.scale[1]:
        problems.append(f"augment.scale: found {list(augment.scale)}, expected [smallest, largest]")
    if optim.schedule == "step" and not optim.step_epochs:
        problems.append("optim.step_epochs: empty, expected the epochs at which lr drops, as in [60, 80]")
    if train.batch_size != "auto" and train.batch_size % train.accumulate:
        problems.append(
            f"train.accumulate: {train.accumulate} doesn't divide train.batch_size {train.batch_size}; a batch is "
            "split into that many equal parts"
        )
    if train.sharding != "none" and (train.compile or train.sync_bn or train.gradient_compression != "none"):
        problems.append(
            f"train.sharding: {train.sharding} goes with none of train.compile, train.sync_bn and "
            "train.gradient_compression; switch those off"
        )
    if data.ignore_values == "rest" and data.mask_values is None:
        problems.append("data.ignore_values: 'rest' needs data.mask_values, which say what is not the rest")
    return problems
