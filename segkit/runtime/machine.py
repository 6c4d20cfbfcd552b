"""The machine under a run: threads, memory, disk, cache folder. No torch: what only reads files starts without it."""

import contextlib
import ctypes
import os
import platform
import shutil
from pathlib import Path


def count_threads() -> int:
    """Return how many threads load, or save, beside the one that runs the model: this rank's cores, at most 8."""
    return min(8, max(1, (os.cpu_count() or 1) // processes_here()))


def under_torchrun() -> bool:
    """True if torchrun started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def processes_here() -> int:
    """Return how many ranks run on this machine, as torchrun says."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1))


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


def user_cache() -> Path:
    """Return the folder for what can be had again: segkit's in the user's cache folder. It may not exist yet."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "segkit"


def free_disk(folder: Path) -> int:
    """Return the free bytes of the disk that a folder is on, or will be on once it is made."""
    return shutil.disk_usage(next(place for place in (folder, *folder.resolve().parents) if place.is_dir())).free


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


def cpu_field(name: str) -> str:
    """Return one field of Linux's /proc/cpuinfo, or '' elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "")
