"""What a command loads before it works: half of a short command's time is importing what it doesn't need."""

import subprocess
import sys
from pathlib import Path

import pytest

from segkit.datasets.shapes import draw_data_set

HEAVY = ("torch", "torchvision", "timm", "segmentation_models_pytorch")


def loaded_by(words: list[str], folder: Path) -> set[str]:
    """Run a command in a process of its own; return which heavy packages it has imported."""
    code = (
        "import sys\nfrom segkit.cli import main\ncode = main(sys.argv[1:])\n"
        f"print('loaded', *[name for name in {HEAVY} if name in sys.modules])\nsys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr
    return set(done.stdout.splitlines()[-1].split()[1:])


@pytest.mark.parametrize(
    "words",
    [
        ["check", "set"],
        ["convert", "set", "--from", "voc", "--to", "coco", "out"],
        ["split", "set", "--val", "2", "--force"],
        ["download"],
    ],
    ids=lambda words: words[0],
)
def test_commands_on_files_load_no_torch(words: list[str], tmp_path: Path) -> None:
    draw_data_set(tmp_path / "set", num_train=6, num_val=2, size_hw=(32, 40))
    assert loaded_by(words, tmp_path) == set()


def test_the_test_above_sees_torch_where_it_is_loaded(tmp_path: Path) -> None:
    draw_data_set(tmp_path / "set", num_train=6, num_val=2, size_hw=(32, 40))
    assert "torch" in loaded_by(["check", "set", "--augment"], tmp_path)
