import hashlib
import json
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from segkit.datasets.public import fetch as transfer
from segkit.datasets.public.fetch import RemoteFile, discard, obtain
from segkit.errors import DataError, RunFolderError

CONTENT = bytes(range(256)) * 4096  # 1 MiB
OTHER = CONTENT[::-1]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "PAUSES", (0.0, 0.0))


@pytest.fixture
def remote(web: Any) -> Callable[..., RemoteFile]:
    """Put a file on the server and describe it."""

    def make(content: bytes = CONTENT, **settings: Any) -> RemoteFile:
        web.files["set.tar"] = content
        digest = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
        return RemoteFile(**{"name": "set.tar", "urls": (f"{web.url}/set.tar",), "digest": digest, **settings})

    return make


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_fetched_whole_and_all_else_that_is_left_says_from_where(remote: Any, tmp_path: Path) -> None:
    path = obtain(remote(num_bytes=len(CONTENT)), tmp_path)
    assert path.read_bytes() == CONTENT
    assert names(tmp_path) == ["set.tar", "set.tar.json"]
    assert json.loads((tmp_path / "set.tar.json").read_text())["url"].endswith("/set.tar")


@pytest.mark.parametrize("kind", ["md5", "sha1", "sha256"])
def test_every_published_kind_of_digest_is_checked(kind: str, remote: Any, tmp_path: Path) -> None:
    right = f"{kind}:{hashlib.new(kind, CONTENT).hexdigest()}"
    assert obtain(remote(digest=right), tmp_path / "right").is_file()
    wrong = f"{kind}:{hashlib.new(kind, OTHER).hexdigest()}"
    with pytest.raises(DataError, match=f"found a content of {kind} .*, expected {wrong.partition(':')[2]}"):
        obtain(remote(digest=wrong), tmp_path / "wrong")


def test_a_file_of_another_content_is_refused_and_not_kept(remote: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="as published"):
        obtain(remote(OTHER), tmp_path)
    assert names(tmp_path) == []


def test_a_file_of_another_length_is_refused_before_it_is_fetched(remote: Any, web: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="found a file of 9 bytes, expected 1048576"):
        obtain(remote(b"not found", num_bytes=len(CONTENT)), tmp_path)
    assert names(tmp_path) == []


# ---- going on


def test_after_a_cut_connection_only_the_rest_is_fetched(remote: Any, web: Any, tmp_path: Path) -> None:
    web.cuts = [300_000, 500_000]
    assert obtain(remote(), tmp_path).read_bytes() == CONTENT
    assert web.requests == [("set.tar", asked) for asked in (None, "bytes=300000-", "bytes=800000-")]
    assert web.sent == len(CONTENT)


def test_a_call_goes_on_where_an_earlier_one_gave_up(remote: Any, web: Any, tmp_path: Path) -> None:
    web.cuts = [300_000, 0, 0, 0]
    with pytest.raises(DataError, match="broke off after 300000 of 1048576 bytes"):
        obtain(remote(), tmp_path)
    assert (tmp_path / "set.tar.part").stat().st_size == 300_000
    assert obtain(remote(), tmp_path).read_bytes() == CONTENT
    assert web.sent == len(CONTENT)
    assert names(tmp_path) == ["set.tar", "set.tar.json"]


def test_ctrl_c_leaves_what_was_fetched(remote: Any, web: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = transfer._read

    def read_and_stop(response: Any) -> bytes:
        if (tmp_path / "set.tar.part").stat().st_size >= 2**19:
            raise KeyboardInterrupt
        return read(response)

    with monkeypatch.context() as patch:
        patch.setattr(transfer, "_CHUNK", 2**17)
        patch.setattr(transfer, "_read", read_and_stop)
        with pytest.raises(KeyboardInterrupt):
            obtain(remote(), tmp_path)
    assert (tmp_path / "set.tar.part").stat().st_size >= 2**19
    assert obtain(remote(), tmp_path).read_bytes() == CONTENT
    assert web.requests[-1][1] is not None


def test_a_server_that_knows_no_ranges_sends_all_of_it_again(remote: Any, web: Any, tmp_path: Path) -> None:
    web.cuts, web.ranges = [300_000], False
    assert obtain(remote(), tmp_path).read_bytes() == CONTENT
    assert web.sent == len(CONTENT) + 300_000


def test_a_server_that_always_breaks_off_at_the_same_place_is_given_up(remote: Any, web: Any, tmp_path: Path) -> None:
    web.cuts, web.ranges = [300_000] * 9, False
    with pytest.raises(DataError, match="broke off after 300000"):
        obtain(remote(), tmp_path)
    assert len(web.requests) == 3


@pytest.mark.parametrize("etag", ['"2"', None], ids=["told by its version", "told by its digest alone"])
def test_a_file_that_changed_in_between_is_fetched_anew(
    etag: str | None, remote: Any, web: Any, tmp_path: Path
) -> None:
    web.cuts = [300_000, 0, 0, 0]
    web.etag = '"1"' if etag else None
    with pytest.raises(DataError):
        obtain(remote(OTHER), tmp_path)
    web.etag = etag
    assert obtain(remote(CONTENT), tmp_path).read_bytes() == CONTENT


def test_a_part_that_is_all_of_it_needs_nothing_more(remote: Any, web: Any, tmp_path: Path) -> None:
    (tmp_path / "set.tar.part").write_bytes(CONTENT)
    assert obtain(remote(), tmp_path).read_bytes() == CONTENT
    assert web.sent == 0


def test_a_part_that_is_longer_than_the_file_is_dropped(remote: Any, tmp_path: Path) -> None:
    (tmp_path / "set.tar.part").write_bytes(CONTENT + b"more")
    assert obtain(remote(), tmp_path).read_bytes() == CONTENT


def test_without_a_digest_or_a_version_a_part_is_not_joined(remote: Any, web: Any, tmp_path: Path) -> None:
    web.cuts, web.etag = [300_000], None
    assert obtain(remote(digest=None), tmp_path).read_bytes() == CONTENT
    assert web.requests[1] == ("set.tar", None)


def test_without_a_digest_a_part_of_the_same_version_is_joined(remote: Any, web: Any, tmp_path: Path) -> None:
    web.cuts = [300_000]
    assert obtain(remote(digest=None), tmp_path).read_bytes() == CONTENT
    assert web.requests[1] == ("set.tar", "bytes=300000-")


def test_without_a_digest_a_part_of_another_version_is_not_joined(remote: Any, web: Any, tmp_path: Path) -> None:
    web.cuts = [300_000, 0, 0]
    with pytest.raises(DataError):
        obtain(remote(OTHER, digest=None), tmp_path)
    web.etag = '"2"'
    assert obtain(remote(CONTENT, digest=None), tmp_path).read_bytes() == CONTENT


def test_without_a_digest_a_part_longer_than_the_file_is_dropped(remote: Any, web: Any, tmp_path: Path) -> None:
    web.cuts = [300_000, 0, 0, 0]
    with pytest.raises(DataError):
        obtain(remote(digest=None), tmp_path)
    assert obtain(remote(CONTENT[:200_000], digest=None), tmp_path).read_bytes() == CONTENT[:200_000]


# ---- what is there already


def test_a_file_put_there_by_hand_is_used(remote: Any, web: Any, tmp_path: Path) -> None:
    (tmp_path / "set.tar").write_bytes(CONTENT)
    assert obtain(remote(), tmp_path).read_bytes() == CONTENT
    assert web.requests == []


def test_a_wrong_file_put_there_by_hand_is_named_and_left_alone(remote: Any, web: Any, tmp_path: Path) -> None:
    (tmp_path / "set.tar").write_bytes(OTHER)
    with pytest.raises(DataError, match=r"set\.tar: found a content of sha256 .*; remove it"):
        obtain(remote(), tmp_path)
    assert (tmp_path / "set.tar").read_bytes() == OTHER
    assert web.requests == []


def test_only_what_was_fetched_is_discarded(remote: Any, tmp_path: Path) -> None:
    fetched = obtain(remote(), tmp_path / "fetched")
    discard(fetched)
    assert names(tmp_path / "fetched") == []
    (tmp_path / "set.tar").write_bytes(CONTENT)
    discard(obtain(remote(), tmp_path))
    assert (tmp_path / "set.tar").is_file()


# ---- servers that don't give it


def test_the_next_address_is_tried_and_goes_on_with_the_same_part(remote: Any, web: Any, tmp_path: Path) -> None:
    web.cuts = [300_000, 0, 0]
    file = remote(urls=(f"{web.url}/set.tar", f"{web.url}/gone.tar", f"{web.url}/mirror.tar"))
    web.files["mirror.tar"] = CONTENT
    assert obtain(file, tmp_path).read_bytes() == CONTENT
    assert web.requests[-2:] == [("gone.tar", "bytes=300000-"), ("mirror.tar", "bytes=300000-")]


def test_an_address_that_gives_another_file_is_passed_over(remote: Any, web: Any, tmp_path: Path) -> None:
    web.files["moved.html"] = b"<html>"
    file = remote(urls=(f"{web.url}/moved.html", f"{web.url}/set.tar"))
    assert obtain(file, tmp_path).read_bytes() == CONTENT


def test_a_busy_server_is_asked_again(remote: Any, web: Any, tmp_path: Path) -> None:
    web.statuses = [503, 429]
    assert obtain(remote(), tmp_path).read_bytes() == CONTENT


def test_a_missing_file_is_asked_for_once(remote: Any, web: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.tar: the server answers 404"):
        obtain(remote(urls=(f"{web.url}/gone.tar",)), tmp_path)
    assert len(web.requests) == 1


def test_without_a_network_the_message_says_what_to_put_where(remote: Any, tmp_path: Path) -> None:
    file = remote(urls=("http://127.0.0.1:9/set.tar",))  # the port of "discard", where nobody listens
    with pytest.raises(DataError) as caught:
        obtain(file, tmp_path)
    message = str(caught.value)
    assert "http://127.0.0.1:9/set.tar: can't be reached" in message
    assert str(tmp_path / "set.tar") in message
    assert hashlib.sha256(CONTENT).hexdigest() in message


def test_the_proxy_of_the_environment_is_used(
    remote: Any, web: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("no_proxy")
    monkeypatch.setenv("http_proxy", web.url)
    monkeypatch.setattr(urllib.request, "_opener", None)  # which remembers the proxies of the first request
    url = "http://nowhere.invalid/set.tar"  # which only a proxy could find
    web.files[url] = CONTENT
    assert obtain(remote(urls=(url,)), tmp_path).read_bytes() == CONTENT
    assert web.requests == [(url, None)]


def test_too_little_room_is_said_before_the_transfer(
    remote: Any, web: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "free_disk", lambda _: 1000)
    with pytest.raises(RunFolderError, match=r"the rest of set\.tar needs about 1 MiB, 0 MiB are free there"):
        obtain(remote(), tmp_path)
    assert names(tmp_path) == []
