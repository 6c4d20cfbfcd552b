import io
import os
import sys
from pathlib import Path

import pytest
from PIL import Image

from segkit.cli import main


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of one good image."""
    (tmp_path / "in").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "in" / "good.png")
    return tmp_path / "in"


def test_every_error_is_counted_and_the_first_ten_are_shown(
    checkpoint: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(12):
        (folder / f"{number:02d}.png").write_bytes(b"")
    output = folder.parent / "out"
    assert main(["predict", str(checkpoint), str(folder), "--output", str(output)]) == 1
    said = capsys.readouterr()
    assert f"1 of 13 images predicted: {output}" in said.out
    assert "09.png: the file is empty" in said.err
    assert "10.png" not in said.err
    assert f"... and 2 more, see {output / 'predictions.csv'}" in said.err


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_names_that_are_not_utf8_are_printed_where_a_terminal_takes_only_utf8(
    checkpoint: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="strict")
    monkeypatch.setattr(sys, "stdout", terminal)
    output = os.fsdecode(os.fsencode(folder.parent) + b"/caf\xe9")
    assert main(["predict", str(checkpoint), str(folder), "--output", output]) == 0
    terminal.seek(0)
    assert f"1 of 1 images predicted: {folder.parent}/caf\\udce9" in terminal.read()
