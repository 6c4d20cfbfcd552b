"""Tar shards by the convention of webdataset, with an index per split, which data.layout: webdataset trains from."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from segkit.datasets.images import read_encoded
from segkit.datasets.remote import need_webdataset
from segkit.datasets.shard_index import VERSION, IndexedItem, IndexedShard, ShardIndex, check_name, scan_shard
from segkit.errors import ConfigError
from segkit.formats.options import WriteOptions
from segkit.formats.sample import Sample, SampleSet
from segkit.formats.writing import ELSEWHERE, each_sample, encode_mask, read_mask
from segkit.runtime.files import write_bytes_durably, write_durably

MIB = 2**20


def write(samples: SampleSet, output: Path, options: WriteOptions) -> list[str]:
    """Write <split>-NNNNNN.tar, <split>.json and classes.txt; return notes.

    The same images give the same bytes: no time or user is written into the tars.

    Raises:
        ConfigError: webdataset is not installed, or a shard is to hold no samples.
        DataError: a split's name can't be a file name, or an image or label can't be read.
        RunFolderError: the folder can't be written to.
    """
    if options.samples_per_shard < 1:
        raise ConfigError(f"--samples-per-shard: found {options.samples_per_shard}, expected 1 or more")
    tar_writer = need_webdataset("--to webdataset").TarWriter
    for split in samples.splits:
        check_name(split, where="--splits (or data.train, data.val)")

    def write_shard(path: Path, members: Sequence[Sample], labels: Iterable[bytes]) -> IndexedShard:
        keys = _keys(members)

        def write(file: BinaryIO) -> None:
            with tar_writer(file, user="", group="", mtime=0, encoder=False) as tar:
                for sample, key, label in zip(members, keys, labels, strict=True):
                    suffix = sample.image.name.lower().rpartition(".")[2]
                    tar.write({"__key__": key, suffix: read_encoded(sample.image), _label_suffix(suffix): label})

        write_durably(path, write, elsewhere=ELSEWHERE)
        scanned = scan_shard(path, path.name)  # read back: the index says what the tar really holds
        pairs = zip(members, scanned.samples, strict=True)
        indexed = [IndexedItem(member.name, *found[1:]) for member, found in pairs]
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return IndexedShard(path.name, scanned.bytes, digest, tuple(indexed))

    def write_split(split: str, members: Sequence[Sample]) -> str:

        def encode(sample: Sample) -> bytes:
            return encode_mask(read_mask(sample), samples.classes)

        labels = each_sample(encode, members, title=f"writing {split}")
        shards = []
        for number, start in enumerate(range(0, len(members), options.samples_per_shard)):
            part = members[start : start + options.samples_per_shard]
            shards.append(write_shard(output / f"{split}-{number:06d}.tar", part, islice(labels, len(part))))
        index = asdict(ShardIndex(VERSION, samples.classes.to_dict(), tuple(shards)))
        content = json.dumps(index, separators=(",", ":")).encode()
        write_bytes_durably(output / f"{split}.json", content, elsewhere=ELSEWHERE)
        return f"{split}: {len(shards)} shards, {sum(shard.bytes for shard in shards) / MIB:.1f} MiB"

    write_bytes_durably(output / "classes.txt", samples.classes.lines().encode(), elsewhere=ELSEWHERE)
    notes = [write_split(split, members) for split, members in samples.splits.items()]
    return [
        *notes,
        "training deals shards out to processes; with more processes than a split has shards, several read the same "
        "ones: a smaller --samples-per-shard makes more",
    ]


def _keys(members: Sequence[Sample]) -> list[str]:
    """Return the names as keys, which hold no dot in their base name; the index keeps the names themselves."""
    keys: dict[str, None] = {}
    for sample in members:
        path = PurePosixPath(sample.name)
        key = plain = (path.parent / path.name.replace(".", "_")).as_posix()
        number = 1
        while key in keys:
            number += 1
            key = f"{plain}_{number}"
        keys[key] = None
    return list(keys)


def _label_suffix(image_suffix: str) -> str:
    return "mask.png" if image_suffix == "png" else "png"
