"""Compare trained models on the same images: what differs, by how much, and whether it could be chance."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from segkit.classes import Classes
from segkit.config.reading import config_to_dict, flatten
from segkit.datasets.layouts import list_items
from segkit.errors import CheckpointError, ConfigError
from segkit.eval_miou import build_scoring
from segkit.evaluation.comparison import compare
from segkit.evaluation.confusion import Scores, iou_of, mean_scores, mean_where_known
from segkit.evaluation.evaluate import segmentations
from segkit.evaluation.measurement import ImageRow, Measurement
from segkit.evaluation.overrides import evaluation_config, sets
from segkit.inference.trained import open_models, stored_rules
from segkit.loading.evaluation_set import stack_evaluation
from segkit.report.comparison_page import Compared, comparison_page
from segkit.report.gallery import Shown, shown_masks
from segkit.runtime.files import write_bytes_durably

MOST_CHANGED = 4  # images shown that got better, and that got worse


@dataclass(frozen=True)
class Side:
    """One recipe: its trainings, scored on the same images, in the order of the images' names."""

    name: str
    paths: tuple[Path, ...]
    config: dict[str, Any]
    scores: Scores  # means over its trainings
    rows: list[list[ImageRow]]  # by training

    @property
    def marginals(self) -> np.ndarray:
        """What each image counts: int64 [R, N, 3, C], of R trainings."""
        return np.stack([[row.marginals for row in rows] for rows in self.rows])

    @property
    def image_miou(self) -> np.ndarray:
        """The mIoU of each image, the mean over trainings: float64 [N]."""
        return mean_where_known(mean_where_known(iou_of(self.marginals)), axis=0)


@dataclass(frozen=True)
class CompareResult:
    """The first side, and the others with their difference from it."""

    split: str
    num_images: int
    classes: Classes
    sides: list[Side]
    compared: list[Compared]


def compare_runs(
    words: Sequence[str], overrides: Sequence[str] = (), *, split: str | None = None, page: Path | None = None
) -> CompareResult:
    """Score models on one split, and compare each with the first.

    A word is a run folder or a checkpoint, or several trainings of one recipe, separated by commas. With `page`,
    compare.html is written there.

    Raises:
        ConfigError: fewer than two words, or an override without effect.
        CheckpointError: a model that can't be read, or that has other classes than the first.
        DataError: an image or mask that can't be read.
    """
    if len(words) < 2:
        raise ConfigError(f"compare: found {len(words)} model, expected at least two, the one to compare with first")
    paths = [tuple(checkpoint_of(Path(part)) for part in word.split(",")) for word in words]
    first = open_models([paths[0][0]])[0]
    split = split or evaluation_config(paths[0][0], first, overrides).data.val
    names = _short_names(words)
    sides = [_score(name, side, overrides, split, first.classes) for name, side in zip(names, paths, strict=True)]
    base = sides[0]
    compared = [
        Compared(
            base.name,
            side.name,
            base.scores,
            side.scores,
            compare(base.marginals, side.marginals),
            _changes(base, side),
            differing(base.config, side.config),
        )
        for side in sides[1:]
    ]
    if page:
        images = {
            each.second: list(_show(each, base, side, overrides, split, first.classes))
            for each, side in zip(compared, sides[1:], strict=True)
        }
        num_images = len(base.rows[0])
        write_bytes_durably(page, comparison_page(split, num_images, first.classes, compared, images).encode())
    return CompareResult(split, len(base.rows[0]), first.classes, sides, compared)


def checkpoint_of(path: Path) -> Path:
    """Return the model that a path stands for: of a run folder its best checkpoint. Raises CheckpointError."""
    if path.is_dir():
        best = path / "checkpoints" / "best.pt"
        if not best.is_file():
            raise CheckpointError(f"{best}: no such file, expected the best checkpoint of a run, or name another file")
        return best
    return path


def _score(name: str, paths: Sequence[Path], overrides: Sequence[str], split: str, classes: Classes) -> Side:
    rows, scores, config = [], [], {}
    for path in paths:
        models = open_models([path])
        if models[0].classes.names != classes.names:
            raise CheckpointError(
                f"{path}: has the classes {', '.join(models[0].classes.names)}, expected {', '.join(classes.names)} as "
                "the first model has them; compare models of the same classes"
            )
        run = evaluation_config(path, models[0], overrides)
        items = list_items(run.data, split, seed=run.train.seed, held_out=models[0].held_out)
        scoring = build_scoring(
            models, items, run, precision_given=sets(overrides, "train.precision"), postprocess=stored_rules(models)
        )
        measurement = Measurement(classes)
        scored = scoring.validation.score(scoring.model, title=f"scoring {path}", measurement=measurement)
        assert scored.measured is not None
        rows.append(scored.measured.rows)
        scores.append(scored.scores)
        if [row.name for row in rows[0]] != [row.name for row in rows[-1]]:
            raise ConfigError(f"{path}: its split {split} holds other images; give data.root and --split for all")
        config = config_to_dict(models[0].config)
    return Side(name, tuple(paths), config, mean_scores(scores), rows)


def _changes(first: Side, second: Side) -> list[tuple[str, float, float]]:
    """Return name, and mIoU on the first and second side, of each image: those that lost most first."""
    before, after = first.image_miou, second.image_miou
    changes = [
        (row.name, float(old), float(new))
        for row, old, new in zip(first.rows[0], before, after, strict=True)
        if not np.isnan(new - old)
    ]
    return sorted(changes, key=lambda change: (change[2] - change[1], change[0]))


def differing(first: dict[str, Any], second: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    """Return the keys whose values differ in two configs, with both values; the run's folder is left out."""
    old, new = flatten(first), flatten(second)
    keys = sorted({*old, *new} - {"run"})
    return [(key, old.get(key), new.get(key)) for key in keys if old.get(key) != new.get(key)]


def _short_names(words: Sequence[str]) -> list[str]:
    """Return what tells the models apart: the last part of each path, or all of it where that is not enough."""
    parts = [[str(_run_of(Path(part))) for part in word.split(",")] for word in words]
    short = [",".join(Path(part).name for part in side) for side in parts]
    return short if len(set(short)) == len(short) else [",".join(side) for side in parts]


def _run_of(path: Path) -> Path:
    return path.parent.parent if path.parent.name == "checkpoints" else path


def _show(
    compared: Compared, first: Side, second: Side, overrides: Sequence[str], split: str, classes: Classes
) -> list[Shown]:
    """Predict the images that changed most by the first training of each side."""
    masks: dict[str, dict[str, np.ndarray]] = {}
    names = compared.most_changed(MOST_CHANGED)
    pixels = {}
    for side in (first, second):
        models = open_models([side.paths[0]])
        run = evaluation_config(side.paths[0], models[0], overrides)
        items = list_items(run.data, split, seed=run.train.seed, held_out=models[0].held_out)
        chosen = [item for item in items if item.name in names]
        scoring = build_scoring(models, chosen, run, postprocess=stored_rules(models))
        for sample in (scoring.validation.dataset[k] for k in range(len(chosen))):
            (labelled,) = segmentations(
                scoring.model, [stack_evaluation([sample])], postprocess=scoring.validation.postprocess
            )
            masks.setdefault(sample.name, {})[side.name] = labelled.segmentation.mask
            pixels[sample.name] = (sample.image.transpose(1, 2, 0)[sample.box.inner], labelled.truth)
    return [shown_masks(f"image-{k}", name, *pixels[name], masks[name], classes) for k, name in enumerate(names)]
