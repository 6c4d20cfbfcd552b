"""Write into a checkpoint what was found for its weights after training: rules of post-processing, a temperature."""

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from segkit.errors import CheckpointError
from segkit.models.checkpoint import Checkpoint
from segkit.training.run_folder import RunFolder


@contextlib.contextmanager
def locked_run(path: Path) -> Iterator[None]:
    """Keep training out of the run that a checkpoint belongs to, if it does: each would undo the other's best.pt."""
    folder = path.absolute().parent
    if folder.name != "checkpoints" or not path.is_file():
        yield
        return
    run = RunFolder(folder.parent)
    run.lock()
    try:
        yield
    finally:
        run.close()


def amend(path: Path, checkpoint: Checkpoint, **found: Any) -> tuple[Path, ...]:
    """Write new values of fields into a checkpoint's file, and into the other form of the same weights beside it.

    The other form of best.pt is best.safetensors, and the other way round. Returns the files that were changed.
    """
    beside = path.with_suffix(".pt" if path.suffix == ".safetensors" else ".safetensors")
    files = [(path, checkpoint)]
    with contextlib.suppress(CheckpointError):  # missing, or not ours
        other = Checkpoint.load(beside)
        if _same_weights(checkpoint, other):
            files.append((beside, other))
    changed = [(file, held) for file, held in files if any(getattr(held, name) != found[name] for name in found)]
    for file, held in changed:
        updated = replace(held, **found)
        if file.suffix == ".safetensors":
            updated.save_weights(file)
        else:
            updated.save(file)
    return tuple(file for file, _ in changed)


def _same_weights(one: Checkpoint, other: Checkpoint) -> bool:
    """True if two checkpoints predict alike."""
    first, second = (checkpoint.without_training_state().weights for checkpoint in (one, other))
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
