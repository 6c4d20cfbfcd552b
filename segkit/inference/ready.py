"""From checkpoints to PyTorch's backends: read together, and made ready on a device."""

import itertools
from collections.abc import Sequence
from pathlib import Path

import torch

from segkit.errors import CheckpointError
from segkit.inference.backend import Backend
from segkit.inference.ensemble import together
from segkit.inference.folding import for_inference
from segkit.inference.torch_backend import TorchBackend
from segkit.models.checkpoint import Checkpoint
from segkit.runtime.device import common_precision, precision_name, select_device


def load_checkpoints(paths: Sequence[Path | str]) -> Sequence[Checkpoint]:
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


def ready_together(
    checkpoints: Sequence[Checkpoint],
    *,
    device: str = "auto",
    precision: str | None = None,
    canvas_hw: tuple[int, int] | None = None,
    channels_last: bool | None = None,
    local_rank: int = 0,
) -> tuple[Backend, str, str]:
    """Return checkpoints as one backend, its precision and "pytorch"; arguments and errors as `make_ready`."""
    target = select_device(device, local_rank=local_rank)
    trained = [checkpoint.config.train.precision for checkpoint in checkpoints]
    if target.type == "cpu":  # trained in fp16 on a GPU, which a CPU can't compute in
        trained = ["auto" if name == "fp16" else name for name in trained]
    dtype = common_precision([precision] if precision else trained, target)
    members = [
        ready(checkpoint, target, precision=dtype, canvas_hw=canvas_hw, channels_last=channels_last)
        for checkpoint in checkpoints
    ]
    return together(members), precision_name(dtype), "pytorch"


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
