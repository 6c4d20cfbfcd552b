"""Train and score a config on every fold of its data set: each image is held out once, and all of them are counted.

Each fold is an ordinary run in a folder of its own below the run's. What counts is its model after the last epoch,
since the best epoch was chosen on the images that it is scored on. Not here: drawing folds
(segkit/datasets/split.py).
"""

import contextlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from segkit.classes import Classes
from segkit.config.schema import RunConfig
from segkit.datasets.folds import Fold, check_disjoint, find_folds
from segkit.datasets.layouts import list_items
from segkit.errors import CheckpointError, RunFolderError
from segkit.eval_miou import score
from segkit.evaluation.bootstrap import CONFIDENCE, RESAMPLES, miou_interval
from segkit.evaluation.confusion import ConfusionMatrix, Scores, mean_scores, plain
from segkit.evaluation.measurement import Measurement
from segkit.loading.prepare import prepare_data
from segkit.models.checkpoint import Checkpoint
from segkit.report.tables import FoldRow, folds_csv, folds_table, mean_and_spread, percent, scores_table
from segkit.runtime.files import write_bytes_durably
from segkit.runtime.logs import quiet
from segkit.runtime.ranks import Ranks, process_group
from segkit.train import train
from segkit.training.resume import load_newest
from segkit.training.run_folder import RunFolder
from segkit.training.setup import build_plan

log = logging.getLogger(__name__)

ImageCounts = dict[str, np.ndarray]  # by name, what an image counts: ConfusionMatrix.marginals


@dataclass(frozen=True)
class Pooled:
    """What all folds come to together. `by_repeat` counts each image once, by the model that didn't train on it.

    `scores` are their means over the repeats, and `interval` that of its mIoU.
    """

    by_repeat: tuple[Scores, ...]
    scores: Scores
    interval: tuple[float, float]


@dataclass(frozen=True)
class FoldsResult:
    """The run's folder and the folds that are done; `pooled` once they all are."""

    folder: Path
    num_folds: int
    classes: Classes | None = None
    rows: tuple[FoldRow, ...] = ()
    pooled: Pooled | None = None

    @property
    def finished(self) -> bool:
        """False if a signal stopped it."""
        return self.pooled is not None


def train_folds(config: RunConfig, *, resume: bool | Literal["auto"] = False) -> FoldsResult:
    """Train and score every fold, alone or as one of the ranks that torchrun started; write folds.json and folds.csv.

    With `resume`, continue where it was stopped: finished folds are only scored again, one that was begun continues at
    the very step. With auto, also where nothing has begun. A Ctrl-C or SIGTERM saves, and the result isn't `finished`.

    Raises:
        SegkitError: as `train`, `find_folds` and `check_disjoint`; or RunFolderError, the folder holds something else.
    """
    folder = Path(config.run)
    with process_group(config.train.device, timeout_minutes=config.train.timeout_minutes) as ranks:
        folds = ranks.first(lambda: _prepare(config, folder, resume))
        rows: list[FoldRow] = []
        counts: list[tuple[Fold, ImageCounts]] = []
        classes = None
        try:
            for fold in folds:
                if ranks.is_first:
                    log.info("fold    %s, %d of %d", fold.name, len(rows) + 1, len(folds))
                own = _config_of(config, fold)
                silent = ranks.first(lambda own=own: _is_finished(own))  # type: ignore[misc]
                with quiet("segkit", level=logging.WARNING) if silent else contextlib.nullcontext():
                    trained = train(own, resume="auto" if resume else False, ranks=ranks)
                if not trained.finished:
                    return FoldsResult(folder, len(folds), classes, tuple(rows))
                classes = trained.classes
                scores, counted = _score(own, ranks)
                best = trained.scores.miou if trained.scores else None
                rows.append(FoldRow(fold.repeat, fold.number, fold.name, scores, trained.best_epoch, best))
                counts.append((fold, counted))
                if ranks.is_first:
                    done = "finished before" if silent else "finished"
                    log.info("fold    %s, %s: mIoU %s after the last epoch", fold.name, done, percent(scores.miou))
            assert classes is not None
            pooled = pool(rows, counts, seed=config.train.seed)
            result = FoldsResult(folder, len(folds), classes, tuple(rows), pooled)
            ranks.first(lambda: _write(result))
            return result
        except KeyboardInterrupt:  # between two runs, or a second Ctrl-C
            if not any(RunFolder(folder / fold.name).holds_checkpoint() for fold in folds):
                raise
            return FoldsResult(folder, len(folds), classes, tuple(rows))
        finally:
            if ranks.is_first:
                with contextlib.suppress(OSError):  # not empty, as it should be
                    folder.rmdir()


def pool(rows: Sequence[FoldRow], image_counts: Sequence[tuple[Fold, ImageCounts]], *, seed: int) -> Pooled:
    """Count the images of all folds together, repeat by repeat, which must hold the same ones.

    Averaging the folds' mIoU instead would give a class that few images show another weight in every fold (Forman and
    Scholz 2010, Apples-to-apples in cross-validation studies).
    """
    repeats = sorted({row.repeat for row in rows})
    by_repeat = []
    for repeat in repeats:
        parts = [row.scores for row in rows if row.repeat == repeat]
        counts = np.sum([scores.counts for scores in parts], axis=0)
        matrix = ConfusionMatrix.from_counts(counts, num_images=sum(scores.num_images for scores in parts))
        by_repeat.append(matrix.scores())
    together: list[ImageCounts] = [
        {name: counts for fold, held_out in image_counts if fold.repeat == repeat for name, counts in held_out.items()}
        for repeat in repeats
    ]
    names = sorted(together[0])
    stacked = np.array([[counted[name] for name in names] for counted in together])  # [R, N, 3, C]
    return Pooled(tuple(by_repeat), mean_scores(by_repeat), miou_interval(stacked, seed=seed))


def describe_folds(result: FoldsResult) -> str:
    """Return what a user reads of finished folds."""
    assert result.pooled is not None
    assert result.classes is not None
    pooled = result.pooled
    low, high = (percent(end) for end in pooled.interval)
    repeats = len(pooled.by_repeat)
    lines = [
        folds_table(result.rows),
        "* optimistic: the epoch was chosen on the very images that it is scored on",
        "",
        f"all folds together{f', mean of {repeats} repeats' if repeats > 1 else ''}",
        scores_table(pooled.scores, result.classes),
        "",
        f"pooled mIoU {percent(pooled.scores.miou)}, {100 * CONFIDENCE:.0f} % interval {low} to {high}",
    ]
    if repeats > 1:
        each = ", ".join(percent(scores.miou) for scores in pooled.by_repeat)
        lines.append(f"repeats alone: {each}")
    lines += [
        "note: each image was scored by a model that wasn't trained on it. The interval",
        "      says what other images of the kind would change (bootstrap), with these",
        "      models; where images belong together, as frames do, it is too narrow",
    ]
    lacking = []
    for row in result.rows:
        absent = np.flatnonzero((row.scores.truth_pixels == 0) & (pooled.scores.truth_pixels > 0))
        if absent.size:
            lacking.append(f"{row.name} ({', '.join(result.classes.names[k] for k in absent)})")
    if lacking:
        lines += [
            f"note: no pixel of some classes in {', '.join(lacking)}: a fold's mIoU is",
            "      that of the classes it holds, not always the same; the pooled one is of all",
        ]
    return "\n".join(lines)


# ---- before


def _prepare(config: RunConfig, folder: Path, resume: bool | Literal["auto"]) -> list[Fold]:
    """Look at what would otherwise fail after hours: the files of all folds, and the folder."""
    folds = find_folds(config.data)
    splits = {
        fold: tuple([item.name for item in list_items(config.data, split)] for split in (fold.train, fold.val))
        for fold in folds
    }
    check_disjoint({fold: (train, val) for fold, (train, val) in splits.items()})
    runs = [RunFolder(folder / fold.name) for fold in folds]
    there = {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()
    beside = there - {fold.name for fold in folds}
    if not resume:
        for run in runs:
            run.check_new()
        if folder.is_file() or beside:
            what = f"it holds {min(beside)}" if beside else "it is a file"
            raise RunFolderError(
                f"{folder}: not empty, {what}, expected a new folder for these folds; choose another with run=FOLDER"
            )
        return folds
    if {"config.yaml", "checkpoints"} & beside:
        raise RunFolderError(
            f"{folder}: holds a run without folds, expected folders such as {folds[0].name}; resume it without "
            "--folds, or choose another folder with run=FOLDER"
        )
    if gone := sorted(name for name in beside if RunFolder(folder / name).holds_checkpoint()):
        raise RunFolderError(
            f"{folder / gone[0]}: holds a run, but the data set has no fold of that name (any more), expected "
            f"{folds[0].name} to {folds[-1].name}; put its split files back, or choose another folder with run=FOLDER"
        )
    if resume != "auto" and not any(run.holds_checkpoint() for run in runs):
        raise RunFolderError(
            f"{folder}: nothing to resume, no fold has a checkpoint there; start without --resume, or name the folder "
            "with run=FOLDER"
        )
    return folds


def _config_of(config: RunConfig, fold: Fold) -> RunConfig:
    data = replace(config.data, train=fold.train, val=fold.val)
    return replace(config, run=str(Path(config.run) / fold.name), data=data)


def _is_finished(config: RunConfig) -> bool:
    """True if the checkpoint of a fold's run is that of its last step."""
    folder = RunFolder(Path(config.run))
    try:
        step = Checkpoint.load(folder.last).progress.step
    except CheckpointError:  # not begun, or damaged, in which case training says so
        return False
    plan = build_plan(config, prepare_data(config.data, seed=config.train.seed))
    return step >= config.train.epochs * plan.batches_per_epoch


# ---- after


def _score(config: RunConfig, ranks: Ranks) -> tuple[Scores, ImageCounts]:
    """Score a fold's last checkpoint on what the fold holds out, as `segkit eval` does; each rank takes a share."""
    folder = RunFolder(Path(config.run))
    checkpoint = ranks.first(lambda: load_newest(folder).without_training_state())
    items = ranks.first(lambda: list_items(config.data, config.data.val))
    images = Measurement(checkpoint.classes)
    scores = score([checkpoint], items, config, title=f"scoring {config.data.val}", ranks=ranks, measurement=images)
    return scores, {row.name: row.marginals for row in images.rows}


def _write(result: FoldsResult) -> None:
    """Write folds.json (stable names, NaN as null, paths below the run's folder) and folds.csv (a row per fold)."""
    assert result.pooled is not None
    assert result.classes is not None
    pooled, rows = result.pooled, result.rows
    mean, spread = mean_and_spread([row.scores.miou for row in rows])
    best_mean, best_spread = mean_and_spread([row.best for row in rows if row.best is not None])
    low, high = pooled.interval
    content: dict[str, Any] = {
        "miou": plain(pooled.scores.miou),
        "interval": {
            "low": plain(low), "high": plain(high), "confidence": CONFIDENCE, "method": "percentile bootstrap over "
            "images", "resamples": RESAMPLES,
        },
        "mean_miou": plain(mean),
        "std_miou": plain(spread),
        "mean_best_miou": plain(best_mean),
        "std_best_miou": plain(best_spread),
        "folds": [
            {
                "name": row.name,
                "repeat": row.repeat,
                "fold": row.number,
                "num_images": row.scores.num_images,
                "miou": plain(row.scores.miou),
                "best_epoch": row.best_epoch,
                "best_miou": None if row.best is None else plain(row.best),
                "checkpoint": f"{row.name}/checkpoints/last.pt",
            }
            for row in rows
        ],
        "repeats": [
            {"repeat": number, "num_images": scores.num_images, "miou": plain(scores.miou)}
            for number, scores in enumerate(pooled.by_repeat, start=1)
        ],
        "pooled": pooled.scores.to_dict(result.classes),
    }  # fmt: skip
    text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    write_bytes_durably(result.folder / "folds.csv", folds_csv(rows, result.classes).encode())
    write_bytes_durably(result.folder / "folds.json", text.encode())
