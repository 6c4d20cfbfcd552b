"""The device of a run: which one, in which precision, seeded how, and what a figure measured on it depends on."""

import contextlib
import datetime
import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch

from segkit.errors import DeviceError
from segkit.runtime.machine import count_threads, cpu_field, free_memory, resident_memory, usable_cores

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def select_device(name: str, *, local_rank: int = 0) -> torch.device:
    """Turn `auto`, `cpu`, `cuda`, `cuda:1` or `mps` into a device that exists.

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
            f"device: '{name}' doesn't exist: this machine has {torch.cuda.device_count()} CUDA GPUs that torch "
            f"{torch.__version__} can use; set train.device=cpu (or --device cpu), or check the driver with nvidia-smi"
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise DeviceError("device: 'mps' doesn't exist: no Apple GPU that torch can use; set train.device=cpu")
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


def precision_name(precision: torch.dtype) -> str:
    """Return fp32, bf16 or fp16: the word of the config for what `select_precision` chose."""
    return next(name for name, dtype in PRECISIONS.items() if dtype == precision)


def sum_dtype(device: torch.device) -> torch.dtype:
    """Return the dtype to add many losses up in: float64, which Apple's GPUs don't have."""
    return torch.float32 if device.type == "mps" else torch.float64


def has_bf16(device: torch.device) -> bool:
    """True where matrix products in bf16 run in hardware, not emulated."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        flags = cpu_field("flags").split()
        return "avx512_bf16" in flags or "amx_bf16" in flags
    return False


def count_workers(setting: int | str, device: torch.device, *, start_method: str = "auto") -> int:
    """Turn `train.workers` into a number of loading processes for this rank.

    `auto`: beside a GPU up to 8 of this rank's share of the cores; on a CPU none, since its cores compute, and then
    load between two steps. Where processes can't be forked (Windows), auto is none unless spawned ones are asked for:
    each imports torch anew, so they take long to start and much memory.
    """
    if isinstance(setting, int):
        return setting
    if start_method == "auto" and not hasattr(os, "fork"):
        return 0
    return count_threads() if device.type == "cuda" else 0


def autocast(device: torch.device, precision: torch.dtype) -> contextlib.AbstractContextManager[Any]:
    """Compute in `precision` where that is safe; in fp32 do nothing."""
    if precision == torch.float32:
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=precision)


def choose_kernels(device: torch.device, *, deterministic: bool) -> None:
    """Have a GPU add in the same order every time, or else take the fastest kernels for each shape.

    Where an operation has no deterministic kernel, PyTorch warns. CPUs are deterministic in any case.
    """
    if device.type != "cuda":
        return
    torch.backends.cudnn.benchmark = not deterministic
    if not deterministic:
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS is first used
    torch.backends.cudnn.deterministic = True  # also inside native_kernels
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


@contextlib.contextmanager
def native_kernels() -> Iterator[None]:
    """Take PyTorch's usual kernels in a block without gradients, whatever `choose_kernels` said.

    Forward passes are deterministic by themselves: what adds in a changing order are gradients of interpolation,
    pooling and indexing. With the flag on, PyTorch also takes its slow paths forward. The flag is one of the process.
    """
    if not torch.are_deterministic_algorithms_enabled():  # setting it imports torch._inductor, which takes a while
        yield
        return
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(False)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(True, warn_only=warn_only)


@contextlib.contextmanager
def without_tf32() -> Iterator[None]:
    """Let a GPU's convolutions of float32 keep all their 24 bits in a block; TF32, cuDNN's default, keeps 11."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def seed_step(seed: int, step: int, rank: int) -> None:
    """Seed torch (dropout, drop-path) by (seed, step, rank), so that a resumed run draws what a straight one does.

    The mixing is splitmix64's (Steele, Lea, Flood 2014), so that neighbouring steps get unrelated streams.
    """
    mixed = (seed + 0x9E3779B97F4A7C15 * (step * 65536 + rank + 1)) % 2**64
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) % 2**64
    torch.manual_seed((mixed ^ (mixed >> 31)) % 2**63)


def available_memory(device: torch.device) -> int:
    """Return the bytes of memory that this process can have on a device: what is free, and what it holds already.

    For a CPU that is what the machine, or this container, may use without swapping.
    """
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device)
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):  # missing, or "max"
            total = min(total, int(Path(limit).read_text()))
    free = free_memory()
    return total if free is None else min(total, free + resident_memory())


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
        "processor": cpu_field("model name") or platform.processor(),
        "cores": os.cpu_count(),
        "usable_cores": usable_cores(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "commit": _git_commit(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


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
