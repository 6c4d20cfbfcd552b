"""What may be changed of a trained model's config: where the data is, and what evaluation runs on."""

from collections.abc import Sequence
from pathlib import Path

from segkit.classes import Classes
from segkit.config.keys import EVALUABLE
from segkit.config.reading import override_config
from segkit.config.schema import RunConfig
from segkit.datasets.layouts import has_class_file, resolve_classes
from segkit.errors import CheckpointError, ConfigError
from segkit.inference.trained import TrainedModel


def evaluation_config(path: Path, checkpoint: TrainedModel, overrides: Sequence[str]) -> RunConfig:
    """Return the config of a checkpoint, read from `path`, with overrides that may have an effect on a trained model.

    Raises:
        CheckpointError, ConfigError: as `eval_miou`.
    """
    keys = [override.partition("=")[0].strip() for override in overrides]
    if idle := [key for key in keys if key not in EVALUABLE]:
        raise ConfigError(
            f"{', '.join(idle)}: without effect on a trained checkpoint; evaluation takes {', '.join(EVALUABLE)}"
        )
    config = override_config(checkpoint.config, overrides, where="the overrides")
    if config.data.root.startswith("pipe:") and "data.root" not in keys:  # a checkpoint may come from anywhere
        raise ConfigError(
            f"{path}: its data.root is a shell command, {config.data.root!r}, expected one that you gave; if "
            "you trust it, repeat it: data.root=..."
        )
    given = "data.classes" in keys
    moved = config.data.classes is None and {"data.root", "data.layout"} & set(keys) and has_class_file(config.data)
    if given or moved:
        _check_classes(path, checkpoint.classes, resolve_classes(config.data))
    return config


def sets(overrides: Sequence[str], key: str) -> bool:
    """True if an override `key=value` sets the key."""
    return any(override.partition("=")[0].strip() == key for override in overrides)


def _check_classes(path: Path, trained: Classes, found: Classes) -> None:
    if trained.names == found.names:
        return
    words = [
        f"{len(names)} classes ({', '.join(names[:6])}{', ...' if len(names) > 6 else ''})"
        for names in (trained.names, found.names)
    ]
    raise CheckpointError(
        f"{path}: trained on {words[0]}, the data set has {words[1]}; expected the same names in the same order; "
        "evaluate with the data set that it was trained for"
    )
