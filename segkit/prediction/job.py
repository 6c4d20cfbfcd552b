"""What is predicted, and where it goes: found, named and tried before a model is loaded. No torch."""

import os
from dataclasses import dataclass
from pathlib import Path

from segkit.errors import RunFolderError
from segkit.prediction.inputs import find_inputs
from segkit.prediction.names import output_names
from segkit.runtime.files import write_bytes_durably, writing

MASK_SUFFIXES = (".png", ".tif")  # a TIFF that was predicted by windows becomes a TIFF
PROBE_BYTES = 2**20
REMEDY = "free some space, or choose another folder with --output"


@dataclass(frozen=True)
class Job:
    """Images, the names of their outputs, and the folder that those are written to."""

    source: str
    output: Path
    paths: list[Path]
    names: list[str]
    skip_existing: bool = False

    def is_done(self, k: int) -> bool:
        """True if an earlier job has predicted image k: its mask, which is written last, exists."""
        return self.skip_existing and self.mask(k) is not None

    def mask(self, k: int) -> Path | None:
        """Return the mask file of image k, where it exists."""
        files = (self.output / "masks" / f"{self.names[k]}{suffix}" for suffix in MASK_SUFFIXES)
        return next((file for file in files if file.is_file()), None)


def prepare(source: str, output: Path, *, overwrite: bool = False, skip_existing: bool = False) -> Job:
    """Find the images that `source` means (see `find_inputs`), and see that `output` can be written to.

    Raises:
        DataError: `source` means no image.
        RunFolderError: `output` holds masks already (they may have been corrected by hand) and neither `overwrite` nor
            `skip_existing`; or it can't be written to, or its disk is full.
    """
    inputs = find_inputs(source, outside=output)
    with writing(output, remedy=REMEDY):
        if not (overwrite or skip_existing) and any((output / "masks").glob("[!.]*")):  # not what a kill left half done
            raise RunFolderError(
                f"{output / 'masks'}: holds masks already; continue a job that was stopped with --skip-existing, "
                "replace them with --overwrite, or choose another folder"
            )
        created = [folder for folder in (output, *output.parents) if not folder.exists()]
        probe = output / f".room.{os.getpid()}"
        write_bytes_durably(probe, bytes(PROBE_BYTES), elsewhere="--output FOLDER")
        probe.unlink()
        if "RANK" not in os.environ:  # a model that can't be loaded leaves nothing; of several ranks one may be writing
            for folder in created:
                folder.rmdir()
    return Job(source, output, inputs.paths, output_names(inputs.relative()), skip_existing)
