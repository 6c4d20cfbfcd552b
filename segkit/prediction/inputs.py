"""What the INPUT of `segkit predict` means: an image, a folder, a pattern, numbered frames, a list of paths.

Not here: videos, cameras and streams (video).
"""

import functools
import glob
import itertools
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from segkit.datasets.images import IMAGE_SUFFIXES
from segkit.datasets.layouts import list_images
from segkit.errors import DataError

STDIN = "-"
LIST_SUFFIXES = (".txt", ".lst")
_NUMBERED = re.compile(r"%0?(\d*)d")


@dataclass(frozen=True)
class Inputs:
    """Images in the order in which they are predicted, and the folder that their outputs are named relative to."""

    root: Path
    paths: list[Path]

    def relative(self) -> list[Path]:
        """Return each path below the root; one that lies elsewhere, without its root folder and `..`."""
        return [Path(*_below(path, self.root).parts) for path in self.paths]


def find_inputs(source: str, *, outside: Path) -> Inputs:
    """Return the images that `source` means.

    - an image: itself;
    - a folder: every image in it at any depth, sorted, images below `outside` left out. A subfolder that can't be
      listed is among the paths, so that it becomes a row with its error;
    - a pattern with `*`, `?` or `[`: the images that match, sorted; `**` matches any depth;
    - numbered frames, `frames/%06d.png`: the files of that form, by their numbers;
    - a text file (.txt, .lst), or `-` for the standard input: the paths in it, a line each, in their order, relative to
      the current folder; separated by NUL where there is one, as `find -print0` does. Whether they exist is found when
      they are read.

    Each image is listed once, also where links of folders form a loop.

    Raises:
        DataError: `source` does not exist, or means no image.
    """
    path = Path(source)
    if source == STDIN:
        if int(os.environ.get("WORLD_SIZE", 1)) > 1:
            raise DataError(
                "-: the standard input reaches one of several processes only; write the list to a .txt file instead"
            )
        return _listed(sys.stdin.buffer.read(), "the standard input")
    if os.path.isfile(path):
        return (
            _listed(path.read_bytes(), source) if path.suffix.lower() in LIST_SUFFIXES else Inputs(path.parent, [path])
        )
    if os.path.isdir(path):
        skipped, unreadable = _real(outside), list[Path]()
        found = [image for image in list_images(path, unreadable) if not _real(image).is_relative_to(skipped)]
        if not found and not unreadable:
            raise DataError(f"{path}: no images in this folder, expected files with one of {' '.join(IMAGE_SUFFIXES)}")
        return Inputs(path, [*found, *unreadable])
    if _NUMBERED.search(path.name):
        return Inputs(path.parent, _numbered_frames(path))
    if not glob.has_magic(source):
        raise DataError(
            f"{path}: no such file or folder; expected an image, a folder of them, a 'quoted/*.jpg' pattern, numbered "
            "frames as in frames/%06d.png, a .txt file of paths, or - for a list on the standard input"
        )
    matches = (Path(match) for match in glob.glob(source, recursive=True) if match.lower().endswith(IMAGE_SUFFIXES))
    runs_in_circles = functools.cache(_runs_in_circles)
    found = sorted(match for match in set(matches) if not runs_in_circles(match.parent))
    if not found:
        raise DataError(f"{source}: the pattern matches no image; quote it, and check it with: ls {source}")
    return Inputs(Path(*itertools.takewhile(lambda part: not glob.has_magic(part), path.parent.parts)), found)


def _listed(content: bytes, where: str) -> Inputs:
    lines = content.split(b"\0") if b"\0" in content else content.splitlines()
    paths = list(dict.fromkeys(Path(os.fsdecode(line)) for line in lines if line.strip()))
    if not paths:
        raise DataError(f"{where}: lists no image; expected a path per line")
    folders = [Path(os.path.abspath(path)).parent for path in paths]
    return Inputs(Path(os.path.commonpath(folders)), paths)


def _numbered_frames(pattern: Path) -> list[Path]:
    """Return the files that a pattern such as `frame%06d.png` stands for, by their numbers."""
    before, after = re.split(_NUMBERED, pattern.name, maxsplit=1)[::2]
    digits = _NUMBERED.search(pattern.name)
    assert digits is not None
    width = int(digits[1] or 0)
    form = re.compile(re.escape(before) + r"(\d+)" + re.escape(after))
    names = os.listdir(pattern.parent) if os.path.isdir(pattern.parent) else []
    matches = [(int(match[1]), name) for name in names if (match := form.fullmatch(name)) and len(match[1]) >= width]
    if not matches:
        raise DataError(f"{pattern}: no file has a name of that form; expected one such as {pattern.name % 1}")
    return [pattern.parent / name for _, name in sorted(matches)]


def _below(path: Path, root: Path) -> Path:
    absolute, base = Path(os.path.abspath(path)), Path(os.path.abspath(root))
    if absolute.is_relative_to(base):
        return absolute.relative_to(base)
    return Path(*absolute.parts[1:])


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))  # Path.resolve raises an error for a link that leads to itself


def _runs_in_circles(folder: Path) -> bool:
    """True if the path passes through one folder twice, which only links make possible."""
    way = [_real(part) for part in (folder, *folder.parents)]
    return ".." not in folder.parts and len(set(way)) < len(way)
