"""What TensorBoard gets of a finished run's best checkpoint: precision over recall, the graph, embeddings."""

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from segkit.datasets.images import read_image
from segkit.datasets.layouts import list_items
from segkit.errors import first_line
from segkit.evaluation.measurement import Measured
from segkit.evaluation.precision_recall import curves
from segkit.imaging.letterbox import LetterBox
from segkit.models.checkpoint import Checkpoint
from segkit.models.segmenter import Segmenter

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

log = logging.getLogger(__name__)

THRESHOLDS = 127  # points of a curve, as TensorBoard has them by default
MOST_IMAGES = 256  # that are embedded
THUMBNAIL = 64  # pixels of a side


def add_to_tensorboard(folder: Path, measured: Measured, kinds: Sequence[str]) -> None:
    """Add to the event files of a run folder what `kinds` names, of checkpoints/best.pt and its validation images.

    Raises:
        CheckpointError, DataError: the checkpoint or the images can't be read.
    """
    from torch.utils.tensorboard import SummaryWriter  # here: its import takes a second

    adders: dict[str, Callable[[SummaryWriter, Checkpoint, Measured], None]] = {
        "curves": _add_pr_curves,
        "graph": _add_graph,
        "features": _add_embeddings,
    }
    checkpoint = Checkpoint.load(folder / "checkpoints" / "best.pt")
    with SummaryWriter(str(folder)) as writer:
        for kind in kinds:
            adders[kind](writer, checkpoint, measured)


def _add_pr_curves(writer: "SummaryWriter", checkpoint: Checkpoint, measured: Measured) -> None:
    """Add the curves that average precision is the area of, at THRESHOLDS evenly spaced thresholds."""
    total = measured.total("precision_recall")
    if total is None:
        return
    precision, recall = (np.nan_to_num(each) for each in curves(total))  # [STEPS, C], highest threshold first
    pixels, positive = (np.cumsum(part[::-1], axis=0) for part in total)
    chosen = np.linspace(len(pixels) - 1, 0, THRESHOLDS).round().astype(int)  # lowest threshold first
    for k, name in enumerate(measured.classes.names):
        found, said = positive[chosen, k], pixels[chosen, k]
        missed, rest = positive[-1, k] - found, (pixels[-1, k] - said) - (positive[-1, k] - found)
        writer.add_pr_curve_raw(
            f"precision_recall/{name}", found, said - found, rest, missed, precision[chosen, k], recall[chosen, k],
            global_step=checkpoint.progress.best_epoch, num_thresholds=THRESHOLDS,
        )  # fmt: skip


def _add_graph(writer: "SummaryWriter", checkpoint: Checkpoint, measured: Measured) -> None:
    """Add the network as a graph, as it sees one canvas; where it can't be traced that is told, and all."""
    example = torch.zeros(1, 3, *checkpoint.config.data.canvas)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):  # it prints what it raises, too
            warnings.simplefilter("ignore")  # the writer traces by TorchScript, which PyTorch has deprecated
            writer.add_graph(checkpoint.build(), example, use_strict_trace=False)
    except Exception as error:  # tracing raises several types, and a drawing is no reason to end with a traceback
        log.warning("TensorBoard: no graph, since the network can't be traced (%s)", first_line(error))


def _add_embeddings(writer: "SummaryWriter", checkpoint: Checkpoint, measured: Measured) -> None:
    """Add the mean of the encoder's deepest features of each of MOST_IMAGES validation images at most."""
    config = checkpoint.config
    items = list_items(config.data, config.data.val, seed=config.train.seed, held_out=checkpoint.held_out)
    chosen = [items[k * len(items) // MOST_IMAGES] for k in range(MOST_IMAGES)] if len(items) > MOST_IMAGES else items
    segmenter = checkpoint.build()
    features, thumbnails = [], []
    for item in chosen:
        image = read_image(item.image)
        features.append(_embedding(segmenter, LetterBox.fit(image.shape[:2], config.data.canvas).apply(image)))
        small = LetterBox.fit(image.shape[:2], (THUMBNAIL, THUMBNAIL)).apply(image)
        thumbnails.append(torch.from_numpy(small.transpose(2, 0, 1).copy()).float() / 255)
    if len(features) > 1:
        writer.add_embedding(
            torch.stack(features), metadata=[item.name for item in chosen], label_img=torch.stack(thumbnails),
            global_step=checkpoint.progress.best_epoch, tag="encoder",
        )  # fmt: skip


def _embedding(segmenter: Segmenter, canvas: np.ndarray) -> torch.Tensor:
    """Return the means of the last map that the encoder gives for a canvas, uint8 RGB [H, W, 3]: float [K]."""
    found: list[torch.Tensor] = []

    def note(_: nn.Module, __: object, output: torch.Tensor | Sequence[torch.Tensor]) -> None:
        found.append(output if isinstance(output, torch.Tensor) else output[-1])

    handle = segmenter.encoder.register_forward_hook(note)
    try:
        with torch.inference_mode():
            segmenter(torch.from_numpy(canvas.transpose(2, 0, 1).copy())[None])
    finally:
        handle.remove()
    last = found[-1][0].float()
    return last.flatten(1).mean(dim=1) if last.ndim == 3 else last.mean(dim=0)  # maps [K, h, w], or tokens [N, K]
