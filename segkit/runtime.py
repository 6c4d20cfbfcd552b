"""The machine under a run: device, precision, memory, seeds, signals. Its peers on other processes: segkit/ranks.py."""

import contextlib
import ctypes
import datetime
import importlib.metadata
import logging
import os
import platform
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from segkit.errors import DeviceError

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def select_device(name: str, *, local_rank: int = 0) -> torch.device:
    """Turn `auto`, `cpu`, `cuda`, `cuda:1` or `mps` into a device that is there.

    Raises:
        DeviceError: no such device on this machine.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", local_rank)
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise DeviceError(f"device: found '{name}', expected auto, cpu, cuda, cuda:N or mps") from error
    if device.type not in ("cpu", "cuda", "mps"):
        raise DeviceError(f"device: found '{name}', expected auto, cpu, cuda, cuda:N or mps")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise DeviceError(
            f"device: '{name}' isn't there: this machine has {torch.cuda.device_count()} CUDA GPUs that torch "
            f"{torch.__version__} can use; set train.device=cpu (or --device cpu), or check the driver with nvidia-smi"
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise DeviceError("device: 'mps' isn't there: no Apple GPU that torch can use; set train.device=cpu")
    return torch.device("cuda", local_rank) if name == "cuda" else device


def select_precision(name: str, device: torch.device) -> torch.dtype:
    """Turn `auto`, `fp32`, `bf16` or `fp16` into the dtype of the forward pass on `device`.

    `auto` is bf16 where the hardware computes in it (on CPUs with avx512_bf16 or amx_bf16, training steps measured
    1.8-2.9x faster), otherwise fp32.

    Raises:
        DeviceError: fp16 on a CPU, where it can't be trained in.
    """
    if name == "auto":
        return torch.bfloat16 if has_bf16(device) else torch.float32
    if name == "fp16" and device.type == "cpu":
        raise DeviceError("train.precision: fp16 needs a GPU; on a CPU use bf16, fp32 or auto")
    return PRECISIONS[name]


def common_precision(names: Iterable[str], device: torch.device) -> torch.dtype:
    """Return the dtype that models of these precisions can all compute in: fp32, where they differ.

    Raises:
        DeviceError: as `select_precision`.
    """
    precisions = {select_precision(name, device) for name in names}
    return precisions.pop() if len(precisions) == 1 else torch.float32


def sum_dtype(device: torch.device) -> torch.dtype:
    """Return the dtype to add many losses up in: float64, which Apple's GPUs don't have."""
    return torch.float32 if device.type == "mps" else torch.float64


def has_bf16(device: torch.device) -> bool:
    """True where matrix products in bf16 run in hardware, not emulated."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        flags = _cpu_field("flags").split()
        return "avx512_bf16" in flags or "amx_bf16" in flags
    return False


def count_workers(setting: int | str, device: torch.device) -> int:
    """Turn `train.workers` into a number of loading processes for this rank.

    `auto`: beside a GPU up to 8 of this rank's share of the cores; on a CPU none, since its cores compute, and then
    load between two steps. Always none where processes can't be forked (Windows).
    """
    if not hasattr(os, "fork"):
        return 0
    if isinstance(setting, int):
        return setting
    return count_threads() if device.type == "cuda" else 0


def count_threads() -> int:
    """Return how many threads load, or save, beside the one that runs the model: this rank's cores, at most 8."""
    return min(8, max(1, (os.cpu_count() or 1) // processes_here()))


def under_torchrun() -> bool:
    """True if torchrun started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def processes_here() -> int:
    """Return how many ranks run on this machine, as torchrun says."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1))


def autocast(device: torch.device, precision: torch.dtype) -> contextlib.AbstractContextManager[Any]:
    """Compute in `precision` where that is safe; in fp32 do nothing."""
    if precision == torch.float32:
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=precision)


def keep_freed_memory() -> None:
    """Ask glibc to keep freed pages for the next tensor instead of returning them to the kernel after every step.

    A training step on the CPU frees and takes gigabytes; fresh pages cost up to half of its time. Elsewhere than on
    Linux with glibc nothing happens. The numbers are M_MMAP_MAX, M_TRIM_THRESHOLD and M_TOP_PAD of malloc.h.
    """
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        mallopt(-4, 0)
        mallopt(-1, 2**31 - 1)
        mallopt(-2, 2**28)


def make_deterministic(device: torch.device) -> None:
    """Have a GPU add in the same order every time, wherever it can; PyTorch warns of an operation that can't.

    CPUs do anyhow.
    """
    if device.type != "cuda":
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS is first used
    torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def seed_step(seed: int, step: int, rank: int) -> None:
    """Seed torch (dropout, drop-path) by (seed, step, rank), so that a resumed run draws what a straight one does.

    The mixing is splitmix64's (Steele, Lea, Flood 2014), so that neighbouring steps get unrelated streams.
    """
    mixed = (seed + 0x9E3779B97F4A7C15 * (step * 65536 + rank + 1)) % 2**64
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) % 2**64
    torch.manual_seed((mixed ^ (mixed >> 31)) % 2**63)


def total_memory(device: torch.device) -> int:
    """Return the bytes of memory that a device has: for a CPU, what the machine or this container may use."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):  # not there, or "max"
            total = min(total, int(Path(limit).read_text()))
    return total


def user_cache() -> Path:
    """Return the folder for what can be had again: segkit's in the user's cache folder. It may not exist yet."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "segkit"


def free_disk(folder: Path) -> int:
    """Return the free bytes of the disk that a folder is on, or will be on once it is made."""
    return shutil.disk_usage(next(place for place in (folder, *folder.resolve().parents) if place.is_dir())).free


@contextlib.contextmanager
def quiet(logger: str, *, level: int) -> Iterator[None]:
    """Keep what a logger says below `level` from the terminal for a while."""
    log = logging.getLogger(logger)
    previous = log.level
    log.setLevel(max(level, previous))
    try:
        yield
    finally:
        log.setLevel(previous)


def free_memory() -> int | None:
    """Return the bytes that this process can still get without swapping; None where the system doesn't tell."""
    free = None
    with contextlib.suppress(OSError):
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)
    group = Path("/sys/fs/cgroup")
    with contextlib.suppress(OSError, ValueError):  # no container, or one without a limit ("max")
        left = int((group / "memory.max").read_text()) - int((group / "memory.current").read_text())
        free = left if free is None else min(free, left)
    return free


def peak_process_memory() -> int:
    """Return the most bytes that this process has had in memory so far."""
    import resource  # not on Windows

    unit = 1 if platform.system() == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


class StopRequest:
    """Turns the first Ctrl-C or SIGTERM into a flag, so that a run can finish its step and save; the second one stops.

    What comes within `grace` seconds of the first is the same request: a scheduler signals every process of a job, and
    torchrun passes on to its processes what it got itself.
    Use as a context manager; `.asked` tells. The previous handlers come back at the end.
    """

    def __init__(self, *, grace: float = 0.0) -> None:
        self.asked = False
        self._grace = grace
        self._asked_at = 0.0
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is not threading.main_thread():
            return self  # Python hands signals to the main thread only
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _: FrameType | None) -> None:
        now = time.monotonic()
        if self.asked and now - self._asked_at >= self._grace:
            raise KeyboardInterrupt
        if not self.asked:
            self.asked, self._asked_at = True, now


def describe_environment(device: torch.device) -> dict[str, Any]:
    """Return what a figure depends on: versions, processor, device, threads, and the commit of the working folder."""
    packages = (
        "segkit", "torch", "torchvision", "segmentation-models-pytorch", "timm", "opencv-python-headless", "numpy",
        "pillow",
    )  # fmt: skip
    return {
        "python": platform.python_version(),
        **{package: _package_version(package) for package in packages},
        "platform": platform.platform(),
        "processor": _cpu_field("model name") or platform.processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "commit": _git_commit(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def _cpu_field(name: str) -> str:
    """Return one field of Linux's /proc/cpuinfo, or '' elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "")


def _package_version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None  # run from a source tree, or another build of the same package


def _git_commit() -> str | None:
    try:
        answer = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() or None
