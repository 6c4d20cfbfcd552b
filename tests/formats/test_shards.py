import hashlib
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from segkit.errors import ConfigError, DataError
from segkit.formats.options import WriteOptions
from segkit.formats.sample import SampleSet
from segkit.formats.shards import write

MASK = np.eye(3, dtype=np.uint8)
MakeSet = Callable[..., SampleSet]


@pytest.mark.parametrize(("size", "counts"), [(1, [1, 1, 1, 1, 1]), (2, [2, 2, 1]), (5, [5]), (9, [5])])
def test_shards_hold_as_many_samples_as_asked_for_and_the_last_one_the_rest(
    make_set: MakeSet, tmp_path: Path, size: int, counts: list[int]
) -> None:
    write(make_set({f"train/{n}": MASK for n in range(5)}, splits=True), tmp_path, WriteOptions(samples_per_shard=size))
    index = json.loads((tmp_path / "train.json").read_text())
    assert [len(shard["samples"]) for shard in index["shards"]] == counts
    assert [shard["name"] for shard in index["shards"]] == [f"train-{n:06d}.tar" for n in range(len(counts))]


@pytest.mark.parametrize("size", [0, -1])
def test_shards_of_no_samples_are_refused(make_set: MakeSet, tmp_path: Path, size: int) -> None:
    with pytest.raises(ConfigError, match=rf"--samples-per-shard: found {size}, expected 1 or more"):
        write(make_set({"a": MASK}), tmp_path, WriteOptions(samples_per_shard=size))


def test_the_index_says_the_size_and_checksum_of_each_tar(make_set: MakeSet, tmp_path: Path) -> None:
    write(make_set({"a": MASK, "b": MASK}), tmp_path, WriteOptions())
    (shard,) = json.loads((tmp_path / "all.json").read_text())["shards"]
    content = (tmp_path / shard["name"]).read_bytes()
    assert shard["bytes"] == len(content)
    assert shard["sha256"] == hashlib.sha256(content).hexdigest()


def test_keys_hold_no_dots_and_stay_different_while_the_index_keeps_the_names(
    make_set: MakeSet, tmp_path: Path
) -> None:
    names = ["x.y/a.b", "x.y/a_b", "c"]
    write(make_set(dict.fromkeys(names, MASK)), tmp_path, WriteOptions())
    (shard,) = json.loads((tmp_path / "all.json").read_text())["shards"]
    assert [sample[0] for sample in shard["samples"]] == names
    with tarfile.open(tmp_path / shard["name"]) as tar:
        keys = [name.removesuffix(".mask.png") for name in tar.getnames() if name.endswith(".mask.png")]
    assert keys == ["x.y/a_b", "x.y/a_b_2", "c"]


def test_a_tar_holds_no_time_and_no_user(make_set: MakeSet, tmp_path: Path) -> None:
    write(make_set({"a": MASK}), tmp_path, WriteOptions())
    with tarfile.open(tmp_path / "all-000000.tar") as tar:
        assert {(member.mtime, member.uname, member.gname) for member in tar} == {(0, "", "")}


def test_a_split_that_cannot_be_a_file_name_is_refused(make_set: MakeSet, tmp_path: Path) -> None:
    samples = make_set({"a": MASK})
    bad = SampleSet({"x/../y": samples.splits["all"]}, samples.classes)
    with pytest.raises((DataError, ConfigError), match="--splits"):
        write(bad, tmp_path / "out", WriteOptions())
