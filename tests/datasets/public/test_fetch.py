import hashlib
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pooch
import pytest

from segkit.datasets.public import fetch as transfer
from segkit.datasets.public.fetch import RemoteFile
from segkit.errors import DataError

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


def obtain(file: RemoteFile, folder: Path) -> Path:
    return transfer.obtain(file, folder, folder / "own")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_fetched_whole_and_nothing_else_is_left_or_printed(
    remote: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pooch.get_logger().addHandler(caplog.handler)
    path = obtain(remote(num_bytes=len(CONTENT)), tmp_path)
    pooch.get_logger().removeHandler(caplog.handler)
    assert path.read_bytes() == CONTENT
    assert names(tmp_path) == ["set.tar"]
    assert caplog.text == ""


@pytest.mark.parametrize("kind", ["md5", "sha1", "sha256"])
def test_every_published_kind_of_digest_is_checked(kind: str, remote: Any, tmp_path: Path) -> None:
    right = f"{kind}:{hashlib.new(kind, CONTENT).hexdigest()}"
    assert obtain(remote(digest=right), tmp_path / "right").is_file()
    wrong = f"{kind}:{hashlib.new(kind, OTHER).hexdigest()}"
    with pytest.raises(DataError, match=f"expected {wrong} but got"):
        obtain(remote(digest=wrong), tmp_path / "wrong")
    assert names(tmp_path / "wrong") == []


def test_a_file_of_another_length_is_refused_before_it_is_fetched(remote: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="found a file of 9 bytes, expected 1048576"):
        obtain(remote(b"not found", num_bytes=len(CONTENT)), tmp_path)
    assert names(tmp_path) == []


# ---- resuming


def test_after_a_cut_connection_only_the_rest_is_fetched(remote: Any, web: Any, tmp_path: Path) -> None:
    web.cuts = [300_000, 500_000]
    assert obtain(remote(), tmp_path).read_bytes() == CONTENT
    assert web.requests == [("set.tar", asked) for asked in (None, "bytes=300000-", "bytes=800000-")]
    assert web.sent == len(CONTENT)


def test_a_call_resumes_where_an_earlier_one_gave_up(remote: Any, web: Any, tmp_path: Path) -> None:
    web.cuts = [300_000, 0, 0, 0]
    with pytest.raises(DataError, match="broke off after 300000 of 1048576 bytes"):
        obtain(remote(), tmp_path)
    assert (tmp_path / "set.tar.part").stat().st_size == 300_000
    assert obtain(remote(), tmp_path).read_bytes() == CONTENT
    assert web.sent == len(CONTENT)
    assert names(tmp_path) == ["set.tar"]


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


def test_a_server_without_ranges_sends_all_of_it_again(remote: Any, web: Any, tmp_path: Path) -> None:
    web.cuts, web.ranges = [300_000], False
    assert obtain(remote(), tmp_path).read_bytes() == CONTENT
    assert web.sent == len(CONTENT) + 300_000


def test_a_server_that_always_breaks_off_at_the_same_byte_is_given_up(remote: Any, web: Any, tmp_path: Path) -> None:
    web.cuts, web.ranges = [300_000] * 9, False
    with pytest.raises(DataError, match="broke off after 300000"):
        obtain(remote(), tmp_path)
    assert len(web.requests) == 3


def test_a_file_that_changed_on_the_server_is_fetched_anew(remote: Any, web: Any, tmp_path: Path) -> None:
    web.cuts = [300_000, 0, 0, 0]
    with pytest.raises(DataError):
        obtain(remote(OTHER), tmp_path)
    assert obtain(remote(CONTENT), tmp_path).read_bytes() == CONTENT
    assert [asked for _, asked in web.requests[-2:]] == ["bytes=300000-", None]


def test_a_part_that_is_all_of_it_needs_nothing_more(remote: Any, web: Any, tmp_path: Path) -> None:
    (tmp_path / "set.tar.part").write_bytes(CONTENT)
    assert obtain(remote(), tmp_path).read_bytes() == CONTENT
    assert web.sent == 0


def test_a_part_that_is_longer_than_the_file_is_dropped(remote: Any, tmp_path: Path) -> None:
    (tmp_path / "set.tar.part").write_bytes(CONTENT + b"more")
    assert obtain(remote(), tmp_path).read_bytes() == CONTENT


def test_without_a_digest_a_part_is_not_resumed_by_the_next_call(remote: Any, web: Any, tmp_path: Path) -> None:
    web.cuts = [300_000, 0, 0, 0]
    with pytest.raises(DataError):
        obtain(remote(OTHER, digest=None), tmp_path)
    assert obtain(remote(CONTENT, digest=None), tmp_path).read_bytes() == CONTENT
    assert web.requests[-1] == ("set.tar", None)


# ---- files that exist already


def test_a_file_saved_by_the_user_is_used(remote: Any, web: Any, tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "set.tar").write_bytes(CONTENT)
    assert obtain(remote(), tmp_path).read_bytes() == CONTENT
    assert web.requests == []


def test_a_wrong_file_saved_by_the_user_is_named_and_left_alone(remote: Any, web: Any, tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "set.tar").write_bytes(OTHER)
    with pytest.raises(DataError, match=r"set\.tar: its content is not sha256:\w+ as published; remove it"):
        obtain(remote(), tmp_path)
    assert (tmp_path / "own" / "set.tar").read_bytes() == OTHER
    assert web.requests == []


def test_a_fetched_file_is_not_fetched_again_unless_it_is_damaged(remote: Any, web: Any, tmp_path: Path) -> None:
    path = obtain(remote(), tmp_path)
    assert obtain(remote(), tmp_path) == path
    assert len(web.requests) == 1
    path.write_bytes(OTHER)
    assert obtain(remote(), tmp_path).read_bytes() == CONTENT


# ---- servers that don't give it


def test_the_next_url_is_tried_and_resumes_the_same_part(remote: Any, web: Any, tmp_path: Path) -> None:
    web.cuts = [300_000, 0, 0]
    file = remote(urls=(f"{web.url}/set.tar", f"{web.url}/gone.tar", f"{web.url}/mirror.tar"))
    web.files["mirror.tar"] = CONTENT
    assert obtain(file, tmp_path).read_bytes() == CONTENT
    assert web.requests[-2:] == [("gone.tar", "bytes=300000-"), ("mirror.tar", "bytes=300000-")]


def test_a_url_that_gives_another_file_is_skipped(remote: Any, web: Any, tmp_path: Path) -> None:
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
    assert str(tmp_path / "own" / "set.tar") in message
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
