"""Trained models as their files say: what is known of one beside its weights, and how several are opened together.

A checkpoint is computed by PyTorch (ready.py), an exported model by its own runtime (exported.py), without torch being
imported.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from segkit.classes import Classes
from segkit.config.schema import RunConfig
from segkit.errors import CheckpointError
from segkit.inference.backend import Backend
from segkit.inference.exported import Exported, is_exported, read_exported, ready_exported
from segkit.inference.postprocess import Postprocess

log = logging.getLogger(__name__)


class TrainedModel(Protocol):
    """What evaluation and prediction need to know of a model: a checkpoint or an exported one."""

    @property
    def config(self) -> RunConfig:
        """What it was trained with."""

    @property
    def classes(self) -> Classes:
        """Class k is channel k of the logits."""

    @property
    def held_out(self) -> list[str] | None:
        """The images that `data.val_fraction` took for validation."""

    @property
    def zoom(self) -> float | None:
        """The median factor at which a training image just fits the canvas; None where that wasn't noted."""

    @property
    def smallest_zoom(self) -> float | None:
        """The smallest factor by which training scaled an image of the median size; None where `zoom` is."""

    @property
    def postprocess(self) -> dict[str, Any] | None:
        """The rules that `segkit postprocess` found for it, as plain values."""

    @property
    def temperature(self) -> float | None:
        """What `segkit calibrate` found that its logits should be divided by."""


class Ready(NamedTuple):
    """A backend, the precision it computes in (fp32, bf16, fp16, int8), and what computes: pytorch, onnxruntime, ..."""

    backend: Backend
    precision: str
    runtime: str


def open_models(paths: Sequence[Path | str]) -> Sequence[TrainedModel]:
    """Read models that will vote on the same images: checkpoints, without their training state, or one exported model.

    Raises:
        CheckpointError: a file is no readable model, checkpoints differ in their classes or in their canvas, or an
            exported model isn't alone.
        DependencyError: the runtime of an exported model isn't installed.
    """
    if exported := [path for path in paths if is_exported(path)]:
        if len(paths) > 1:
            raise CheckpointError(
                f"{exported[0]}: an exported model, found among {len(paths)} models, expected it alone; export the "
                "ensemble instead: segkit export CHECKPOINT CHECKPOINT ... --output FILE"
            )
        return [read_exported(exported[0])]
    from segkit.inference.ready import load_checkpoints  # here: exported models are opened without torch

    return load_checkpoints(paths)


def make_ready(
    models: Sequence[TrainedModel],
    *,
    device: str = "auto",
    precision: str | None = None,
    canvas_hw: tuple[int, int] | None = None,
    channels_last: bool | None = None,
    local_rank: int = 0,
) -> Ready:
    """Return opened models as one backend, ready to evaluate and predict.

    Precision, canvas and memory format are those of the training, unless others are given. Checkpoints that were
    trained in different precisions compute in fp32. `local_rank` chooses the GPU of one process among several.

    Raises:
        DeviceError: no such device or precision here.
        ConfigError: an exported model, for which another precision or memory format is asked, or a canvas that it
            can't take.
    """
    first = models[0]
    if isinstance(first, Exported):
        return Ready(*ready_exported(first, device=device, precision=precision, canvas_hw=canvas_hw))
    from segkit.inference.ready import ready_together

    return Ready(
        *ready_together(
            models,  # type: ignore[arg-type]  # whatever isn't exported is a checkpoint
            device=device,
            precision=precision,
            canvas_hw=canvas_hw,
            channels_last=channels_last,
            local_rank=local_rank,
        )
    )


def stored_rules(models: Sequence[TrainedModel]) -> Postprocess | None:
    """Return the rules of post-processing that models hold; None where they hold none.

    Rules are tuned for one model. So those of several are returned only if they are the same; if not, a warning says
    that none is applied.

    Raises:
        CheckpointError: the rules are not such as this segkit knows, or for a class that the model doesn't have.
    """
    found: list[Postprocess | None] = []
    for model in models:
        plain, num_classes = model.postprocess, len(model.classes)
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
