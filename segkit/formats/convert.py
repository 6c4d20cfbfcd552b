"""Convert a data set from one format into another: read it as samples and classes, and write those.

Images are copied byte for byte; masks are written as class ids, so that a config of the result needs no
data.mask_values. Not here: the formats themselves (table).
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
from segkit.formats.options import ReadOptions, WriteOptions
from segkit.formats.recognize import recognize
from segkit.formats.sample import Sample, SampleSet
from segkit.formats.table import FORMATS, SOURCES, TARGETS, names_with
from segkit.formats.writing import describe_use, fresh_folder


@dataclass(frozen=True)
class Converted:
    """What was written: the number of images by split, and what a user should know."""

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
) -> SampleSet:
    """Read a data set: by a config (a YAML file without a format), or of a format in SOURCES.

    `splits` chooses some of its splits. Without a format, a folder must be of a layout that segkit trains from.

    Raises:
        ConfigError: no such format, or settings and options that have no effect on this source.
        DataError: the source does not exist, or is not of the format.
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
    if name not in SOURCES:
        raise ConfigError(f"--from: found {name}, expected one of: {', '.join(SOURCES)}{_near(name, SOURCES)}")
    if not source.exists():
        raise DataError(f"{source}: no such file or folder; expected a data set, or the config of one")
    if options.labels is not None and not FORMATS[name].takes_labels:
        raise ConfigError(f"--labels: no effect on {name}; it needs --from {' or '.join(names_with('takes_labels'))}")
    try:
        found = FORMATS[name].load_reader()(source, options)
    except SegkitError as error:
        # a folder of segkit's own layouts whose classes are named needs no hint: the error says what is wrong
        guess = format is None and (isinstance(error, ConfigError) or not _has_layout(source)) and not options.classes
        looks = recognize(source) if guess else None
        if looks is None:
            raise
        raise DataError(f"{source}: looks like {looks}; say so: --from {looks}. As it is: {error}") from error
    missing = [split for split in splits if split not in found.splits]
    if missing:
        raise ConfigError(f"--splits: found {', '.join(missing)}, expected some of: {', '.join(found.splits)}")
    chosen = {split: members for split, members in found.splits.items() if not splits or split in splits}
    return replace(found, splits=chosen)


def convert(samples: SampleSet, target: str, output: Path, *, options: WriteOptions | None = None) -> Converted:
    """Write samples to an empty folder in a format of TARGETS; a conversion that fails leaves nothing behind.

    The same samples give the same bytes.

    Raises:
        ConfigError: no such format, options without effect, or a format whose package is not installed.
        DataError: no images, or one that can't be read, or whose mask has another size.
        RunFolderError: the folder isn't empty, or can't be written to.
    """
    options = options or WriteOptions()
    if target not in TARGETS:
        raise ConfigError(f"--to: found {target}, expected one of: {', '.join(TARGETS)}{_near(target, TARGETS)}")
    form = FORMATS[target]
    if options.samples_per_shard != WriteOptions.samples_per_shard and not form.shards:
        raise ConfigError(
            f"--samples-per-shard: no effect on {target}; it needs --to {' or '.join(names_with('shards'))}"
        )
    if options.tolerance and not form.polygons:
        raise ConfigError(f"--tolerance: no effect on {target}; it needs --to {' or '.join(names_with('polygons'))}")
    if options.tolerance < 0:
        raise ConfigError(f"--tolerance: found {options.tolerance:g}, expected 0 (exact) or more pixels")
    counts = {split: len(members) for split, members in samples.splits.items()}
    if not sum(counts.values()):
        raise DataError("no images to convert, expected at least one with its label; look at the source")
    tally = _Tally.over(samples)
    with fresh_folder(output) as part:
        notes = form.load_writer()(tally.samples, part, options)
        tally.refuse_nothing()
    return Converted(target, output, counts, (*samples.notes, *notes, *tally.notes()))


@dataclass(frozen=True)
class _Tally:
    """Samples that note which classes their masks show as they are read: `shown`, bool [256]."""

    samples: SampleSet
    shown: np.ndarray

    @classmethod
    def over(cls, samples: SampleSet) -> "_Tally":
        shown = np.zeros(256, bool)

        def noted(sample: Sample) -> Sample:
            def read_mask() -> np.ndarray:
                mask = sample.read_mask()
                shown[np.unique(mask)] = True
                return mask

            return replace(sample, read_mask=read_mask)

        splits = {split: [noted(sample) for sample in members] for split, members in samples.splits.items()}
        return cls(replace(samples, splits=splits), shown)

    def refuse_nothing(self) -> None:
        """Raise DataError if the masks hold only the first class and ignored pixels: 0/255 masks read as ids."""
        classes = self.samples.classes
        held = [value for value in (*range(len(classes)), classes.ignore_index) if self.shown[value]]
        if object_value(held) == classes.ignore_index:
            raise DataError(
                f"every mask holds only '{classes.names[0]}' and ignored pixels, expected another class as well; if "
                f"they are masks of 0 and {classes.ignore_index}, say --from binary-masks"
            )

    def notes(self) -> list[str]:
        names = self.samples.classes.names
        absent = [name for name, is_shown in zip(names, self.shown[: len(names)], strict=True) if not is_shown]
        return [f"no pixel of {', '.join(absent[:8])}{', ...' if len(absent) > 8 else ''}"] if absent else []


def describe_conversion(converted: Converted) -> str:
    """Return what `segkit convert` prints: images per split, notes, and what to do with the result."""
    lines = [f"{split}: {count} images" for split, count in converted.counts.items()]
    lines += [f"note: {note}" for note in converted.notes]
    root = shlex.quote(str(converted.output))
    if FORMATS[converted.target].polygons:
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
