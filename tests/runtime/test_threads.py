import threading
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from segkit.runtime.threads import prefetch


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_results_come_in_the_order_of_the_inputs(threads: int) -> None:
    def slow_at_first(k: int) -> int:
        time.sleep(0.01 if k < 3 else 0)
        return k * k

    assert list(prefetch(slow_at_first, range(20), threads=threads, ahead=4)) == [k * k for k in range(20)]


def test_no_more_inputs_are_taken_than_results_may_wait() -> None:
    taken = []

    def inputs() -> Iterator[int]:
        for k in range(1000):
            taken.append(k)
            yield k

    results = prefetch(lambda k: k, inputs(), threads=2, ahead=3)
    assert next(results) == 0
    assert len(taken) <= 5
    results.close()


def test_an_error_comes_in_its_turn_and_ends_the_threads() -> None:
    def fail_at_two(k: int) -> int:
        if k == 2:
            raise ValueError("two")
        return k

    results = prefetch(fail_at_two, range(10), threads=2, ahead=2)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ValueError, match="two"):
        next(results)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("segkit")]


def test_threads_have_ended_for_the_system_too_so_that_none_holds_a_lock_when_a_process_is_forked() -> None:
    if not Path("/proc/self/task").is_dir():
        pytest.skip("this system doesn't list its threads")

    def use_opencv(_: int) -> int:
        cv2.LUT(np.zeros((4, 4), np.uint8), np.zeros(256, np.uint8))  # what it keeps per thread is freed at the end
        return threading.get_native_id()

    for _ in range(50):  # without waiting, every fifth finds one left
        numbers = set(prefetch(use_opencv, range(40), threads=4, ahead=8))
        assert not any(Path(f"/proc/self/task/{number}").exists() for number in numbers)
