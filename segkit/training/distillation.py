"""The teacher of a run: a trained model, or several, whose class probabilities are learned beside the labels."""

from dataclasses import dataclass

import torch

from segkit.config.schema import RunConfig
from segkit.errors import CheckpointError, ConfigError
from segkit.inference.backend import Backend
from segkit.inference.exported import is_exported
from segkit.inference.trained import make_ready, open_models
from segkit.losses.distillation import distillation
from segkit.losses.table import LossValue
from segkit.runtime.device import precision_name


@dataclass(frozen=True)
class Teacher:
    """A backend, the weight of its term in the loss, and what divides it: the pixels of a whole batch."""

    backend: Backend
    weight: float
    temperature: float
    num_pixels: int

    def add_to(self, share: LossValue, logits: torch.Tensor, images: torch.Tensor) -> LossValue:
        """Return a loss with the teacher's term: the mean over all pixels, ignored ones too, of T^2 KL.

        logits float [b, C, H, W] and images uint8 RGB [b, 3, H, W] are those of a micro-batch; the terms of all add up
        to that of the batch.
        """
        said = torch.as_tensor(self.backend(images)).to(logits.device).clone()  # inference tensors can't go backward
        term = distillation(logits, said, temperature=self.temperature) / self.num_pixels
        return LossValue(share.total + self.weight * term, torch.cat([share.terms, term.detach()[None]]))


def build_teacher(
    config: RunConfig,
    classes: tuple[str, ...],
    *,
    device: torch.device,
    precision: torch.dtype,
    canvas_hw: tuple[int, int],
) -> Teacher | None:
    """Return the teacher of a run whose training images are `canvas_hw`; None where distill.teachers is empty.

    Raises:
        CheckpointError: a file can't be read, or its classes are others.
        ConfigError: an exported model that doesn't take images of this size.
    """
    settings = config.distill
    if not settings.teachers:
        return None
    models = open_models(settings.teachers)
    if models[0].classes.names != classes:
        raise CheckpointError(
            f"distill.teachers: {settings.teachers[0]} has the classes {', '.join(models[0].classes.names)}, expected "
            f"those of the data set: {', '.join(classes)}; give a teacher that was trained on them"
        )
    own = is_exported(settings.teachers[0])  # its precision is fixed, and its runtime computes on the CPU
    ready = make_ready(
        models,
        device="cpu" if own else str(device),
        precision=None if own else precision_name(precision),
        canvas_hw=canvas_hw,
    )
    num_pixels = config.train.fixed_batch_size * canvas_hw[0] * canvas_hw[1]
    return Teacher(ready.backend, settings.weight, settings.temperature, num_pixels)


def check_distillable(config: RunConfig, *, has_logits: bool) -> None:
    """Raises ConfigError for a model that isn't trained by per-pixel logits, which a teacher could be compared with."""
    for key, asked in (("distill.teachers", config.distill.teachers), ("semi.weight", config.semi.weight)):
        if asked and not has_logits:
            raise ConfigError(
                f"{key}: {config.model.name} is not trained by logits of pixels, expected a model that is; leave it "
                "out, or choose another model.name"
            )
