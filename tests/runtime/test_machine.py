import os
import subprocess
import sys
from pathlib import Path

import pytest

from segkit.runtime.machine import count_threads, free_disk, usable_cores

ALL = os.cpu_count() or 1


def write(root: Path, files: dict[str, str]) -> Path:
    """Write the files of a machine's /proc and /sys below a folder that stands for /."""
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content + "\n")
    return root


def within_affinity() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else ALL


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity")
def test_a_process_counts_the_cores_it_may_run_on() -> None:
    program = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "from segkit.runtime.machine import count_threads, usable_cores; print(usable_cores(), count_threads())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "1"]


@pytest.mark.parametrize(
    ("quota", "cores"),
    [("100000 100000", 1), ("50000 100000", 1), ("150000 100000", 2), ("400000 200000", 2)],
)
def test_a_containers_quota_counts_part_of_a_core_as_one(tmp_path: Path, quota: str, cores: int) -> None:
    root = write(tmp_path, {"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": quota})
    assert usable_cores(root=root) == min(cores, within_affinity())


@pytest.mark.parametrize("quota", ["max 100000", "99900000 100000", "", "what is this"])
def test_no_quota_or_a_wide_one_leaves_every_core(tmp_path: Path, quota: str) -> None:
    root = write(tmp_path, {"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": quota})
    assert usable_cores(root=root) == within_affinity()


def test_a_machine_without_control_groups_leaves_every_core(tmp_path: Path) -> None:
    assert usable_cores(root=tmp_path) == within_affinity()


def test_the_narrowest_of_nested_groups_counts(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "0::/user.slice/job.scope",
        "sys/fs/cgroup/user.slice/cpu.max": "100000 100000",
        "sys/fs/cgroup/user.slice/job.scope/cpu.max": "max 100000",
        "sys/fs/cgroup/other.slice/cpu.max": "1000 100000",
    }
    assert usable_cores(root=write(tmp_path, files)) == 1


@pytest.mark.parametrize(
    ("controllers", "mount"), [("cpu", "cpu"), ("cpu,cpuacct", "cpu,cpuacct"), ("cpuacct,cpu", "cpu")]
)
@pytest.mark.parametrize("group", ["/", "/docker/0123"])
@pytest.mark.parametrize(("quota", "limited"), [("80000", True), ("-1", False)])
def test_version_1_groups_are_read_too(
    tmp_path: Path, controllers: str, mount: str, group: str, quota: str, limited: bool
) -> None:
    """In a container the group's own folder is often mounted as the root, while its path is that of the host."""
    folder = f"sys/fs/cgroup/{mount}"
    files = {
        "proc/self/cgroup": f"4:memory:/elsewhere\n3:{controllers}:{group}",
        f"{folder}/cpu.cfs_quota_us": quota,
        f"{folder}/cpu.cfs_period_us": "100000",
    }
    assert usable_cores(root=write(tmp_path, files)) == (1 if limited else within_affinity())


@pytest.mark.parametrize(("ranks", "threads"), [(1, min(8, usable_cores())), (10_000, 1)])
def test_ranks_share_the_cores_and_each_has_a_thread(monkeypatch: pytest.MonkeyPatch, ranks: int, threads: int) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(ranks))
    assert count_threads() == threads


def test_the_disk_of_a_folder_that_does_not_exist_yet_is_known(tmp_path: Path) -> None:
    assert free_disk(tmp_path / "not" / "yet") > 0
