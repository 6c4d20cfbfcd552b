import os
import subprocess
import sys
from pathlib import Path
from typing import BinaryIO

import filelock
import pytest

from segkit.errors import RunFolderError
from segkit.runtime.files import is_damaged, lock, locked, recall, remember, remove_parts, write_durably


def write(path: Path, content: bytes, **settings: object) -> None:
    write_durably(path, lambda file: file.write(content), **settings)  # type: ignore[arg-type]


def test_a_write_that_fails_leaves_the_old_file_whole_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    path.write_text("old")

    def fail(file: BinaryIO) -> None:
        file.write(b"half of the n")
        raise OSError(28, "No space left on device")

    with pytest.raises(RunFolderError, match=r"c\.pt: can't be written \(no space left"):
        write_durably(path, fail)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["c.pt"]


def test_what_is_missing_on_a_full_disk_is_counted(tmp_path: Path) -> None:
    def fail(file: BinaryIO) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(RunFolderError, match=r"\d+ MiB are needed: \d+ MiB are missing"):
        write_durably(tmp_path / "c.pt", fail, needed=10**18)


def test_a_disk_that_gives_back_something_else_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    path.write_text("old")

    def write_behind_its_back(file: BinaryIO) -> None:
        file.write(b"abc")
        file.file.write(b"d")  # type: ignore[attr-defined]

    with pytest.raises(RunFolderError, match="not what was written"):
        write_durably(path, write_behind_its_back)
    assert path.read_text() == "old"


def test_a_seal_tells_whole_from_damaged_at_every_bit(tmp_path: Path) -> None:
    path = tmp_path / "c"
    write(path, b"content", sealed=True)
    whole = path.read_bytes()
    assert is_damaged(path) is False
    for place in range(len(b"content")):
        for bit in range(8):
            flipped = bytearray(whole)
            flipped[place] ^= 1 << bit
            path.write_bytes(flipped)
            assert is_damaged(path) is True


def test_a_file_without_a_seal_is_neither(tmp_path: Path) -> None:
    for content in (b"", b"content", b"x" * 1000):
        write(tmp_path / "c", content)
        assert is_damaged(tmp_path / "c") is None


def test_the_older_file_becomes_the_previous_generation(tmp_path: Path) -> None:
    last, previous = tmp_path / "last", tmp_path / "previous"
    for content in (b"1", b"2", b"3"):
        write(last, content, previous=previous)
    assert (last.read_bytes(), previous.read_bytes()) == (b"3", b"2")
    assert len(list(tmp_path.iterdir())) == 2


def test_without_hard_links_generations_work_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError("Operation not supported")

    monkeypatch.setattr(os, "link", refuse)
    for content in (b"1", b"2"):
        write(tmp_path / "last", content, previous=tmp_path / "previous")
    assert ((tmp_path / "last").read_bytes(), (tmp_path / "previous").read_bytes()) == (b"2", b"1")


def test_a_kill_in_the_middle_leaves_the_old_file_and_a_part_that_is_removed_later(tmp_path: Path) -> None:
    path = tmp_path / "c"
    write(path, b"old")
    program = f"""
import os
from pathlib import Path
from segkit.runtime.files import write_durably
write_durably(Path({str(path)!r}), lambda file: (file.write(b"new"), file.flush(), os.kill(os.getpid(), 9)))
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -9
    assert path.read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 2
    remove_parts(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["c"]


# ---- locks and remembered JSON


def test_a_lock_keeps_other_threads_and_processes_out_until_it_is_released(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    program = f"""
from pathlib import Path
from segkit.runtime.files import lock
lock(Path({str(path)!r}), wait=False)
"""
    held = lock(path, wait=False)
    with pytest.raises(filelock.Timeout):
        lock(path, wait=False)
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, check=False).returncode != 0
    held.release()
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, check=False).returncode == 0


def test_a_locked_block_is_free_again_when_it_is_left(tmp_path: Path) -> None:
    with locked(tmp_path / "lock"), pytest.raises(filelock.Timeout):
        lock(tmp_path / "lock", wait=False)
    lock(tmp_path / "lock", wait=False).release()


def test_a_forked_child_that_outlives_its_parent_does_not_hold_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    program = f"""
import os, time
from pathlib import Path
from segkit.runtime.files import lock
lock(Path({str(path)!r}), wait=False)
if os.fork() == 0:
    time.sleep(30)  # a loading process whose parent was killed
os.kill(os.getpid(), 9)
"""
    subprocess.run([sys.executable, "-c", program], check=False)
    lock(path, wait=False).release()


def test_what_is_remembered_is_recalled_and_what_is_damaged_is_not(tmp_path: Path) -> None:
    path = tmp_path / "cache" / "survey.json"
    assert recall(path) is None
    remember(path, {"a": [1, 2]})
    assert recall(path) == {"a": [1, 2]}
    path.write_text(path.read_text()[:-2])
    assert recall(path) is None


def test_a_home_that_can_not_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    remember(tmp_path / "cache" / "survey.json", {})
