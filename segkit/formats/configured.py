"""A data set that a config describes, or a folder in a layout that segkit trains from, as samples."""

import functools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from segkit.config.schema import RunConfig
from segkit.datasets.layouts import list_items, resolve_classes
from segkit.datasets.listing import describe_folder, splits_there
from segkit.datasets.masks import build_mask_reader
from segkit.datasets.survey import survey
from segkit.errors import ConfigError
from segkit.formats.options import ReadOptions
from segkit.formats.sample import Sample, SampleSet


def read_configured(config: RunConfig, splits: Sequence[str] = ()) -> SampleSet:
    """Return the samples of the given splits of a config's data set; by default of data.train and data.val.

    Raises:
        ConfigError: classes or label values that contradict each other.
        DataError: anything that `list_items` or `survey` finds.
    """
    classes = resolve_classes(config.data)
    reader = build_mask_reader(config.data, classes)
    names = dict.fromkeys(splits or (config.data.train, config.data.val))
    found = {}
    for split in names:
        items = list_items(config.data, split, seed=config.train.seed)
        survey(items, reader, title=f"checking {split}")
        found[split] = [
            Sample(item.name, item.image, functools.partial(reader, item.mask)) for item in items if item.mask
        ]
    return SampleSet(found, classes)


def read_folders(source: Path, options: ReadOptions) -> SampleSet:
    """Return the samples of a folder in the voc or folders layout, in the splits it has.

    Raises:
        ConfigError: nothing names the classes, or options without effect here.
        DataError: as `read_configured`, or the folder is of no such layout.
    """
    if options != ReadOptions(classes=options.classes):
        raise ConfigError(
            f"{source}: --unlabeled, --images and --labels have no effect on segkit's own layouts; "
            "leave them out, or say what it is: --from voc, color-masks or binary-masks"
        )
    data = replace(describe_folder(source), classes=options.classes)
    return read_configured(RunConfig(data=data), splits_there(data))
