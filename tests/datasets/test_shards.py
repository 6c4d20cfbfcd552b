import gzip
import hashlib
import http.server
import io
import json
import multiprocessing
import pickle
import shutil
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segkit.config.reading import override_config
from segkit.config.schema import AugmentConfig, DataConfig, RunConfig
from segkit.datasets import remote as fetching
from segkit.datasets.layouts import Item, has_class_file, list_items, resolve_classes
from segkit.datasets.masks import build_mask_reader
from segkit.datasets.reading import read_pair
from segkit.datasets.remote import fetch
from segkit.datasets.shard_index import parse_index
from segkit.datasets.shards import OPEN_SHARDS, Member, _open
from segkit.errors import ConfigError, DataError, SegkitError
from segkit.formats.configured import read_configured
from segkit.formats.convert import convert
from segkit.formats.options import WriteOptions
from segkit.loading.augment.pipeline import build_augment
from segkit.loading.batch_plan import BatchPlan, shard_sizes
from segkit.loading.cache import build_cache
from segkit.loading.loader import training_batches
from segkit.loading.prepare import prepare_data
from segkit.loading.training_set import TrainingSet
from segkit.runtime.machine import user_cache


@pytest.fixture(autouse=True)
def fresh_handles() -> Iterator[None]:
    yield
    _open.cache_clear()


def make_shards(data: DataConfig, output: Path, *, splits: Sequence[str] = (), samples_per_shard: int = 1000) -> None:
    images = read_configured(RunConfig(data=data), splits)
    convert(images, "webdataset", output, options=WriteOptions(samples_per_shard))


@pytest.fixture(scope="session")
def made(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The drawn data set in shards of 5: 3 to train on, 2 to validate. Not to be changed."""
    output = tmp_path_factory.mktemp("shards") / "set"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(output.parent / "cache"))
        make_shards(DataConfig(root=str(shapes)), output, samples_per_shard=5)
    return output


@pytest.fixture
def copied(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "set")
    return tmp_path / "set"


class Server:
    """A file server on loopback that counts, and that cuts off the first `broken` answers half-way."""

    def __init__(self, folder: Path) -> None:
        server = self

        class Handler(http.server.SimpleHTTPRequestHandler):
            def __init__(self, *arguments: object) -> None:
                super().__init__(*arguments, directory=str(folder))  # type: ignore[arg-type]

            def do_GET(self) -> None:
                server.asked.append(self.path)
                if server.broken > 0:
                    server.broken -= 1
                    self.send_response(200)
                    self.send_header("Content-Length", "1000000")
                    self.end_headers()
                    self.wfile.write(b"half")
                    return
                super().do_GET()

            def log_message(self, *_: object) -> None:
                pass

        self.asked: list[str] = []
        self.broken = 0
        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.root = f"http://127.0.0.1:{self.http.server_port}"

    def count(self, suffix: str) -> int:
        return sum(path.endswith(suffix) for path in self.asked)


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], Server]]:
    monkeypatch.setattr(fetching, "PAUSES", (0.0, 0.0))
    servers = []

    def start(folder: Path) -> Server:
        servers.append(Server(folder))
        threading.Thread(target=servers[-1].http.serve_forever, kwargs={"poll_interval": 0.01}).start()
        return servers[-1]

    yield start
    for server in servers:
        server.http.shutdown()
        server.http.server_close()


def shards(root: Path | str, **settings: object) -> DataConfig:
    return DataConfig(root=str(root), layout="webdataset", **settings)  # type: ignore[arg-type]


def pixels(data: DataConfig, split: str) -> dict[str, tuple[bytes, bytes]]:
    reader = build_mask_reader(data, resolve_classes(data))
    pairs = {item.name: read_pair(item, reader) for item in list_items(data, split)}
    return {name: (image.tobytes(), mask.tobytes()) for name, (image, mask) in pairs.items()}


def pack(path: Path, files: dict[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))


def image(kind: str = "JPEG", *, value: int = 90) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (12, 8), (value, value, value)).save(file, kind)
    return file.getvalue()


def label(value: int = 1) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((8, 12), value, np.uint8)).save(file, "PNG")
    return file.getvalue()


# ---- what is made


@pytest.mark.parametrize("split", ["train", "val", "all"])
def test_shards_hold_the_same_images_and_ids_in_the_same_order(shapes: Path, made: Path, split: str) -> None:
    before, after = pixels(DataConfig(root=str(shapes)), split), pixels(shards(made), split)
    assert before == after
    assert split == "all" or list(before) == list(after)


def test_images_go_in_unchanged(shapes: Path, made: Path) -> None:
    for item in list_items(shards(made), "train"):
        assert item.image.read_bytes() == (shapes / "JPEGImages" / item.image.name).read_bytes()


def test_converting_twice_gives_the_same_bytes(shapes: Path, made: Path, tmp_path: Path) -> None:
    make_shards(DataConfig(root=str(shapes)), tmp_path / "again", samples_per_shard=5)
    names = sorted(path.name for path in made.iterdir())
    assert names == sorted(path.name for path in (tmp_path / "again").iterdir())
    assert names == ["classes.txt", "train-000000.tar", "train-000001.tar", "train-000002.tar", "train.json",
                     "val-000000.tar", "val-000001.tar", "val.json"]  # fmt: skip
    assert all((made / name).read_bytes() == (tmp_path / "again" / name).read_bytes() for name in names)


def test_the_index_tells_size_and_checksum_of_every_shard(made: Path) -> None:
    for shard in json.loads((made / "train.json").read_text())["shards"]:
        content = (made / shard["name"]).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (shard["bytes"], shard["sha256"])


def test_shards_of_shards_are_the_same_shards(made: Path, tmp_path: Path) -> None:
    make_shards(shards(made), tmp_path / "again", samples_per_shard=5)
    assert (made / "train-000001.tar").read_bytes() == (tmp_path / "again" / "train-000001.tar").read_bytes()


def test_the_tool_whose_format_it_is_reads_them(made: Path) -> None:
    from webdataset.tariterators import group_by_keys, tar_file_expander

    with (made / "train-000000.tar").open("rb") as file:
        samples = list(group_by_keys(tar_file_expander([{"url": "train-000000.tar", "stream": file}])))
    assert [sample["__key__"] for sample in samples] == [item.name for item in list_items(shards(made), "train")][:5]
    assert all({"jpg", "png"} <= sample.keys() for sample in samples)


def test_dots_folders_png_images_and_mask_values_survive(
    write_folders: Callable[..., DataConfig], tmp_path: Path
) -> None:
    masks = {name: np.full((8, 12), 255, np.uint8) for name in ("a.b", "a_b", "c", "d")}
    masks["c"][:, 6:] = 0
    data = write_folders(masks, mask_values=(0, 255), val_fraction=0.0)
    for folder in ("images", "masks"):
        (Path(data.root) / folder / "deep.er").mkdir()
        shutil.move(Path(data.root) / folder / "d.png", Path(data.root) / folder / "deep.er" / "d.png")
    (Path(data.root) / "train.txt").write_text("a.b\na_b\nc\ndeep.er/d\n")
    make_shards(data, tmp_path / "out", splits=["train"])
    assert pixels(shards(tmp_path / "out"), "train") == pixels(data, "train")
    with tarfile.open(tmp_path / "out" / "train-000000.tar") as tar:
        assert tar.getnames()[:2] == ["a_b.mask.png", "a_b.png"]
        assert "deep.er/d.png" in tar.getnames()
    with pytest.raises(ConfigError, match=r"data\.mask_values: set, but the labels"):
        list_items(shards(tmp_path / "out", mask_values=(0, 255)), "train")
    with pytest.raises(ConfigError, match=r"data\.ignore_index: found 254, expected 255"):
        list_items(shards(tmp_path / "out", ignore_index=254), "train")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"samples_per_shard": 0}, "--samples-per-shard: found 0"),
        ({"splits": ["fold 1"]}, "no such split file"),
        ({"output": "."}, "expected an empty folder"),
    ],
)
def test_what_can_not_be_converted_is_refused(
    shapes: Path, tmp_path: Path, settings: dict[str, object], message: str
) -> None:
    (tmp_path / "something").touch()
    given = {"output": "out", **settings}
    output = tmp_path / str(given.pop("output"))
    with pytest.raises(SegkitError, match=message):
        make_shards(DataConfig(root=str(shapes)), output=output, **given)  # type: ignore[arg-type]
    assert [path.name for path in tmp_path.iterdir()] == ["something"]


def test_a_conversion_that_fails_half_way_leaves_nothing(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("segkit.formats.shards._label_suffix", fail)
    with pytest.raises(KeyboardInterrupt):
        make_shards(DataConfig(root=str(shapes)), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


# ---- shards of other tools


@pytest.mark.parametrize("split", ["train", "train-000000.tar", "train-{000000..000002}.tar"])
def test_shards_without_an_index_are_indexed_once(copied: Path, made: Path, split: str) -> None:
    (copied / "train.json").unlink()
    num_shards = 1 if split.endswith("0.tar") else 3
    first = list_items(shards(copied), split)
    assert [item.name for item in first] == [item.name for item in list_items(shards(made), "train")][: 5 * num_shards]
    kept = list((user_cache() / "indexes").iterdir())
    assert len(kept) == num_shards
    assert list_items(shards(copied), split) == first
    kept[0].write_text("half")  # a damaged memory is made anew
    assert list_items(shards(copied), split) == first


def test_labels_are_told_from_images_by_their_suffixes(tmp_path: Path) -> None:
    pack(
        tmp_path / "train" / "x.tar",
        {
            "./a.jpg": image(), "./a.png": label(), "b.png": image("PNG"), "b.seg.png": label(),
            "c.JPG": image(), "c.mask.png": label(), "c.json": b"{}", "notes.txt": b"", "._a.jpg": b"",
        },
    )  # fmt: skip
    items = list_items(shards(tmp_path), "train")
    assert [(item.image.name, item.mask.name if item.mask else None) for item in items] == [
        ("a.jpg", "a.png"), ("b.png", "b.seg.png"), ("c.JPG", "c.mask.png"),
    ]  # fmt: skip
    assert items[1].image.read_bytes() == image("PNG")


def test_the_shards_of_a_split_are_told_from_those_of_others(tmp_path: Path) -> None:
    for name in ("train-0", "train_1", "train2", "train-3-of-9", "train-aug-0", "train_extra"):
        pack(tmp_path / f"{name}.tar", {f"{name}.jpg": image(), f"{name}.png": label()})
    found = [item.name for item in list_items(shards(tmp_path), "train")]
    assert found == ["train-0", "train-3-of-9", "train2", "train_1"]
    assert len(list_items(shards(tmp_path), "train-aug")) == len(list_items(shards(tmp_path), "train_extra")) == 1


def test_members_can_be_sent_to_other_processes(made: Path) -> None:
    items = list_items(shards(made), "train")
    assert pickle.loads(pickle.dumps(items)) == items


def test_keys_that_start_anew_in_each_shard_get_its_name(tmp_path: Path) -> None:
    for number in range(2):
        pack(tmp_path / f"train-{number}.tar", {"0.jpg": image(), "0.png": label()})
    assert [item.name for item in list_items(shards(tmp_path), "train")] == ["train-0/0", "train-1/0"]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a.jpg": b"x", "a.tif": b"x"}, "found .jpg .tif, expected one image"),
        ({"a.jpg": b"x"}, "a.jpg: no label for this image"),
        ({"a.png": b"x", "a.PNG": b"x"}, "is listed twice"),
        ({"../a.jpg": b"x", "../a.png": b"x"}, "sample name '../a'"),
        ({"/a.jpg": b"x", "/a.png": b"x"}, "sample name '/a'"),
        ({}, "split 'train' is empty"),
    ],
)
def test_samples_that_make_no_sense_are_refused(tmp_path: Path, files: dict[str, bytes], message: str) -> None:
    pack(tmp_path / "train-0.tar", files)
    with pytest.raises(DataError, match=message):
        list_items(shards(tmp_path), "train")


@pytest.mark.parametrize("spoil", [lambda content: content[: len(content) // 2], gzip.compress, lambda content: b"x"])
def test_a_file_that_is_no_whole_tar_is_refused(copied: Path, spoil: Callable[[bytes], bytes]) -> None:
    (copied / "train.json").unlink()
    path = copied / "train-000001.tar"
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(DataError, match=r"train-000001\.tar: not a tar that can be read"):
        list_items(shards(copied), "train")


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ("test", r"no split 'test': found neither test\.json \(train\.json, val\.json there\)"),
        ("x-{0..1}.tar", "no such shard"),
        ("../{a,b}.tar", r"found the name '\.\.'"),
        ("/etc/{a,b}.tar", "found the name ''"),
        ("x;{a,b}.tar", "found the name 'x;a.tar'"),
        ("x{.tar", "expected as in"),
    ],
)
def test_a_split_that_is_not_there_is_refused(made: Path, split: str, message: str) -> None:
    with pytest.raises(SegkitError, match=message):
        list_items(shards(made), split)


# ---- damage


def test_a_shard_that_changed_since_the_index_was_made_is_noticed(copied: Path) -> None:
    path = copied / "train-000000.tar"
    path.write_bytes(path.read_bytes()[:-512])
    with pytest.raises(DataError, match=r"train-000000\.tar: found \d+ bytes, expected \d+ as its index says"):
        prepare_data(shards(copied), seed=0)


def test_a_missing_shard_is_named(copied: Path) -> None:
    items = list_items(shards(copied), "train")
    (copied / "train-000002.tar").unlink()
    with pytest.raises(DataError, match=r"train-000002\.tar: can't open this shard"):
        items[-1].image.read_bytes()


def test_a_shard_that_is_cut_while_it_is_read_is_noticed(copied: Path) -> None:
    items = list_items(shards(copied), "train")
    items[0].image.read_bytes()
    with (copied / "train-000000.tar").open("r+b") as file:
        file.truncate(1000)
    with pytest.raises(DataError, match=rf"train-000000\.tar/{items[4].name}\.jpg: the shard ends at"):
        items[4].image.read_bytes()


def test_members_that_are_no_images_are_all_named(tmp_path: Path) -> None:
    good = {"good.jpg": image(), "good.png": label()}
    pack(tmp_path / "train-0.tar", {"a.jpg": b"no", "a.png": label(), "b.jpg": image(), "b.png": b"no", **good})
    pack(tmp_path / "val-0.tar", {"c.jpg": image(), "c.png": label()})
    with pytest.raises(DataError) as error:
        prepare_data(shards(tmp_path, classes=("background", "object")), seed=0)
    lines = str(error.value).splitlines()
    assert "train-0.tar/a.jpg: not an image that can be read" in lines[0]
    assert "train-0.tar/b.png: the label can't be read (no known image format)" in lines[1]


def test_a_image_in_both_splits_is_refused(tmp_path: Path) -> None:
    for split in ("train", "val"):
        pack(tmp_path / f"{split}-0.tar", {"a.jpg": image(), "a.png": label()})
    with pytest.raises(DataError, match=r"a \(\d+ bytes, its label \d+\): in 'train' and in 'val'"):
        prepare_data(shards(tmp_path, classes=("background", "object")), seed=0)


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("version",), 2, "found an index of version 2, expected 1"),
        (("shards",), 3, "not an index of shards, or a damaged one"),
        (("shards", 0, "name"), "../train-000000.tar", "found the name '../train-000000.tar', expected a plain file"),
        (("shards", 0, "name"), "/etc/passwd", "expected a plain file name"),
        (("shards", 0, "name"), "pipe:touch x", "expected a plain file name"),
        (("shards", 0, "name"), "x.tar; touch x", "expected a plain file name"),
        (("shards", 0, "name"), "-x.tar", "expected a plain file name"),
        (("shards", 0, "name"), "x.tar\n", "expected a plain file name"),
        (("shards", 0, "samples", 0, 0), "../x", "sample name '../x'"),
        (("shards", 0, "samples", 0, 1, 1), 10**9, "behind its shard"),
        (("shards", 0, "samples", 0, 1, 1), -1, "damaged one"),
        (("shards", 0, "samples", 0, 2), "x", "damaged one"),
    ],
)
def test_an_index_is_not_trusted(made: Path, place: tuple[str | int, ...], value: object, message: str) -> None:
    index = json.loads((made / "train.json").read_text())
    inner = index
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    with pytest.raises(DataError, match=message):
        parse_index(json.dumps(index).encode(), where="train.json")


def test_an_index_cut_short_is_refused(copied: Path) -> None:
    (copied / "train.json").write_bytes((copied / "train.json").read_bytes()[:100])
    with pytest.raises(DataError, match=r"train\.json: not an index of shards, or a damaged one"):
        list_items(shards(copied), "train")


# ---- from elsewhere


def test_remote_shards_are_the_same_and_each_is_fetched_once(made: Path, serve: Callable[[Path], Server]) -> None:
    server = serve(made)
    data = shards(server.root)
    assert has_class_file(data)
    assert resolve_classes(data).names == resolve_classes(shards(made)).names
    assert pixels(data, "train") == pixels(shards(made), "train")
    _open.cache_clear()
    assert pixels(data, "train") == pixels(shards(made), "train")
    assert server.count(".tar") == 3


def test_remote_shards_without_an_index_are_listed_in_the_split(made: Path, serve: Callable[[Path], Server]) -> None:
    server = serve(made)
    data = shards(f"{server.root}/", train="train-{000000..000002}.tar", val="val-000000.tar")
    with pytest.raises(ConfigError, match=r"data\.classes: not set"):
        resolve_classes(data)
    data = replace(data, classes=resolve_classes(shards(made)).names)
    assert pixels(data, data.train) == pixels(shards(made), "train")
    assert server.count(".tar") == 3
    with pytest.raises(DataError, match="can't be listed, expected a split"):
        list_items(data, "all")


def test_a_pipe_is_run_where_the_user_wrote_it(made: Path) -> None:
    for root in (f"pipe:cat {made}/", f"pipe:cat {made}/{{}} | cat", f"file://{made}"):
        assert pixels(shards(root), "val") == pixels(shards(made), "val")


def test_transfers_that_break_off_are_tried_three_times(made: Path, serve: Callable[[Path], Server]) -> None:
    server = serve(made)
    items = list_items(shards(server.root), "train")
    server.broken = 2
    assert items[0].image.read_bytes() == list_items(shards(made), "train")[0].image.read_bytes()
    server.broken = 3
    with pytest.raises(
        DataError, match=r"train-000001\.tar: can't be read \(curl ended with exit code 18\), in 3 attempts"
    ):
        items[5].image.read_bytes()
    assert not list((user_cache() / "shards").glob("*.part"))


def test_what_is_not_there_is_told_with_its_address(made: Path, serve: Callable[[Path], Server]) -> None:
    server = serve(made)
    with pytest.raises(DataError, match=rf"{server.root}/test\.json: can't be read .* in 3 attempts; check data\.root"):
        list_items(shards(server.root), "test")
    with pytest.raises(DataError, match=r"found what://x/train\.json, which nothing here can read"):
        list_items(shards("what://x"), "train")
    with pytest.raises(DataError, match="can't be read"):
        list_items(shards("pipe:false "), "train")


def test_a_shard_that_differs_from_its_checksum_is_refused(copied: Path, serve: Callable[[Path], Server]) -> None:
    path = copied / "train-000000.tar"
    content = bytearray(path.read_bytes())
    content[700] ^= 1
    path.write_bytes(content)
    server = serve(copied)
    with pytest.raises(DataError, match=r"train-000000\.tar: found a content of SHA-256 \w{64}, expected \w{64} as"):
        list_items(shards(server.root), "train")[0].image.read_bytes()
    assert server.count("000000.tar") == 3
    path.write_bytes(content[:-512])
    with pytest.raises(DataError, match=r"found \d+ bytes, expected \d+"):
        list_items(shards(server.root), "train")[0].image.read_bytes()


def test_fetched_shards_stay_within_the_budget_and_the_oldest_go(
    tmp_path: Path, serve: Callable[[Path], Server]
) -> None:
    for number in range(4):
        (tmp_path / f"{number}.tar").write_bytes(bytes([number]) * 2**20)
    server = serve(tmp_path)
    budget = 3.5 * 2**20 / 2**30
    for number in (0, 1, 2, 0, 3):  # 1 is the one that was used least recently
        path = fetch(f"{server.root}/{number}.tar", budget_gib=budget)
        assert path.read_bytes() == bytes([number]) * 2**20
        assert sum(file.stat().st_size for file in path.parent.glob("*.tar")) <= 3.5 * 2**20
    server.asked.clear()
    for number in (0, 2, 3, 1):
        fetch(f"{server.root}/{number}.tar", budget_gib=budget)
    assert server.asked == ["/1.tar"]
    for known in (None, 2**20):
        with pytest.raises(ConfigError, match=r"data\.cache_gib: found 0\.0005, but .*2\.tar\?x alone takes 0\.000977"):
            fetch(f"{server.root}/2.tar?x", budget_gib=0.0005, num_bytes=known)


def test_a_removed_shard_is_read_on_where_it_is_open_and_fetched_again_where_not(
    made: Path, serve: Callable[[Path], Server]
) -> None:
    server = serve(made)
    items = list_items(shards(server.root), "train")
    expected = [item.image.read_bytes() for item in items[:2]]
    next((user_cache() / "shards").glob("*.tar")).unlink()
    assert items[1].image.read_bytes() == expected[1]
    assert server.count(".tar") == 1
    _open.cache_clear()
    assert items[1].image.read_bytes() == expected[1]
    assert server.count(".tar") == 2


def fetch_together(url: str, budget_gib: float, gate: object, results: object) -> None:
    gate.wait()  # type: ignore[attr-defined]
    results.put(fetch(url, budget_gib=budget_gib).stat().st_size)  # type: ignore[attr-defined]


def test_processes_and_their_threads_fetch_a_shard_once(tmp_path: Path, serve: Callable[[Path], Server]) -> None:
    (tmp_path / "a.tar").write_bytes(b"x" * 2**24)
    server = serve(tmp_path)
    context = multiprocessing.get_context("fork")
    gate, results = context.Barrier(3), context.Queue()
    children = [
        context.Process(target=fetch_together, args=(f"{server.root}/a.tar", 1.0, gate, results)) for _ in range(2)
    ]
    for child in children:
        child.start()
    gate.wait()
    with ThreadPoolExecutor(4) as pool:
        paths = list(pool.map(lambda _: fetch(f"{server.root}/a.tar", budget_gib=1.0), range(4)))
    assert [results.get(timeout=30) for _ in children] == [2**24] * 2
    for child in children:
        child.join()
    assert len(set(paths)) == 1
    assert server.count(".tar") == 1


def test_many_readers_fit_into_a_budget_of_one_shard(made: Path, serve: Callable[[Path], Server]) -> None:
    server = serve(made)
    largest = max(path.stat().st_size for path in made.glob("train-*.tar"))
    items = list_items(shards(server.root, cache_gib=1.01 * largest / 2**30), "train")
    expected = {item.name: item.image.read_bytes() for item in list_items(shards(made), "train")}

    def read(item: Item) -> tuple[str, bytes]:
        _open.cache_clear()
        return item.name, item.image.read_bytes()

    with ThreadPoolExecutor(2) as pool:
        assert dict(pool.map(read, items)) == expected


def test_open_files_are_bounded(tmp_path: Path) -> None:
    for number in range(OPEN_SHARDS + 5):
        pack(tmp_path / f"train-{number:02d}.tar", {f"{number}.jpg": image(value=number), f"{number}.png": label()})
    items = list_items(shards(tmp_path), "train")
    for item in items:
        assert item.image.read_bytes() == image(value=int(item.name))
    opened = [path.readlink() for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
    assert sum(path.suffix == ".tar" for path in opened) == OPEN_SHARDS


def test_without_webdataset_the_remedy_is_told(made: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "webdataset", None)
    for needs in (
        lambda: list_items(shards("https://x"), "train"),
        lambda: list_items(shards(made), "train-{000000..000001}.tar"),
        lambda: make_shards(shards(made), tmp_path / "out"),
    ):
        with pytest.raises(ConfigError, match=r"pip install 'segkit\[webdataset\]'"):
            needs()
    assert len(list_items(shards(made), "train")) == 12  # what lies here with an index needs nothing


# ---- training from them


@pytest.mark.parametrize(("cache", "workers"), [("none", 2), ("ram", 0), ("disk", 2)])
def test_batches_are_the_same_bytes_with_workers_and_caches(made: Path, cache: str, workers: int) -> None:
    def epochs(cache: str, workers: int) -> list[bytes]:
        data = shards(made, cache=cache)
        recipe = build_augment(AugmentConfig(), canvas_hw=(32, 40), ignore_index=255)
        items = list_items(data, "train")
        kept = build_cache(data, items, recipe)
        dataset = TrainingSet(items, build_mask_reader(data, resolve_classes(data)), recipe, seed=0, cache=kept)
        plan = BatchPlan(12, 4, seed=0, shard_sizes=shard_sizes(items))
        stream = training_batches(dataset, plan, rank=0, first_step=0, num_steps=6, workers=workers)
        return [batch.images.numpy().tobytes() + batch.masks.numpy().tobytes() for batch in stream]

    assert epochs(cache, workers) == epochs("none", 0)


def test_items_know_the_sizes_of_their_shards(shapes: Path, made: Path) -> None:
    items = list_items(shards(made), "train")
    assert all(isinstance(item.image, Member) for item in items)
    assert shard_sizes(items) == (5, 5, 2)
    assert shard_sizes(list_items(DataConfig(root=str(shapes)), "train")) is None


def test_the_same_images_in_other_shards_are_other_data(made: Path, tmp_path: Path) -> None:
    make_shards(shards(made), tmp_path / "again", samples_per_shard=5)
    make_shards(shards(made), tmp_path / "other", samples_per_shard=6)
    ids = [prepare_data(shards(root), seed=0).id for root in (made, tmp_path / "again", tmp_path / "other")]
    assert ids[0] == ids[1] != ids[2]


def test_a_held_out_share_contradicts_shards() -> None:
    with pytest.raises(ConfigError, match=r"data\.val_fraction: set, but without effect"):
        override_config(RunConfig(), ["data.layout=webdataset", "data.val_fraction=0.2"], where="test")
