"""Predict masks for images, folders, patterns, lists and numbered frames, by one model or by several together.

Three stages run side by side: load | segment | save. The path from pixels to mask is that of evaluation
(segkit/evaluation/evaluate.py). The parts are in segkit/prediction.
"""

import contextlib
import logging
import time
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from segkit.classes import Classes
from segkit.datasets.masks import read_label_values
from segkit.inference.predictor import Predictor
from segkit.prediction.job import REMEDY, Job, prepare
from segkit.prediction.outputs import Output
from segkit.prediction.rows import Predicted, Rows, count_pixels, earlier_row, read_rows
from segkit.prediction.stages import Stages
from segkit.prediction.table import build_outputs
from segkit.runtime.files import writing
from segkit.runtime.machine import keep_freed_memory
from segkit.runtime.progress import progress

if TYPE_CHECKING:
    from segkit.runtime.ranks import Ranks

log = logging.getLogger(__name__)

MAX_MEGAPIXELS = 1000.0  # of an image that is decoded whole: 3 GB of memory


def predict_files(
    predictor: Predictor,
    source: str,
    output: Path,
    *,
    overlays: bool = True,
    overwrite: bool = False,
    skip_existing: bool = False,
) -> list[Predicted]:
    """Write `masks/`, `overlays/`, `classes.txt` and `predictions.csv` below `output` for what `source` means.

    Raises:
        DataError, RunFolderError: as `prepare` and `predict`.
    """
    job = prepare(source, output, overwrite=overwrite, skip_existing=skip_existing)
    return predict(predictor, job, build_outputs(output, predictor.classes, ["overlays"] if overlays else []))


def predict(
    predictor: Predictor,
    job: Job,
    outputs: Sequence[Output],
    *,
    batch_size: int = 1,
    max_megapixels: float = MAX_MEGAPIXELS,
    ranks: "Ranks | None" = None,
) -> list[Predicted]:
    """Predict the images of a job; return a row for each, in their order, on every rank.

    The folder structure of the source is kept (see `output_names`). An input that can't be read or written becomes a
    row with its error, and the others are done. Each file appears whole, and an image's mask last. Of several ranks
    each predicts a share; the first one writes what is said of all images together.

    Raises:
        RunFolderError: `output` can't be written to any more, or holds the table of another model; what was done is
            kept.
    """
    keep_freed_memory()
    stages = Stages(predictor, outputs, max_pixels=round(max_megapixels * 1e6), batch_size=batch_size)
    return predict_by(stages, predictor.classes, job, outputs, ranks=ranks)


class Engine(Protocol):
    """What predicts a job's images: this process's stages, or a fleet of processes (segkit/prediction/fleet.py)."""

    @property
    def rows(self) -> dict[str, Predicted]:
        """The rows of what is done, by name."""

    def run(self, named: Sequence[tuple[Path, str]]) -> Generator[str, None, None]:
        """Yield the name of each image when its outputs are written."""

    def describe(self) -> str:
        """Return what limits the speed, in words."""


def predict_by(
    engine: Engine, classes: Classes, job: Job, outputs: Sequence[Output], *, ranks: "Ranks | None" = None
) -> list[Predicted]:
    """Have an engine predict a job's images, and write what is said of all of them together; the rest as `predict`."""
    rank, size = (ranks.rank, ranks.size) if ranks else (0, 1)
    share = range(rank, len(job.paths), size)
    todo = [k for k in share if not job.is_done(k)]
    with writing(job.output, remedy=REMEDY), contextlib.ExitStack() as stack:
        earlier = _earlier(job, [k for k in share if job.is_done(k)], classes)
        table = job.output / ("predictions.csv" if size == 1 else f"predictions.rank{rank}.csv")
        rows = Rows(table, classes, earlier.values())
        stack.callback(rows.close)
        # for `segkit convert OUTPUT --from id-masks`, which takes masks to be corrected to a labelling tool
        (job.output / "classes.txt").write_text(classes.lines(), encoding="utf-8")
        listed: dict[str, None] = {}  # names, in the order of the table

        def list_rest() -> None:
            """Add the rows of what was saved in the threads' last moments, after Ctrl-C for instance."""
            for name in engine.rows.keys() - listed.keys():
                rows.add(engine.rows[name])

        stack.callback(list_rest)
        for name in _run(engine, [(job.paths[k], job.names[k]) for k in todo], stack, job):
            rows.add(engine.rows[name])
            listed[name] = None
        mine = {**earlier, **{k: engine.rows[job.names[k]] for k in todo}}
        found = {k: row for part in (ranks.gather(mine) if ranks else [mine]) for k, row in part.items()}
        ordered = [found[k] for k in range(len(job.paths))]
        done = [(job.names[k], job.paths[k]) for k, row in enumerate(ordered) if not row.error]
        if rank == 0:
            for output in outputs:
                output.finish(done)
            if size > 1 or [*listed] != job.names:
                rows.close()
                Rows(job.output / "predictions.csv", classes, ordered).close()
        if size > 1:
            ranks.gather(None)  # type: ignore[union-attr]  # the joined table is on the disk
            rows.close()
            table.unlink(missing_ok=True)
    return ordered


def _run(engine: Engine, named: Sequence[tuple[Path, str]], stack: contextlib.ExitStack, job: Job) -> Iterator[str]:
    """Yield the name of each image when it is done, beside a bar."""
    started = time.perf_counter()
    saved = stack.enter_context(contextlib.closing(engine.run(named)))
    with progress(saved, total=len(named), unit="image", title="predicting") as bar:
        try:
            for name in bar:
                bar.set_postfix_str(engine.describe(), refresh=False)
                yield name
        except KeyboardInterrupt:
            log.info("stopped; %s lists what is done; --skip-existing continues", job.output / "predictions.csv")
            raise
    if named:
        log.info("%.1f images/s: %s", len(named) / (time.perf_counter() - started), engine.describe())


def _earlier(job: Job, done: Sequence[int], classes: Classes) -> dict[int, Predicted]:
    """Return the rows of images that an earlier job has predicted; of one that it listed nowhere, by its mask."""
    if not done:
        return {}
    tables = sorted(job.output.glob("predictions*.csv"))
    listed = {cell: row for table in tables for cell, row in read_rows(table, classes).items()}
    return {k: earlier_row(listed, str(job.paths[k])) or _row_of_mask(job, k, classes) for k in done}


def _row_of_mask(job: Job, k: int, classes: Classes) -> Predicted:
    mask = job.mask(k)
    assert mask is not None, job.names[k]
    ids = read_label_values(mask)
    return Predicted(str(job.paths[k]), ids.shape, count_pixels(ids, len(classes)))
