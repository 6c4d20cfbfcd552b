"""Rank images without labels by how much a model would learn from them: what to label next."""

import csv
import io
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from segkit.classes import Classes
from segkit.datasets.images import read_image
from segkit.errors import ConfigError, SegkitError
from segkit.formats.annotations import labelme
from segkit.imaging.overlay import overlay, sheet
from segkit.inference.predictor import Predictor
from segkit.inference.uncertainty import disagreement, diverse_order, embedding, entropy, margin
from segkit.prediction.cells import neutral
from segkit.prediction.inputs import find_inputs
from segkit.prediction.names import output_names
from segkit.runtime.files import write_bytes_durably, writing
from segkit.runtime.progress import progress

By = Literal["entropy", "margin", "disagreement"]

SHOWN = 24  # images of the contact sheet
THUMBNAIL_HW = (150, 200)


@dataclass(frozen=True)
class Ranked:
    """An image with its score, 0..1, and the share of its pixels by class, float64 [C]; or what is wrong with it."""

    path: Path
    name: str
    score: float = 0.0
    shares: np.ndarray | None = None
    error: str = ""


@dataclass(frozen=True)
class RankResult:
    """The images in the order in which to label them; those that can't be read come last."""

    images: list[Ranked]
    classes: Classes
    output: Path

    @property
    def num_failed(self) -> int:
        """How many images couldn't be read."""
        return sum(bool(image.error) for image in self.images)


def rank_images(
    paths: Sequence[Path],
    source: str,
    output: Path,
    *,
    by: By = "entropy",
    diverse: bool = False,
    top: int = 50,
    device: str = "auto",
) -> RankResult:
    """Rank the images that `source` means; write ranking.csv, contact_sheet.png and prelabels/ of the first `top`.

    Several models are an ensemble, except by `disagreement`, which is that among them. Pre-labels are labelme files
    with the prediction as polygons, to be corrected. One image is in memory at a time.

    Raises:
        ConfigError: `disagreement` of a single model.
        CheckpointError, DeviceError: as `Predictor.load`.
        DataError: `source` means no image.
        RunFolderError: `output` can't be written to.
    """
    if by == "disagreement" and len(paths) < 2:
        raise ConfigError(
            "--by disagreement: found one model, expected several that can disagree, such as the checkpoints of folds "
            "or seeds; a single one can be ranked --by entropy"
        )
    inputs = find_inputs(source, outside=output)
    names = output_names(inputs.relative())
    groups = [[path] for path in paths] if by == "disagreement" else [list(paths)]
    predictors = [Predictor.load(group, device=device) for group in groups]
    classes = predictors[0].classes
    with writing(output, remedy="choose another folder with --output"):
        output.mkdir(parents=True, exist_ok=True)
        found: list[Ranked] = []
        embeddings: list[np.ndarray] = []
        for path, name in progress(
            zip(inputs.paths, names, strict=True), total=len(names), title="ranking", unit="image"
        ):
            try:
                image = read_image(path)
            except SegkitError as error:
                found.append(Ranked(path, name, error=str(error)))
                embeddings.append(np.zeros(4 * len(classes), np.float32))
                continue
            members = [predictor.probabilities(image) for predictor in predictors]
            mean = members[0] if len(members) == 1 else np.mean(members, axis=0)
            score = disagreement(members) if by == "disagreement" else (entropy if by == "entropy" else margin)(mean)
            shares = np.bincount(mean.argmax(axis=0).ravel(), minlength=len(classes)) / mean[0].size
            found.append(Ranked(path, name, score, shares))
            embeddings.append(embedding(mean))
        good = [k for k, image in enumerate(found) if not image.error]
        scores = np.array([found[k].score for k in good])
        if diverse and good:
            order = diverse_order(scores, np.stack([embeddings[k] for k in good]))
        else:
            order = np.argsort(-scores, kind="stable").tolist()
        ranked = [found[good[k]] for k in order] + [image for image in found if image.error]
        result = RankResult(ranked, classes, output)
        write_bytes_durably(output / "ranking.csv", ranking_csv(result).encode(errors="surrogateescape"))
        _write_prelabels(result, predictors, top)
    return result


def ranking_csv(result: RankResult) -> str:
    """Return a row per image as CSV: rank, path, score, the share of pixels by class, and what is wrong with it."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["rank", "image", "score", *(f"share_{name}" for name in result.classes.names), "error"])
    for rank, image in enumerate(result.images, start=1):
        if image.error:
            writer.writerow(["", neutral(str(image.path)), "", *[""] * len(result.classes), neutral(image.error)])
        else:
            assert image.shares is not None
            shares = [f"{share:.6f}" for share in image.shares]
            writer.writerow([rank, neutral(str(image.path)), repr(image.score), *shares, ""])
    return text.getvalue()


def _write_prelabels(result: RankResult, predictors: Sequence[Predictor], top: int) -> None:
    """Write prelabels/NAME.json of the first `top` images, and contact_sheet.png of the first SHOWN."""
    thumbnails = []
    for rank, ranked in enumerate(result.images[: max(top, SHOWN)], start=1):
        if ranked.error:
            continue
        image = read_image(ranked.path)
        mask = predictors[0](image)
        if rank <= top:
            path = result.output / "prelabels" / f"{ranked.name}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            content = labelme.describe(mask, Path(os.path.relpath(ranked.path, path.parent)).as_posix(), result.classes)
            write_bytes_durably(path, (json.dumps(content, indent=1) + "\n").encode())
        if rank <= SHOWN:
            thumbnails.append(_thumbnail(overlay(image, mask, result.classes), f"{rank}: {ranked.score:.3f}"))
    if thumbnails:
        pixels = cv2.cvtColor(sheet(thumbnails, columns=4), cv2.COLOR_RGB2BGR)
        done, encoded = cv2.imencode(".png", pixels)
        assert done
        write_bytes_durably(result.output / "contact_sheet.png", encoded.tobytes())


def _thumbnail(image: np.ndarray, caption: str) -> np.ndarray:
    """Return an image uint8 RGB [h, w, 3] made small, with a caption below."""
    scale = min(1.0, THUMBNAIL_HW[0] / image.shape[0], THUMBNAIL_HW[1] / image.shape[1])
    size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    small = np.full((size[1] + 22, THUMBNAIL_HW[1], 3), 255, np.uint8)
    small[: size[1], : size[0]] = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    cv2.putText(small, caption, (2, size[1] + 16), cv2.FONT_HERSHEY_SIMPLEX, 0.48, (60, 60, 60), 1, cv2.LINE_AA)
    return small
