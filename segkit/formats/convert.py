"""Convert a data set from one format into another: read it into pictures and classes, write those.

Pictures go in as they are, byte for byte; labels by class, so that a config of the result needs no data.mask_values.
The formats are in segkit/formats.
"""

import difflib
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from segkit.config.reading import load_config
from segkit.datasets.label_faults import object_value
from segkit.datasets.split_folders import find_layout
from segkit.errors import ConfigError, DataError, SegkitError
from segkit.formats.configured import read_configured
from segkit.formats.recognize import recognize
from segkit.formats.sample import Picture, PictureSet, ReadOptions
from segkit.formats.table import POLYGONS, READERS, TAKE_LABELS, WRITERS, WriteOptions
from segkit.formats.writing import describe_use, fresh_folder


@dataclass(frozen=True)
class Converted:
    """What was written: pictures by split, and what a user should know."""

    target: str
    output: Path
    counts: dict[str, int]
    notes: tuple[str, ...]


def read_source(
    source: Path,
    *,
    format: str | None = None,
    overrides: Sequence[str] = (),
    splits: Sequence[str] = (),
    options: ReadOptions | None = None,
) -> PictureSet:
    """Read a data set: by a config (a YAML file without a format), or of a format in READERS.

    `splits` chooses some of its splits. Without a format, a folder must be of a layout that segkit trains from.

    Raises:
        ConfigError: no such format, or settings and options that have no effect on this source.
        DataError: nothing there, or what is there is not what the format says.
    """
    options = options or ReadOptions()
    if format is None and source.suffix in (".yaml", ".yml"):
        if options != ReadOptions():
            raise ConfigError(
                f"{source}: --classes, --unlabeled, --images and --labels go with --from; a config says all that itself"
            )
        return read_configured(load_config(source, overrides), splits)
    if overrides:
        raise ConfigError(f"{overrides[0]}: settings go with a config, found {source}; see segkit convert --help")
    name = format or "folders"
    if name not in READERS:
        raise ConfigError(f"--from: found {name}, expected one of: {', '.join(READERS)}{_near(name, READERS)}")
    if not source.exists():
        raise DataError(f"{source}: no such file or folder; expected a data set, or the config of one")
    if options.labels is not None and name not in TAKE_LABELS:
        raise ConfigError(f"--labels: without effect on {name}: it needs --from {' or '.join(TAKE_LABELS)}")
    try:
        found = READERS[name](source, options)
    except SegkitError as error:
        # a folder of segkit's own layouts whose classes are named is no guess: what is wrong there is said already
        guess = format is None and (isinstance(error, ConfigError) or not _has_layout(source)) and not options.classes
        looks = recognize(source) if guess else None
        if looks is None:
            raise
        raise DataError(f"{source}: looks like {looks}; say so: --from {looks}. As it is: {error}") from error
    missing = [split for split in splits if split not in found.splits]
    if missing:
        raise ConfigError(f"--splits: found {', '.join(missing)}, expected some of: {', '.join(found.splits)}")
    chosen = {split: members for split, members in found.splits.items() if not splits or split in splits}
    return PictureSet(chosen, found.classes, found.notes)


def convert(pictures: PictureSet, target: str, output: Path, *, options: WriteOptions | None = None) -> Converted:
    """Write pictures to an empty folder in a format of WRITERS; what fails leaves nothing behind.

    The same pictures give the same bytes.

    Raises:
        ConfigError: no such format, options without effect, or one that needs a package that isn't there.
        DataError: no pictures, or one that can't be read, or whose label hasn't its size.
        RunFolderError: the folder isn't empty, or can't be written to.
    """
    options = options or WriteOptions()
    if target not in WRITERS:
        raise ConfigError(f"--to: found {target}, expected one of: {', '.join(WRITERS)}{_near(target, WRITERS)}")
    if options.samples_per_shard != WriteOptions.samples_per_shard and target != "webdataset":
        raise ConfigError(f"--samples-per-shard: without effect on {target}: it needs --to webdataset")
    if options.tolerance and target not in POLYGONS:
        raise ConfigError(f"--tolerance: without effect on {target}: it needs --to {' or '.join(POLYGONS)}")
    if options.tolerance < 0:
        raise ConfigError(f"--tolerance: found {options.tolerance:g}, expected 0 (exact) or more pixels")
    counts = {split: len(members) for split, members in pictures.splits.items()}
    if not sum(counts.values()):
        raise DataError("no pictures to convert, expected at least one with its label; look at the source")
    tally = _Tally.over(pictures)
    with fresh_folder(output) as part:
        notes = WRITERS[target](tally.pictures, part, options)
        tally.refuse_nothing()
    return Converted(target, output, counts, (*pictures.notes, *notes, *tally.notes()))


@dataclass(frozen=True)
class _Tally:
    """Pictures that note which classes their labels show as they are read: bool [256]."""

    pictures: PictureSet
    shown: np.ndarray

    @classmethod
    def over(cls, pictures: PictureSet) -> "_Tally":
        shown = np.zeros(256, bool)

        def noted(picture: Picture) -> Picture:
            def read_mask() -> np.ndarray:
                mask = picture.read_mask()
                shown[np.unique(mask)] = True
                return mask

            return replace(picture, read_mask=read_mask)

        splits = {split: [noted(picture) for picture in members] for split, members in pictures.splits.items()}
        return cls(replace(pictures, splits=splits), shown)

    def refuse_nothing(self) -> None:
        """Raise DataError if labels hold but the first class and ignored pixels: 0/255 masks that were read as ids."""
        classes = self.pictures.classes
        held = [value for value in (*range(len(classes)), classes.ignore_index) if self.shown[value]]
        if object_value(held) == classes.ignore_index:
            raise DataError(
                f"every label holds '{classes.names[0]}' and ignored pixels alone, expected another class as well; if "
                f"they are masks of 0 and {classes.ignore_index}, say --from binary-masks"
            )

    def notes(self) -> list[str]:
        names = self.pictures.classes.names
        absent = [name for name, there in zip(names, self.shown[: len(names)], strict=True) if not there]
        return [f"no pixel of {', '.join(absent[:8])}{', ...' if len(absent) > 8 else ''}"] if absent else []


def describe_conversion(converted: Converted) -> str:
    """Return what a user reads."""
    lines = [f"{split}: {count} pictures" for split, count in converted.counts.items()]
    lines += [f"note: {note}" for note in converted.notes]
    root = shlex.quote(str(converted.output))
    if converted.target in POLYGONS:
        if converted.target == "labelme":
            lines.append(f"correct them: labelme {root} --labels {root}/labels.txt --nodata")
        again = f"segkit convert {root} --from {converted.target} --to voc OUT"
        return "\n".join([*lines, f"written: {converted.output}; back again: {again}"])
    return "\n".join([*lines, *describe_use(converted.target, converted.output, list(converted.counts))])


def _has_layout(source: Path) -> bool:
    try:
        find_layout(source)
    except DataError:
        return False
    return True


def _near(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, [*known], n=1)
    return f"; did you mean {near[0]}?" if near else ""
