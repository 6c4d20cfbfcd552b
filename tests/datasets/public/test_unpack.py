import io
import os
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from segkit.datasets.public import unpack as archives
from segkit.datasets.public.unpack import unpack
from segkit.errors import DataError

FILES = {"set/images/a.jpg": b"image a" * 1000, "set/images/b.jpg": b"image b", "set/lists/all.txt": b"a\nb\n"}
KINDS = (".tar", ".tar.gz", ".tgz", ".zip")


def pack(path: Path, files: list[tuple[str, bytes]]) -> Path:
    """Write an archive of the kind that its suffix names, with just these members."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
            for name, content in files:
                info = zipfile.ZipInfo("x")
                info.filename = info.orig_filename = name  # as it is: the constructor would repair some names
                info.compress_type = zipfile.ZIP_DEFLATED
                info.external_attr = 0o100644 << 16
                packed.writestr(info, content)
        return path
    with tarfile.open(path, "w" if path.suffix == ".tar" else "w:gz") as packed_tar:
        for name, content in files:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            packed_tar.addfile(member, io.BytesIO(content))
    return path


def pack_tar(path: Path, *members: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w") as packed:
        for member in members:
            packed.addfile(member)
    return path


def tar_member(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


def found(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


@pytest.mark.parametrize("kind", KINDS)
def test_files_come_out_as_they_went_in(kind: str, tmp_path: Path) -> None:
    archive = pack(tmp_path / f"set{kind}", list(FILES.items()))
    unpack(archive, tmp_path / "out")
    assert found(tmp_path / "out") == FILES


def test_what_tar_itself_writes_is_unpacked(tmp_path: Path) -> None:
    for name, content in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    with tarfile.open(tmp_path / "set.tgz", "w:gz", format=tarfile.PAX_FORMAT) as packed:
        packed.add(tmp_path / "set", arcname="./set")
    unpack(tmp_path / "set.tgz", tmp_path / "out")
    assert found(tmp_path / "out") == FILES


@pytest.mark.parametrize("kind", KINDS)
def test_only_wanted_files_come_out(kind: str, tmp_path: Path) -> None:
    archive = pack(tmp_path / f"set{kind}", list(FILES.items()))
    unpack(archive, tmp_path / "out", wanted=("set/lists/*", "*/b.jpg"))
    assert list(found(tmp_path / "out")) == ["set/images/b.jpg", "set/lists/all.txt"]


# ---- paths


@pytest.mark.parametrize("kind", [".tar", ".tgz", ".zip"])
@pytest.mark.parametrize(
    "name",
    [
        "../outside.txt", "set/../../outside.txt", "/{outside}/outside.txt", "set\\..\\..\\outside.txt",
        "C:/outside.txt", "set/outside.txt:stream", "set/.. /outside.txt", "set/new\nline.txt",
    ],
)  # fmt: skip
def test_a_path_that_leaves_the_folder_is_refused(name: str, kind: str, tmp_path: Path) -> None:
    name = name.replace("{outside}", str(tmp_path).strip("/"))
    archive = pack(tmp_path / f"set{kind}", [("set/good.txt", b"good"), (name, b"evil")])
    with pytest.raises(DataError, match="expected a relative path that stays below its folder"):
        unpack(archive, tmp_path / "out")
    assert "outside.txt" not in {path.name for path in tmp_path.rglob("*")}


def test_a_wanted_filter_lets_no_bad_path_by(tmp_path: Path) -> None:
    archive = pack(tmp_path / "set.tar", [("set/a", b"a"), ("set/../../outside.txt", b"evil")])
    with pytest.raises(DataError, match="stays below its folder"):
        unpack(archive, tmp_path / "out", wanted=("set/*",))


@pytest.mark.parametrize("kind", [".tar", ".zip"])
@pytest.mark.parametrize(
    "names", [("set/a.jpg", "set/a.jpg"), ("set/a", "set/a/b.jpg"), ("set/a/b", "set/a"), ("set/a", "./set//a")]
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_for_one_file_are_refused(names: tuple[str, str], kind: str, tmp_path: Path) -> None:
    archive = pack(tmp_path / f"set{kind}", [(name, b"content") for name in names])
    with pytest.raises(DataError, match="exists already, expected every name once"):
        unpack(archive, tmp_path / "out")


def test_a_file_that_exists_already_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "out" / "set").mkdir(parents=True)
    (tmp_path / "out" / "set" / "a").write_bytes(b"mine")
    with pytest.raises(DataError, match="exists already"):
        unpack(pack(tmp_path / "set.tar", [("set/a", b"theirs")]), tmp_path / "out")
    assert (tmp_path / "out" / "set" / "a").read_bytes() == b"mine"


# ---- kinds


@pytest.mark.parametrize(
    ("kind", "target"),
    [
        (tarfile.SYMTYPE, "/etc/passwd"), (tarfile.SYMTYPE, "../../outside"), (tarfile.SYMTYPE, "good.txt"),
        (tarfile.LNKTYPE, "/etc/passwd"), (tarfile.LNKTYPE, "set/good.txt"), (tarfile.FIFOTYPE, ""),
        (tarfile.CHRTYPE, ""), (tarfile.BLKTYPE, ""),
    ],
)  # fmt: skip
def test_links_and_devices_in_a_tar_are_refused(kind: bytes, target: str, tmp_path: Path) -> None:
    archive = pack_tar(tmp_path / "set.tar", tar_member("set/bad", kind, target))
    with pytest.raises(DataError, match="'set/bad' is a link or device"):
        unpack(archive, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_file_behind_a_link_is_not_written_through_it(tmp_path: Path) -> None:
    (tmp_path / "victim").mkdir()
    with tarfile.open(tmp_path / "set.tar", "w") as packed:
        packed.addfile(tar_member("set", tarfile.SYMTYPE, str(tmp_path / "victim")))
        member = tarfile.TarInfo("set/evil.txt")
        member.size = 4
        packed.addfile(member, io.BytesIO(b"evil"))
    with pytest.raises(DataError, match="link or device"):
        unpack(tmp_path / "set.tar", tmp_path / "out")
    unpack(tmp_path / "set.tar", tmp_path / "out", wanted=("set/*",))  # without the link, "set" is a folder
    assert list((tmp_path / "victim").iterdir()) == []


@pytest.mark.parametrize("mode", [0o120777, 0o010644, 0o020644], ids=["link", "fifo", "device"])
def test_links_and_devices_in_a_zip_are_refused(mode: int, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as packed:
        info = zipfile.ZipInfo("set/bad")
        info.external_attr = mode << 16
        packed.writestr(info, "/etc/passwd")
    with pytest.raises(DataError, match="'set/bad' is a link or device"):
        unpack(tmp_path / "set.zip", tmp_path / "out")


def test_modes_of_an_archive_have_no_effect(tmp_path: Path) -> None:
    member = tarfile.TarInfo("set/run.sh")
    member.mode = 0o6777
    unpack(pack_tar(tmp_path / "set.tar", member), tmp_path / "out")
    assert (tmp_path / "out" / "set" / "run.sh").stat().st_mode & 0o6111 == 0


# ---- sizes


@pytest.mark.parametrize("kind", [".tar.gz", ".zip"])
def test_an_archive_that_unpacks_to_far_more_than_its_size_is_refused(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "_FLOOR", 2**16)
    archive = pack(tmp_path / f"set{kind}", [("set/zeros", bytes(2**22))])
    assert archive.stat().st_size < 2**13
    with pytest.raises(DataError, match="unpacks to more than"):
        unpack(archive, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("num_bytes", [0, 1000])
@pytest.mark.parametrize("kind", [".tar", ".zip"])
def test_the_limit_is_for_all_files_together_and_counts_empty_ones(
    kind: str, num_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = pack(tmp_path / f"set{kind}", [(f"set/{number}", bytes(num_bytes)) for number in range(9)])
    monkeypatch.setattr(archives, "_MOST", 0)
    monkeypatch.setattr(archives, "_FLOOR", 9 * (512 + num_bytes))
    unpack(archive, tmp_path / "fits")
    monkeypatch.setattr(archives, "_FLOOR", 9 * (512 + num_bytes) - 1)
    with pytest.raises(DataError, match="at 'set/8'"):
        unpack(archive, tmp_path / "out")


def test_a_zip_member_longer_than_it_says_is_refused(tmp_path: Path) -> None:
    archive = pack(tmp_path / "set.zip", [("set/a", b"abcdefgh" * 100)])
    content = archive.read_bytes()
    central = content.rfind(b"PK\x01\x02")
    said = central + 24  # "uncompressed size" of the central directory
    assert int.from_bytes(content[said : said + 4], "little") == 800
    archive.write_bytes(content[:said] + (100).to_bytes(4, "little") + content[said + 4 :])
    with pytest.raises(DataError, match="is damaged"):
        unpack(archive, tmp_path / "out")


def test_a_sparse_file_is_refused(tmp_path: Path) -> None:
    archive = pack_tar(tmp_path / "set.tar", tar_member("set/holes", tarfile.GNUTYPE_SPARSE))
    with pytest.raises(DataError):
        unpack(archive, tmp_path / "out")


# ---- damage


def flip(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 255]) + content[at + 1 :]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def flip_the_middle(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(flip(content, len(content) // 2))


def flip_the_checksum(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(flip(content, len(content) - 6))


@pytest.mark.parametrize(
    ("kind", "damage"),
    [
        (".zip", cut), (".zip", flip_the_middle), (".tar.gz", cut), (".tar.gz", flip_the_middle),
        (".tar.gz", flip_the_checksum), (".tgz", flip_the_checksum),
    ],
)  # fmt: skip
def test_damage_is_noticed(kind: str, damage: Callable[[Path], None], tmp_path: Path) -> None:
    archive = pack(tmp_path / f"set{kind}", [("set/noise", os.urandom(20_000))])
    damage(archive)
    with pytest.raises(DataError, match="remove it to download it again"):
        unpack(archive, tmp_path / "out")


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_archive_is_refused(kind: str, tmp_path: Path) -> None:
    (tmp_path / f"set{kind}").write_bytes(b"<html>not found</html>" * 100)
    with pytest.raises(DataError, match=r"set\..*is damaged"):
        unpack(tmp_path / f"set{kind}", tmp_path / "out")
