"""What is inside the shards of a split: read from the index beside them, or from the headers of the tars.

An index is one JSON file per split, written by `segkit convert`: every shard's size and checksum, and where in it each
sample's image and label are. Shards of other tools are indexed on first use; that index is kept in the user's cache
folder. Samples follow the convention of webdataset: files that share their path up to the first dot of the base name.
"""

import hashlib
import json
import re
import tarfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, NamedTuple

from annotated_types import Ge

from segkit.config.schema import DataConfig
from segkit.datasets.images import IMAGE_SUFFIXES
from segkit.datasets.masks import MASK_SUFFIXES
from segkit.datasets.remote import fetch, fetch_small, is_remote, locate, need_webdataset
from segkit.errors import ConfigError, DataError, first_line
from segkit.runtime.files import recall, remember
from segkit.runtime.machine import count_threads, user_cache
from segkit.runtime.threads import prefetch

VERSION = 1
LABEL_WORDS = ("mask", "seg", "label", "labels", "target", "segmentation")  # as in 000012.seg.png

NonNegative = Annotated[int, Ge(0)]


class Part(NamedTuple):
    """A file of a sample: its suffix, and where its data is in the shard."""

    suffix: str
    offset: NonNegative
    size: NonNegative


class IndexedItem(NamedTuple):
    """The files of one key that matter here."""

    name: str
    image: Part
    label: Part | None


@dataclass(frozen=True)
class IndexedShard:
    """One tar file and its samples. `sha256` is None where nobody has computed it."""

    name: str
    bytes: NonNegative
    sha256: str | None
    samples: tuple[IndexedItem, ...]


@dataclass(frozen=True)
class ShardIndex:
    """The shards of a split. With `classes` (as Classes.to_dict gives them), labels hold class ids."""

    version: int
    classes: dict[str, Any] | None
    shards: tuple[IndexedShard, ...]


def read_split_index(data: DataConfig, split: str | None) -> ShardIndex:
    """Return the index of a split: of the shards that it lists as `a-{000..012}.tar`, of <split>.json in the root, or
    of the shards <split>*.tar or <split>/*.tar there. Without a split, of everything in a local root.

    Raises:
        ConfigError: webdataset is needed, and missing.
        DataError: no such split, or an index or shard that can't be read or trusted.
    """
    remote, root = is_remote(data.root), Path(data.root)
    if split is None:
        return _everything(data)
    if "{" in split or split.endswith(".tar"):
        names = _expand(split)
        return _index_remote(data, names) if remote else _index_local(root, names)
    file = f"{split}.json"
    if remote:
        check_name(file, where=f"{data.root}: split '{split}'")
        url = locate(data.root, file)
        return parse_index(fetch_small(url), where=url)
    if (root / file).is_file():
        return parse_index(_read(root / file), where=str(root / file))
    numbered = re.compile(re.escape(split) + r"([-_.]?\d+([-_.]of[-_.]\d+)?)?\.tar")
    found = sorted(path for path in root.glob("*.tar") if numbered.fullmatch(path.name))
    found = found or sorted((root / split).glob("*.tar"))
    if not found:
        others = ", ".join(sorted(path.name for path in root.glob("*.json"))[:5]) or "no index"
        raise DataError(
            f"{root}: no split '{split}': found neither {file} ({others} there), nor {split}-*.tar, nor {split}/*.tar; "
            "set data.train and data.val to those you mean, as a name or as in 'shard-{000..012}.tar'"
        )
    return _index_local(root, [path.relative_to(root).as_posix() for path in found])


def parse_index(content: bytes, *, where: str) -> ShardIndex:
    """Check an index file, of which nothing is trusted: names that leave the folder, and offsets outside their shard.

    Raises:
        DataError: it is damaged, of another version, or names what it must not.
    """
    from pydantic import TypeAdapter, ValidationError

    version = None
    try:
        plain = json.loads(content)
        version = plain.get("version") if isinstance(plain, dict) else None
        if version not in (None, VERSION):
            raise DataError(
                f"{where}: found an index of version {version}, expected {VERSION}; make the shards with this segkit "
                "(segkit convert), or update segkit"
            )
        index = TypeAdapter(ShardIndex).validate_python(plain)
    except (ValueError, ValidationError) as error:
        raise DataError(
            f"{where}: not an index of shards, or a damaged one ({first_line(error)}), expected what segkit convert "
            "writes; copy it again"
        ) from error
    for shard in index.shards:
        check_name(shard.name, where=where)
        for sample in shard.samples:
            _check_sample(sample, where=f"{where}: {shard.name}")
            for part in (sample.image, sample.label):
                if part and part.offset + part.size > shard.bytes:
                    raise DataError(
                        f"{where}: {shard.name}/{sample.name}{part.suffix} ends at {part.offset + part.size}, behind "
                        f"its shard of {shard.bytes} bytes; the index is damaged, copy it again"
                    )
    return index


def check_name(name: str, *, where: str) -> None:
    """Refuse a shard's name that is more than a plain one: it becomes part of paths, of URLs and of the user's command.

    Raises:
        DataError: it holds a folder, or anything but letters, digits and . _ + = @ , -
    """
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._+=@,-]*", name):
        raise DataError(
            f"{where}: found the name {name!r}, expected a plain file name of letters, digits and . _ + = @ , -; "
            "rename it, and don't use an index of unknown origin"
        )


# ---- shards without an index


def scan_shard(path: Path, name: str) -> IndexedShard:
    """Return the samples of a tar by its headers, in the order of their images. Nothing is extracted.

    Raises:
        DataError: it is no tar, truncated or compressed, or a key has no image, or several.
    """
    groups: dict[str, dict[str, Part]] = {}
    try:
        with tarfile.open(path, "r:") as tar:
            for entry in tar:
                path_in_tar = PurePosixPath(entry.name)  # drops a leading ./
                if not entry.isfile() or entry.issparse() or path_in_tar.name.startswith("."):
                    continue
                stem, _, suffix = path_in_tar.name.partition(".")
                group = groups.setdefault((path_in_tar.parent / stem).as_posix(), {})
                if f".{suffix}".lower() in group:
                    raise DataError(f"{path}/{entry.name}: is listed twice; make the shard again")
                group[f".{suffix}".lower()] = Part(f".{suffix}", entry.offset_data, entry.size)
        size = path.stat().st_size
    except (OSError, tarfile.TarError) as error:
        raise DataError(
            f"{path}: not a tar that can be read, or a truncated one ({first_line(error)}), expected an uncompressed "
            ".tar; copy or make it again"
        ) from error
    samples = []
    for key, parts in groups.items():
        if sample := _pair(key, parts, where=str(path)):
            _check_sample(sample, where=str(path))
            samples.append(sample)
    return IndexedShard(name, size, None, tuple(samples))


def _pair(key: str, parts: dict[str, Part], *, where: str) -> IndexedItem | None:
    """Distinguish image and label of a key by their suffixes; None where there are no images at all (metadata)."""
    labels = [s for s in parts if s.endswith(MASK_SUFFIXES) and s[1:].split(".")[0] in LABEL_WORDS and s.count(".") > 1]
    images = [s for s in parts if s in IMAGE_SUFFIXES]
    if not labels and len(images) > 1 and ".png" in images:
        labels = [".png"]
        images.remove(".png")
    if not labels and not images:
        return None
    if len(images) != 1 or len(labels) > 1:
        raise DataError(
            f"{where}/{key}: found {' '.join(sorted(parts))}, expected one image (such as .jpg) and one label (.png, "
            "or .mask.png beside a .png image); make the shards with segkit convert"
        )
    return IndexedItem(key, parts[images[0]], parts[labels[0]] if labels else None)


def _index_local(root: Path, names: Sequence[str]) -> ShardIndex:
    def index(name: str) -> IndexedShard:
        path = root / name
        try:
            stat = path.stat()
        except OSError as error:
            raise DataError(
                f"{path}: no such shard ({error.strerror}); expected it by data.train or data.val; copy it there"
            ) from error
        kept = _kept_index(f"{path.resolve()} {stat.st_size} {stat.st_mtime_ns}")
        return _recall(kept, name) or _remember(kept, scan_shard(path, name))

    return _collect(prefetch(index, names, threads=count_threads(), ahead=16))


def _index_remote(data: DataConfig, names: Sequence[str]) -> ShardIndex:
    def index(name: str) -> IndexedShard:
        url = locate(data.root, name)
        kept = _kept_index(url)
        while (found := _recall(kept, name)) is None:
            try:
                found = _remember(kept, scan_shard(fetch(url, budget_gib=data.cache_gib), name))
            except DataError as error:
                if not isinstance(error.__cause__, FileNotFoundError):
                    raise  # otherwise another process made room in just this moment
        return found

    return _collect(map(index, names))


def _collect(shards: Any) -> ShardIndex:
    """Join shards; where they use a key twice, as numbers that start anew in each, the shard's name goes before it."""
    found = list(shards)
    counts = Counter(sample.name for shard in found for sample in shard.samples)
    if max(counts.values(), default=0) > 1:
        found = [
            IndexedShard(
                shard.name,
                shard.bytes,
                shard.sha256,
                tuple(s._replace(name=f"{shard.name.removesuffix('.tar')}/{s.name}") for s in shard.samples),
            )
            for shard in found
        ]
    return ShardIndex(VERSION, None, tuple(found))


def _everything(data: DataConfig) -> ShardIndex:
    if is_remote(data.root):
        raise DataError(
            f"{data.root}: can't be listed, expected a split: a name with an index there (train: train.json), or "
            "shards as in 'train-{000..012}.tar'"
        )
    root = Path(data.root)
    files = [path for path in sorted(root.glob("*.json")) if (root / f"{path.stem}-000000.tar").is_file()]
    indexes = [parse_index(_read(path), where=str(path)) for path in files]
    if not indexes:
        return _index_local(root, [path.relative_to(root).as_posix() for path in sorted(root.rglob("*.tar"))])
    shards = {shard.name: shard for index in indexes for shard in index.shards}
    return ShardIndex(VERSION, indexes[0].classes, tuple(shards.values()))


# ---- names


def _expand(split: str) -> list[str]:
    need_webdataset("data.train, data.val: shards as in 'a-{000..012}.tar'")
    import braceexpand

    try:
        names = list(braceexpand.braceexpand(split))
    except ValueError as error:
        raise ConfigError(
            f"data.train, data.val: found '{split}' ({error}), expected as in a-{{000..012}}.tar"
        ) from error
    for name in names:
        for part in name.split("/"):
            check_name(part, where=f"data.train, data.val: '{split}'")
    return names


def _check_sample(sample: IndexedItem, *, where: str) -> None:
    if not sample.name or sample.name.startswith(("/", "\\")) or ".." in re.split(r"[/\\]", sample.name):
        raise DataError(
            f"{where}: found the sample name {sample.name!r}, expected a name below the data set; rename it"
        )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: can't read this index ({error.strerror}); check its permissions") from error


# ---- memory: the index of a shard without one, in the user's cache folder


def _kept_index(what: str) -> Path:
    return user_cache() / "indexes" / f"{hashlib.sha256(f'{VERSION} {what}'.encode()).hexdigest()[:32]}.json"


def _recall(kept: Path, name: str) -> IndexedShard | None:
    from pydantic import TypeAdapter

    try:
        plain = TypeAdapter(IndexedShard).validate_python(recall(kept))
    except ValueError:
        return None  # missing or damaged: look again
    return plain if plain.name == name else None


def _remember(kept: Path, shard: IndexedShard) -> IndexedShard:
    remember(kept, asdict(shard))  # tuples become lists
    return shard
