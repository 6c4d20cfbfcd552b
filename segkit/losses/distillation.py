"""Distillation: a model learns the class probabilities of a teacher, at every pixel, labelled or not."""

import torch
import torch.nn.functional as F


def distillation(logits: torch.Tensor, teacher: torch.Tensor, *, temperature: float = 1.0) -> torch.Tensor:
    """Return T^2 KL(teacher || model), summed over pixels, of probabilities softmax(logits / T): a float32 scalar.

    T^2 keeps the size of the gradient the same for every temperature (Hinton et al. 2015, "Distilling the Knowledge in
    a Neural Network", section 2). logits, teacher float [B, C, H, W]; the teacher gets no gradient.
    """
    student = (logits.float() / temperature).log_softmax(dim=1)
    target = (teacher.detach().float() / temperature).log_softmax(dim=1)
    return temperature**2 * F.kl_div(student, target, reduction="sum", log_target=True)
