"""The machine under a run: cores, memory, disk, cache folder. No torch: what only reads files starts without it."""

import contextlib
import ctypes
import itertools
import math
import os
import platform
import shutil
from collections.abc import Iterator
from pathlib import Path

# ---- cores


def count_threads() -> int:
    """Return how many threads load, or save, beside the one that runs the model: this rank's cores, at most 8."""
    return min(8, max(1, usable_cores() // processes_here()))


def usable_cores(*, root: Path = Path("/")) -> int:
    """Return how many cores this process may use: the machine's, less by affinity (taskset, Slurm) or by a quota.

    A quota is that of a container or of another control group of Linux; part of a core counts as one. `root` is the
    folder that holds proc/ and sys/.
    """
    # not on macOS and Windows
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([cores, *(math.ceil(quota) for quota in _quotas(root))]))


def _quotas(root: Path) -> Iterator[float]:
    """Yield the quotas, in cores, of the control groups that this process is in, and of those around them."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:  # 0::/user.slice in version 2; 3:cpu,cpuacct:/docker/0123 in version 1
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        group = Path(path.lstrip("/"))
        mounts = {controllers, "cpu"} if controllers else {""}
        # In a container the path may be that of the host: missing, and the mount itself is this process's group.
        for mount, inner in itertools.product(mounts, (group, *group.parents)):
            folder = root / "sys/fs/cgroup" / mount / inner
            with contextlib.suppress(OSError, ValueError):  # no such file, or "max": no quota
                if controllers:
                    quota = int((folder / "cpu.cfs_quota_us").read_text())
                    period = int((folder / "cpu.cfs_period_us").read_text())
                else:
                    quota, period = map(int, (folder / "cpu.max").read_text().split())
                if quota > 0 and period > 0:  # -1: no quota
                    yield quota / period


def under_torchrun() -> bool:
    """True if torchrun started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def processes_here() -> int:
    """Return how many ranks run on this machine, as torchrun says."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1))


# ---- memory and disk


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
    """Return segkit's folder in the user's cache folder, for what can be recreated. It may not exist yet."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "segkit"


def free_disk(folder: Path) -> int:
    """Return the free bytes of the disk that a folder is on, or will be on once it exists."""
    return shutil.disk_usage(next(path for path in (folder, *folder.resolve().parents) if path.is_dir())).free


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


def resident_memory() -> int:
    """Return the bytes that this process has in memory now; 0 where the system doesn't tell."""
    with contextlib.suppress(OSError, ValueError):
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


def peak_process_memory() -> int:
    """Return the most bytes that this process has had in memory so far.

    On Linux not by getrusage, whose figure a new process takes over from the one that started it.
    """
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line.split()[1] for line in lines if line.startswith("VmHWM:"))) * 1024
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
