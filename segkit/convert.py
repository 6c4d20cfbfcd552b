"""Write a data set in another form. The source is what a config describes: any layout, its classes and label values.

To add a target, write a function like `write_shards` and give it a line in `WRITERS`. Pictures go in as they are, byte
for byte; labels as palette PNGs of class ids, so that a config of the result needs no data.mask_values.
"""

import contextlib
import hashlib
import io
import json
import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from tqdm import tqdm

from segkit.classes import Classes
from segkit.config import RunConfig
from segkit.data.doctor import survey
from segkit.data.fetch import need_webdataset
from segkit.data.images import read_encoded
from segkit.data.layouts import Item, list_items, resolve_classes
from segkit.data.masks import MaskReader, write_mask
from segkit.data.prefetch import prefetch
from segkit.data.shard_index import VERSION, IndexedShard, Sample, ShardIndex, check_name, scan_shard
from segkit.durable import remove_parts, write_bytes_durably, write_durably
from segkit.errors import ConfigError, RunFolderError
from segkit.runtime import count_threads

ELSEWHERE = "another OUT"
MIB = 2**20


@dataclass(frozen=True)
class Source:
    """What is converted: the items of each split, and how their labels are read."""

    splits: dict[str, list[Item]]
    classes: Classes
    reader: MaskReader


@dataclass(frozen=True)
class Converted:
    """What was written for one split."""

    split: str
    num_items: int
    num_files: int
    num_bytes: int


def convert(
    config: RunConfig, target: str, output: Path, *, splits: Sequence[str] = (), samples_per_shard: int = 1000
) -> list[Converted]:
    """Write the splits of a config's data set (data.train and data.val by default) to an empty folder.

    The same data set gives the same bytes. What fails leaves nothing behind.

    Raises:
        ConfigError: no such target, or one that needs a package that isn't there.
        DataError: anything that `list_items` or `survey` finds.
        RunFolderError: the folder isn't empty, or can't be written to.
    """
    if target not in WRITERS:
        raise ConfigError(f"--to: found {target}, expected one of: {', '.join(WRITERS)}")
    if samples_per_shard < 1:
        raise ConfigError(f"--samples-per-shard: found {samples_per_shard}, expected 1 or more")
    names = list(dict.fromkeys(splits or (config.data.train, config.data.val)))
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise RunFolderError(f"{output}: found something there, expected an empty folder, or none; choose {ELSEWHERE}")
    classes = resolve_classes(config.data)
    reader = MaskReader.build(config.data, classes)
    items = {split: list_items(config.data, split, seed=config.train.seed) for split in names}
    write = WRITERS[target](Source(items, classes, reader), samples_per_shard)
    for split in names:
        survey(items[split], reader, title=f"checking {split}")
    was_there = output.is_dir()
    try:
        return write(output)
    except BaseException:
        _remove(output, folder=not was_there)
        raise


# ---- targets


def write_shards(source: Source, samples_per_shard: int) -> Callable[[Path], list[Converted]]:
    """Prepare tar shards by the convention of webdataset, an index per split, and classes.txt. No time or user is
    written into the tars.

    Raises:
        ConfigError: webdataset isn't installed.
        DataError: a split's name can't be a file's.
    """
    tar_writer = need_webdataset("--to webdataset").TarWriter
    for split in source.splits:
        check_name(split, where="--splits (or data.train, data.val)")

    def write_shard(path: Path, items: Sequence[Item], labels: Iterator[bytes]) -> IndexedShard:
        keys = _keys(items)

        def write(file: BinaryIO) -> None:
            with tar_writer(file, user="", group="", mtime=0, encoder=False) as tar:
                for item, key, label in zip(items, keys, labels, strict=False):  # items first: they end the shard
                    suffix = item.image.name.lower().rpartition(".")[2]
                    tar.write({"__key__": key, suffix: read_encoded(item.image), _label_suffix(suffix): label})

        write_durably(path, write, elsewhere=ELSEWHERE)
        scanned = scan_shard(path, path.name)  # read back: the index tells what is there
        samples = [Sample(item.name, *sample[1:]) for item, sample in zip(items, scanned.samples, strict=True)]
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return IndexedShard(path.name, scanned.bytes, digest, tuple(samples))

    def write_split(output: Path, split: str, items: Sequence[Item]) -> Converted:
        encoded = prefetch(lambda item: _encode(item, source), items, threads=count_threads(), ahead=32)
        labels = iter(tqdm(encoded, total=len(items), desc=f"writing {split}", disable=None, leave=False, unit="files"))
        shards = []
        for number, start in enumerate(range(0, len(items), samples_per_shard)):
            name = f"{split}-{number:06d}.tar"
            shards.append(write_shard(output / name, items[start : start + samples_per_shard], labels))
        index = asdict(ShardIndex(VERSION, source.classes.to_dict(), tuple(shards)))
        content = json.dumps(index, separators=(",", ":")).encode()
        write_bytes_durably(output / f"{split}.json", content, elsewhere=ELSEWHERE)
        return Converted(split, len(items), len(shards), sum(shard.bytes for shard in shards))

    def write(output: Path) -> list[Converted]:
        names = "".join(f"{name}\n" for name in source.classes.names).encode()
        write_bytes_durably(output / "classes.txt", names, elsewhere=ELSEWHERE)
        return [write_split(output, split, items) for split, items in source.splits.items()]

    return write


Writer = Callable[[Source, int], Callable[[Path], list[Converted]]]
WRITERS: dict[str, Writer] = {"webdataset": write_shards}


def describe_conversion(converted: Sequence[Converted], target: str, output: Path) -> str:
    """Return what a user reads."""
    lines = [
        f"{part.split}: {part.num_items} pictures in {part.num_files} shards, {part.num_bytes / MIB:.1f} MiB"
        for part in converted
    ]
    train = converted[0]
    lines.append(
        f"note: training gives shards to processes, and {train.split} has {train.num_files}: with more processes than "
        "that, several read the same ones; --samples-per-shard makes more"
    )
    root = shlex.quote(str(output))
    lines.append(f"train on it: data.layout={target} data.root={root}, without data.mask_values and data.val_fraction")
    return "\n".join(lines)


# ---- details


def _keys(items: Sequence[Item]) -> list[str]:
    """Return the items' names as keys, which hold no dot in their base name; the index keeps the names themselves."""
    keys: dict[str, None] = {}
    for item in items:
        place = PurePosixPath(item.name)
        key = plain = (place.parent / place.name.replace(".", "_")).as_posix()
        number = 1
        while key in keys:
            number += 1
            key = f"{plain}_{number}"
        keys[key] = None
    return list(keys)


def _label_suffix(image_suffix: str) -> str:
    return "mask.png" if image_suffix == "png" else "png"


def _encode(item: Item, source: Source) -> bytes:
    assert item.mask is not None, item
    encoded = io.BytesIO()
    write_mask(encoded, source.reader(item.mask), source.classes)
    return encoded.getvalue()


def _remove(output: Path, *, folder: bool) -> None:
    """Remove what was written to a folder that was empty, so that the command can be given again."""
    with contextlib.suppress(OSError):
        remove_parts(output)
        for path in output.iterdir():
            if re.fullmatch(r".*(-\d{6}\.tar|\.json)|classes\.txt", path.name):
                path.unlink()
        if folder:
            output.rmdir()
