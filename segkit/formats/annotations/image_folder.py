"""The images below a folder, found by the names that label files call them, wherever they are.

Not here: forms that say where an image is (coco_files, labelme, yolo); there another one of that name is another one.
"""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from segkit.datasets.layouts import list_images
from segkit.errors import DataError


@dataclass(frozen=True)
class ImageFolder:
    """Every image below a folder, by its base name and by its name without suffix."""

    folder: Path
    by_name: dict[str, list[Path]]

    @classmethod
    def scan(cls, folder: Path) -> "ImageFolder":
        """Look at every image below the folder.

        Raises:
            DataError: no such folder, or no image in it.
        """
        if not folder.is_dir():
            raise DataError(f"{folder}: no such folder, expected the images there; say where they are: --images DIR")
        by_name: dict[str, list[Path]] = defaultdict(list)
        for path in list_images(folder):
            for name in {path.name, path.stem}:
                by_name[name].append(path)
        if not by_name:
            raise DataError(f"{folder}: found no images, expected those that were labelled; say where: --images DIR")
        return cls(folder, dict(by_name))

    def find(self, name: str, *, where: str) -> Path:
        """Return the image that a label file calls `name`: a path, a base name, or one of them without suffix.

        Of several with that base name, the one whose path ends as `name` does.

        Raises:
            DataError: there is none, or more than one.
        """
        parts = PurePosixPath(name.replace("\\", "/")).parts
        found = self.by_name.get(parts[-1], []) if parts else []
        for count in range(len(parts), 0, -1):
            ending = parts[-count:]
            close = [path for path in found if _ends(path, ending)]
            if len(close) == 1:
                return close[0]
            if close:
                found = close
                break
        if not found:
            raise DataError(
                f"{where}: found no image '{name}' below {self.folder}; put it there, or say where the images are: "
                "--images DIR"
            )
        raise DataError(
            f"{where}: '{name}' could be {found[0]} or {found[1]}; remove one, or name the folder: --images DIR"
        )

    def name(self, path: Path) -> str:
        """Return an image's path below the folder, without suffix, parts joined by '/'."""
        return path.relative_to(self.folder).with_suffix("").as_posix()


def _ends(path: Path, ending: tuple[str, ...]) -> bool:
    own = path.parts[-len(ending) :]
    return own[:-1] == ending[:-1] and ending[-1] in (path.name, path.stem)
