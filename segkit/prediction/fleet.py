"""Prediction by many processes, on this machine or on many: Ray starts them, and starts them again (extra `ray`).

An actor of Ray Data is one process with the model. It gets the paths of a block of images, runs load | segment | save
(stages) over them, and returns rows: no pixels travel. The driver, the process that the user started, names the
outputs over the whole list and writes what is said of all images together (segkit/predict.py).

Not here: one process per GPU of one machine, started by torchrun; that needs no Ray.
"""

import contextlib
import logging
import os
import pickle
import platform
import re
import socket
import tempfile
import traceback
import warnings
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from segkit.errors import ConfigError, DeviceError, RunFolderError, SegkitError, count, first_line
from segkit.inference.predictor import Predictor
from segkit.prediction.outputs import Output
from segkit.prediction.rows import Predicted
from segkit.prediction.stages import Stages, in_batches
from segkit.runtime.machine import keep_freed_memory, usable_cores

log = logging.getLogger(__name__)

# Ray's own default is 0: an actor that dies stays dead. Ray Data's is -1, without end, and so is ours: a long job on
# machines that may be taken away loses any number of actors. What is counted are the tries of a block.
MAX_RESTARTS = -1
# Ray's own default is 0: a block is lost with its actor. Ray Data's is -1: an image that kills its process would do so
# forever. 1: a block that was only unlucky, because its machine was taken away, succeeds the second time.
MAX_TASK_RETRIES = 1
# Ray Data's default is none: a block of any size is a batch. As many images are lost with an actor, and done again; a
# block takes seconds, so that handing it out (milliseconds) costs nothing.
BLOCK = 64
# While an actor works on one block, the next one waits in its process.
BLOCKS_PER_ACTOR = 2
# Of shared memory, for a Ray of our own. Ray's default is 30 % of the machine's memory; rows need kilobytes.
OBJECT_STORE_BYTES = 256 * 2**20
# Ray Data's default, stated: how long nothing may arrive, for instance because no machine is free.
PATIENCE_SECONDS = 30 * 60
MARK = ".fleet."


@dataclass(frozen=True)
class Plan:
    """What an actor needs to know. It is pickled, and the same for all of them."""

    load: Callable[[], Predictor]
    outputs: Sequence[Output]
    max_pixels: int
    batch_size: int | None  # of the network; None: what is usual for the device
    cores: int  # of this actor
    folder: Path  # that the driver runs in: what relative paths are relative to
    mark: Path  # a file in the output folder


class Actor:
    """One process of a fleet. It loads the model once, then predicts block after block.

    What ends the job, a full disk for instance, is returned like a row, and raised by the driver. So the only blocks
    without an answer are those that have lost their process.
    """

    def __init__(self, plan: Plan) -> None:
        self.problem: BaseException | None = None
        try:
            with contextlib.suppress(OSError):  # it may exist on the driver's machine alone, and absolute paths do
                os.chdir(plan.folder)
            if not plan.mark.is_file():
                raise RunFolderError(
                    f"{plan.mark.parent}: the folder that the driver writes to is not seen on {platform.node()}; "
                    "expected a folder of storage that all machines share, at the same path on each"
                )
            keep_freed_memory()
            predictor = plan.load()
            size = plan.batch_size or predictor.usual_batch_size
            self.stages = Stages(predictor, plan.outputs, plan.max_pixels, size, threads=plan.cores)
        except Exception as error:
            self.problem = _sendable(error)

    def __call__(self, block: dict[str, np.ndarray]) -> Iterator[dict[str, list[bytes]]]:
        """Predict a block, columns `path` and `name` of bytes; yield columns `name` and `row`, a pickled `Predicted`.

        Where something ended the job, the row is a pickled exception.
        """
        named = [(Path(os.fsdecode(path)), os.fsdecode(name)) for path, name in zip(*block.values(), strict=True)]
        answers: list[tuple[str, Predicted | BaseException]] = []
        problem = self.problem
        if problem is None:
            try:
                answers.extend((name, self.stages.rows.pop(name)) for name in self.stages.run(named))
            except Exception as error:
                problem = _sendable(error)
        if problem is not None:
            answers.append(("", problem))
        yield {
            "name": [os.fsencode(name) for name, _ in answers],
            "row": [pickle.dumps(answer) for _, answer in answers],
        }


@dataclass(frozen=True)
class Share:
    """How many processes a fleet has, and what each one gets of its machine."""

    workers: int
    cpus: int
    gpus: int

    def __str__(self) -> str:
        cores, gpus = count(self.cpus, "core"), f" and {count(self.gpus, 'GPU')}" if self.gpus else ""
        return f"{self.workers} x {cores}{gpus}"


@dataclass(frozen=True)
class Fleet:
    """An engine of `segkit.predict.predict_by`: actors on a Ray of our own, or on the cluster that RAY_ADDRESS names.

    `load` and `outputs` are pickled: a function of a module with plain arguments, outputs of plain values.
    `workers` is the number of actors; None: one per GPU, or one per core where the model runs on CPUs.
    """

    load: Callable[[], Predictor]
    outputs: Sequence[Output]
    output: Path
    max_pixels: int
    workers: int | None = None
    batch_size: int | None = None  # of the network; None: what is usual for the device
    device: str = "auto"
    rows: dict[str, Predicted] = field(default_factory=dict)  # by name

    def run(self, named: Sequence[tuple[Path, str]]) -> Generator[str, None, None]:
        """Yield the name of each image when its outputs are written, block by block in the order of their arrival.

        Blocks that were lost with their processes are tried again image by image. An image that is lost even so is a
        row with that error.

        Raises:
            ConfigError: Ray isn't installed, or `device` is one GPU of many.
            DeviceError: no cluster answers at RAY_ADDRESS, it has no GPU, or it gave the job up.
            RunFolderError, OSError: an actor can't write, or doesn't see the output folder.
        """
        if not named:
            return
        with _connected(self.workers) as ray, _marked(self.output) as mark:
            share = share_of(ray.nodes(), self.device, self.workers)
            log.info("fleet: %s", share)
            plan = Plan(self.load, self.outputs, self.max_pixels, self.batch_size, share.cpus, Path.cwd(), mark)
            block = min(max(BLOCK, 4 * (self.batch_size or 0)), -(-len(named) // share.workers))
            yield from self._take(_answers(plan, share, named, block=block, ahead=BLOCKS_PER_ACTOR))
            if lost := self._missing(named):
                log.info("%s lost with their processes; they are tried one by one", count(len(lost), "image"))
                yield from self._take(_answers(plan, share, lost, block=1, ahead=1))
        for path, name in self._missing(named):
            self.rows[name] = Predicted(
                str(path),
                seconds=0.0,
                error=f"{path}: the process that predicted it died, {MAX_TASK_RETRIES + 1} times with this image "
                "alone; predict it without --engine ray to see why (often too little memory)",
            )
            yield name

    def describe(self) -> str:
        """Return who predicts; where the time goes, each process knows for itself."""
        return "by a fleet"

    def _take(self, answers: Iterator[tuple[str, Predicted]]) -> Iterator[str]:
        for name, row in answers:
            self.rows[name] = row
            yield name

    def _missing(self, named: Sequence[tuple[Path, str]]) -> list[tuple[Path, str]]:
        return [(path, name) for path, name in named if name not in self.rows]


def share_of(nodes: Sequence[Mapping[str, Any]], device: str, workers: int | None) -> Share:
    """Share the machines of a cluster, as `ray.nodes()` lists them, among actors; `workers` as in `Fleet`.

    Each actor gets as many cores as all of them can have. More actors than there is room for wait until there is.

    Raises:
        ConfigError: `device` is one GPU of many.
        DeviceError: it is a GPU, and the cluster has none.
    """
    if device.startswith("cuda:"):
        raise ConfigError(f"--device {device}: Ray hands out the GPUs; expected --device cuda")
    sizes = [
        (int(node["Resources"].get("CPU", 0)), int(node["Resources"].get("GPU", 0))) for node in nodes if node["Alive"]
    ]
    on_gpus = device in ("auto", "cuda") and any(gpus for _, gpus in sizes)
    if device == "cuda" and not on_gpus:
        raise DeviceError(
            f"--device cuda: the fleet has no GPU, only {count(sum(cpus for cpus, _ in sizes), 'core')}; "
            "start Ray on machines with GPUs, or predict with --device cpu"
        )

    def room(cpus: int) -> int:
        return sum(min(total // cpus, gpus) if on_gpus else total // cpus for total, gpus in sizes)

    workers = workers or max(1, room(1))
    cpus = next((cpus for cpus in range(max(total for total, _ in sizes), 1, -1) if room(cpus) >= workers), 1)
    return Share(workers, cpus, int(on_gpus))


# ---- Ray


def _answers(
    plan: Plan, share: Share, named: Sequence[tuple[Path, str]], *, block: int, ahead: int
) -> Iterator[tuple[str, Predicted]]:
    """Yield name and row of each image as they arrive; nothing of blocks that are lost. `ahead` blocks per actor.

    Raises:
        DeviceError: Ray gave the job up.
        BaseException: what ended the job in an actor.
    """
    import pyarrow
    import ray
    from ray.data.exceptions import ExecutionTimeoutError
    from ray.exceptions import RayError

    blocks = [
        pyarrow.table(
            {"path": [os.fsencode(path) for path, _ in part], "name": [os.fsencode(name) for _, name in part]}
        )
        for part in in_batches(named, block)
    ]
    with warnings.catch_warnings():
        # Ray's own settings that it deprecates, and those that map_batches will have no other way to set (until 2.64)
        warnings.simplefilter("ignore", DeprecationWarning)
        dataset = ray.data.from_blocks(blocks)
        dataset.context.max_errored_blocks = -1  # lost blocks are found by what is missing in the end
        dataset.context.execution_no_progress_timeout_s = PATIENCE_SECONDS
        dataset.context.enable_progress_bars = False
        dataset = dataset.map_batches(
            Actor,
            fn_constructor_args=(plan,),
            batch_size=block,
            compute=ray.data.ActorPoolStrategy(
                min_size=1,  # the job begins with the first one
                max_size=share.workers,
                initial_size=share.workers,
                max_tasks_in_flight_per_actor=ahead,
            ),
            num_cpus=share.cpus,
            num_gpus=share.gpus or None,
            max_restarts=MAX_RESTARTS,
            max_task_retries=MAX_TASK_RETRIES,
        )
    try:
        for answers in dataset.iter_batches(batch_size=None, prefetch_batches=0):
            for name, pickled in zip(answers["name"], answers["row"], strict=True):
                row = pickle.loads(pickled)
                if isinstance(row, BaseException):
                    raise row
                yield os.fsdecode(name), row
    except (RayError, ExecutionTimeoutError) as error:
        raise DeviceError(
            f"Ray gave the job up ({first_line(error)}); what was done is kept, --skip-existing continues. Ray's logs "
            "are in /tmp/ray/session_latest/logs on each machine"
        ) from error


@contextlib.contextmanager
def _connected(workers: int | None) -> Iterator[Any]:
    """Give the module ray, connected to the cluster that RAY_ADDRESS names, or to a Ray of our own.

    Raises:
        ConfigError: Ray isn't installed.
        DeviceError: no cluster answers at RAY_ADDRESS, or none can be started here.
    """
    # what Ray reports home, prints of every process that dies, and logs for its own developers: not unless asked
    quiet = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS_SKIP_REGEX": ".", "RAY_BACKEND_LOG_LEVEL": "fatal"}
    for name, value in quiet.items():
        os.environ.setdefault(name, value)
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise ConfigError(
            "--engine ray: needs the package ray, which isn't installed; install it with pip install 'segkit[ray]'"
        ) from error
    for handler in logging.getLogger("ray.data").handlers:
        if isinstance(handler, logging.StreamHandler):  # the others write to the logs of Ray's session
            handler.setLevel(logging.CRITICAL)
    if ray.is_initialized():
        yield ray
        return
    address = os.environ.get("RAY_ADDRESS")
    own = {
        "num_cpus": max(usable_cores(), workers or 1),
        "object_store_memory": OBJECT_STORE_BYTES,
        "include_dashboard": False,
    }
    try:
        if address and (found := re.fullmatch(r"(.+):(\d+)", address)) and "://" not in address:
            socket.create_connection((found[1], int(found[2])), timeout=10).close()  # Ray would try for minutes
        ray.init(address or "local", log_to_driver=False, logging_level="error", **({} if address else own))
    except (OSError, RuntimeError) as error:
        where = f"RAY_ADDRESS={address}: no Ray answers there" if address else "Ray doesn't start on this machine"
        remedy = (
            "start one with ray start --head, or unset RAY_ADDRESS" if address else "see /tmp/ray/session_latest/logs"
        )
        raise DeviceError(f"{where} ({first_line(error)}); {remedy}") from error
    try:
        yield ray
    finally:
        ray.shutdown()


@contextlib.contextmanager
def _marked(output: Path) -> Iterator[Path]:
    """Give a file in the output folder for actors to look for; remove it at the end, and those of killed jobs now."""
    for old in output.glob(f"{MARK}*"):
        old.unlink(missing_ok=True)
    with tempfile.NamedTemporaryFile(prefix=MARK, dir=output.absolute()) as mark:
        yield Path(mark.name)


def _sendable(error: Exception) -> BaseException:
    """Return an error that another process can raise: a user's as it is, a bug's with its traceback as text."""
    if isinstance(error, (SegkitError, OSError)):
        return error
    return RuntimeError("".join(traceback.format_exception(error)))
