"""The script of docs/as_a_library.md does what the page says."""

import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "as_a_library.md"


def test_the_script_of_the_page_trains_and_predicts(shapes: Path, tmp_path: Path) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), flags=re.DOTALL | re.MULTILINE)
    assert len(blocks) == 1
    (tmp_path / "my_data").symlink_to(shapes)
    (tmp_path / "mine.py").write_text(blocks[0])
    done = subprocess.run(
        [sys.executable, "-W", "error", "mine.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.stderr == ""
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert [line.split(":")[0] for line in lines[:2]] == ["epoch 0", "epoch 1"]
    assert re.fullmatch(r"\(\d+, \d+\) \[.*\]", lines[2])
