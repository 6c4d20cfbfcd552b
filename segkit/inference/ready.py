"""From checkpoints to backends: read together, and made ready on a device."""

import itertools
import logging
from collections.abc import Sequence
from pathlib import Path

import torch

from segkit.errors import CheckpointError
from segkit.inference.folding import for_inference
from segkit.inference.postprocess import Postprocess
from segkit.inference.torch_backend import TorchBackend
from segkit.models.checkpoint import Checkpoint

log = logging.getLogger(__name__)


def load_together(paths: Sequence[Path | str]) -> list[Checkpoint]:
    """Read checkpoints that will vote on the same images, without their training state.

    Raises:
        CheckpointError: as `Checkpoint.load`; or two of them differ in their classes or in their canvas.
    """
    checkpoints: list[Checkpoint] = []
    for path in paths:
        checkpoints.append(Checkpoint.load(path).without_training_state())
        first, this = checkpoints[0], checkpoints[-1]
        pairs = enumerate(itertools.zip_longest(first.classes.names, this.classes.names))
        if differing := next(((k, *pair) for k, pair in pairs if pair[0] != pair[1]), None):
            class_id, there, here = differing
            raise CheckpointError(
                f"{path}: its class {class_id} is {here or 'missing'}, that of {paths[0]} is {there or 'missing'}; "
                "expected the same classes in the same order of checkpoints that predict together; leave one of the "
                "two out"
            )
        if first.config.data.canvas != this.config.data.canvas:
            here, there = ("x".join(map(str, reversed(c.config.data.canvas))) for c in (this, first))
            raise CheckpointError(
                f"{path}: its canvas is {here}, that of {paths[0]} is {there}; expected the same data.canvas of "
                "checkpoints that predict together; leave one of the two out"
            )
    return checkpoints


def ready(
    checkpoint: Checkpoint,
    device: torch.device,
    *,
    precision: torch.dtype,
    canvas_hw: tuple[int, int] | None = None,
    channels_last: bool | None = None,
) -> TorchBackend:
    """Return a checkpoint's model as a backend on a device, made ready to evaluate and predict.

    Canvas and memory format are those of the training, unless others are given.
    """
    config = checkpoint.config
    model = checkpoint.build().to_device(
        device, channels_last=config.train.channels_last if channels_last is None else channels_last
    )
    size_hw = canvas_hw or config.data.canvas
    folded = for_inference(model, canvas_hw=size_hw, precision=precision)
    return TorchBackend(folded, checkpoint.classes, size_hw, precision)


def stored_rules(checkpoints: Sequence[Checkpoint]) -> Postprocess | None:
    """Return the rules of post-processing that checkpoints hold; None where they hold none.

    Rules are tuned for one model. So those of several are returned only if they are the same; if not, a warning says
    that none is applied.

    Raises:
        CheckpointError: the rules are not such as this segkit knows, or for a class that the model doesn't have.
    """
    found: list[Postprocess | None] = []
    for checkpoint in checkpoints:
        plain, num_classes = checkpoint.postprocess, len(checkpoint.classes)
        try:
            rules = Postprocess.from_dict(plain) if plain is not None else None
            if rules and (strange := [class_id for class_id in rules.rules if not 0 <= class_id < num_classes]):
                raise ValueError(f"found a rule for class {strange[0]}, expected 0..{num_classes - 1}")
        except (ValueError, TypeError, KeyError) as error:
            raise CheckpointError(
                f"the checkpoint's post-processing: {error!s:.200}; was it written by a newer segkit? To leave it out: "
                "--no-postprocess"
            ) from error
        found.append(rules if rules and rules.rules else None)
    first = found[0]
    if any((rules and list(rules.rules.items())) != (first and list(first.rules.items())) for rules in found):
        log.warning(
            "warning: no post-processing: these checkpoints hold different rules, and each was tuned for one model; "
            "--no-postprocess says the same without this warning"
        )
        return None
    return first
