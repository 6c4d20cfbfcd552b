import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from segkit.errors import DataError
from segkit.loading.workers import map_in_processes

At = Callable[[int], None]


def run(function: Callable[[int, At], Any], count: int = 20, *, workers: int = 2, timeout: float = 60) -> Iterator[Any]:
    return map_in_processes(
        function, range(count), workers=workers, ahead=2, timeout=timeout, describe=lambda job, part: f"{job}/{part}"
    )


def gone(pid: int) -> bool:
    """Wait a while for a process to end."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_results_come_in_order_from_any_number_of_processes(workers: int) -> None:
    def square(job: int, at: At) -> int:
        time.sleep(0.01 * (job % 3))
        return job * job

    assert list(run(square, workers=workers)) == [job * job for job in range(20)]


def test_jobs_are_handed_out_no_further_ahead_than_asked() -> None:
    taken = []

    def jobs() -> Iterator[int]:
        for job in range(20):
            taken.append(job)
            yield job

    results = map_in_processes(lambda job, at: job, jobs(), workers=2, ahead=2, timeout=60, describe=lambda *_: "")
    for k in range(10):
        assert next(results) == k
        assert len(taken) == k + 5


def test_an_error_for_users_arrives_in_its_turn_as_it_was() -> None:
    def fail(job: int, at: At) -> int:
        if job == 3:
            raise DataError("a.png: broken")
        return job

    results = run(fail)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(DataError, match=r"^a\.png: broken$"):
        next(results)


def test_any_other_exception_comes_with_its_traceback() -> None:
    def fail(job: int, at: At) -> float:
        return 1 / job

    with pytest.raises(RuntimeError, match=r"(?s)test_workers\.py.*return 1 / job.*ZeroDivisionError"):
        list(run(fail))


def test_a_process_that_is_killed_is_reported_with_what_it_was_at() -> None:
    def die(job: int, at: At) -> int:
        for part in range(4):
            at(part)
            if (job, part) == (5, 2):
                os.kill(os.getpid(), signal.SIGKILL)
        return os.getpid()

    results = run(die)
    processes = {next(results) for _ in range(5)}
    with pytest.raises(DataError, match=r"^5/2: .* was ended by SIGKILL, often .* memory\n.*--resume$"):
        next(results)
    assert all(gone(process) for process in processes)


def test_a_process_that_dies_while_the_main_one_computes_is_reported_as_well() -> None:
    def die(job: int, at: At) -> int:
        at(1)
        if job == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return job

    seen = []

    def compute() -> None:
        for job in run(die):
            seen.append(job)
            time.sleep(0.2)

    with pytest.raises(DataError, match=r"^3/1: .* was ended by SIGKILL"):
        compute()
    assert seen == [0, 1, 2]


def test_a_process_that_crashes_shows_where() -> None:
    def crash(job: int, at: At) -> None:
        at(1)
        ctypes.string_at(0)

    with pytest.raises(DataError, match=r"(?s)^0/1: .* ended by SIGSEGV.*Segmentation fault.*in crash"):
        next(run(crash))


def test_a_process_that_hangs_is_ended_and_shows_where() -> None:
    def hang(job: int, at: At) -> None:
        at(3)
        time.sleep(100)

    with pytest.raises(DataError, match=r"(?s)^0/3: .* at it for 1 s.*in hang.*check the disk"):
        next(run(hang, timeout=1))


def test_waiting_between_jobs_is_no_hang() -> None:
    results = run(lambda job, at: at(0), timeout=1)
    for _ in range(3):
        next(results)
        time.sleep(1.5)


def test_signals_to_the_whole_group_are_left_to_the_main_process() -> None:
    def signalled(job: int, at: At) -> int:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        return job

    assert list(run(signalled, 4)) == [0, 1, 2, 3]


def test_processes_end_with_the_generator() -> None:
    results = run(lambda job, at: os.getpid())
    processes = [next(results) for _ in range(2)]
    results.close()  # type: ignore[attr-defined]
    assert all(gone(process) for process in processes)


@pytest.mark.parametrize("end", ["os.kill(os.getpid(), 9)", "raise SystemExit(3)"])
def test_processes_end_with_the_program(end: str) -> None:
    program = f"""
import os, sys
from segkit.loading.workers import map_in_processes
results = map_in_processes(lambda job, at: os.getpid(), range(99), workers=2, ahead=2, timeout=60, describe=str)
print(next(results), next(results), flush=True)
sys.held_for_ever = results
{end}
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == ""
    assert all(gone(int(process)) for process in done.stdout.split())
