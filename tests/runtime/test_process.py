"""How a process imports and ends, each in a process of its own."""

import gc
import os
import subprocess
import sys

import pytest

from segkit.runtime.process import importing


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)


def ended(code: str) -> subprocess.CompletedProcess[str]:
    """Run code that may define `work`, as a program that ends at once. What survives a module's end is said there."""
    told = "class Told:\n    def __del__(self): print('taken apart')\n"
    return run(f"from segkit.runtime.process import exit_at_once\n{told}told = Told()\n{code}\nexit_at_once(work)")


@pytest.mark.parametrize("code", [0, 1, 75])
def test_the_process_ends_with_the_code_and_all_that_was_printed(code: int) -> None:
    done = ended(
        f"import sys\ndef work():\n    print('x' * 100_000)\n    print('oh', file=sys.stderr)\n    return {code}"
    )
    assert (done.returncode, done.stdout, done.stderr) == (code, "x" * 100_000 + "\n", "oh\n")


def test_modules_are_not_taken_apart() -> None:
    assert "taken apart" not in ended("work = lambda: 0").stdout
    assert "taken apart" in run("class Told:\n    def __del__(self): print('taken apart')\ntold = Told()").stdout


def test_what_is_to_be_done_at_the_end_is_done() -> None:
    done = ended(
        "import atexit, logging.handlers, threading, time\n"
        "def late():\n    time.sleep(0.2)\n    print('thread')\n"
        "def work():\n"
        "    atexit.register(print, 'registered')\n"
        "    logging.getLogger().addHandler(logging.handlers.MemoryHandler(9, target=logging.StreamHandler()))\n"
        "    logging.warning('logged')\n"
        "    threading.Thread(target=late).start()\n"
        "    return 0"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "thread\nregistered\n", "logged\n")


def test_an_error_ends_as_usual() -> None:
    done = ended("def work(): raise ValueError('why')")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "ValueError: why"
    assert ended("def work(): raise SystemExit(2)").returncode == 2


def test_output_that_cannot_be_written_is_no_success() -> None:
    code = "from segkit.runtime.process import exit_at_once\nexit_at_once(lambda: print('words') or 0)"
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, env=buffered, check=False
        )
    assert done.returncode == 120
    assert b"No space left" in done.stderr


def test_nothing_is_collected_while_importing_and_all_is_as_before_afterwards() -> None:
    done = run(
        "import gc\nfrom segkit.runtime.process import importing\n"
        "seen = []\n"
        "gc.callbacks.append(lambda phase, info: seen.append(info['generation']))\n"
        "with importing():\n    kept = [[] for _ in range(100_000)]\n    inside = len(seen)\n"
        "print(inside, gc.isenabled(), gc.get_freeze_count() > 100_000)"
    )
    assert done.stdout == "0 True True\n", done.stderr
    again = "import gc\ngc.disable()\nfrom segkit.runtime.process import importing\n"
    assert run(f"{again}with importing(): pass\nprint(gc.isenabled())").stdout == "False\n"


def test_nothing_changes_where_torch_is_loaded_already(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", sys.modules.get("torch", sys))
    frozen = gc.get_freeze_count()
    with importing():
        assert gc.isenabled()
    assert gc.get_freeze_count() == frozen
