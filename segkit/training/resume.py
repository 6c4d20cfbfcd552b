"""What a run must find again to resume: the same settings, classes and images, and a state to train on from."""

import logging
from collections.abc import Sequence

from segkit.config.keys import RESUMABLE, differences
from segkit.config.schema import RunConfig
from segkit.errors import CheckpointError, ConfigError
from segkit.loading.prepare import PreparedData
from segkit.models.checkpoint import Checkpoint
from segkit.training.run_folder import FileRow, RunFolder

log = logging.getLogger(__name__)


def load_newest(folder: RunFolder) -> Checkpoint:
    """Return last.pt or, where that is damaged or missing, the generation before it, with a warning.

    Raises:
        CheckpointError: neither can be read.
    """
    try:
        return Checkpoint.load(folder.last)
    except CheckpointError as error:
        if not folder.previous.is_file():
            raise
        problem = error
    try:
        older = Checkpoint.load(folder.previous)
    except CheckpointError as error:
        raise CheckpointError(f"{problem}\nand the generation before it: {error}") from error
    log.warning("warning: %s\nresume  from %s instead, of step %d", problem, folder.previous, older.progress.step)
    folder.set_aside()
    return older


def check_same_run(old: RunConfig, new: RunConfig, folder: RunFolder) -> None:
    """Raises ConfigError if a setting changed that makes another run of it."""
    changed = {key: pair for key, pair in differences(old, new).items() if key not in RESUMABLE}
    if changed:
        lines = "\n".join(f"  {key}: the run has {before!r}, now {after!r}" for key, (before, after) in changed.items())
        raise ConfigError(
            f"{folder.path}: --resume continues with the same settings, but these changed:\n{lines}\n"
            "set them back (the run's own are in its config.yaml), or start a new run with run=FOLDER"
        )


def check_continues(old: Checkpoint, data: PreparedData, folder: RunFolder, *, root: str) -> None:
    """Raises CheckpointError if the data is not what `old` was trained on, or `old` can't be trained on."""
    if old.classes.names != data.classes.names:
        raise CheckpointError(
            f"{folder.last}: trained on {', '.join(old.classes.names)}; the data now has "
            f"{', '.join(data.classes.names)}; expected the same classes: set data.classes back, or start a new run"
        )
    if old.data_id not in (None, data.id):
        raise CheckpointError(
            f"{folder.last}: the run was trained and validated on other images than {root} holds now"
            f"{_changes(folder.files(), data.files)}put the data set back as it was, or start a new run (from these "
            "weights with model.pretrained=CHECKPOINT)"
        )
    if old.optimizer is None:
        raise CheckpointError(
            f"{folder.last}: holds weights but no training state, expected what a run saves as last.pt; to train on "
            "from best.pt start a new run with model.pretrained=runs/NAME/checkpoints/best.pt"
        )


def _changes(before: Sequence[FileRow], now: Sequence[FileRow]) -> str:
    """Say what differs between two lists of images, a line each."""
    old, new = ({(split, name): size for split, name, *size in rows} for rows in (before, now))
    kinds = {
        "missing": [key for key in old if key not in new],
        "new": [key for key in new if key not in old],
        "changed": [key for key in old if key in new and old[key] != new[key]],
    }
    lines = [
        f"  {len(keys)} {kind}: {', '.join('/'.join(key) for key in keys[:5])}{', ...' if len(keys) > 5 else ''}"
        for kind, keys in kinds.items()
        if keys
    ]
    return ":\n" + "\n".join(lines or ["  the same ones, in another order"]) + "\n" if before else "; "
