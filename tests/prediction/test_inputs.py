import io
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from segkit.errors import DataError
from segkit.prediction import inputs
from segkit.prediction.inputs import find_inputs


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for name in ("a.jpg", "b.png", "deep/er/c.d.jpg"):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(path)
    return tmp_path / "in"


def test_a_pattern_finds_images_at_any_depth(images: Path) -> None:
    found = find_inputs(f"{images}/**/*.jpg", outside=Path("out"))
    assert found.root == images
    assert [path.name for path in found.paths] == ["a.jpg", "c.d.jpg"]


def test_an_image_with_brackets_in_its_name_is_taken_as_it_is(images: Path) -> None:
    odd = images / "x[1].jpg"
    (images / "a.jpg").rename(odd)
    assert find_inputs(str(odd), outside=Path("out")).paths == [odd]


@pytest.mark.parametrize(
    ("source", "words"),
    [("nowhere", "no such file or folder"), ("*.gif", "matches no image"), ("empty", "no images")],
)
def test_inputs_that_hold_no_image_are_named(tmp_path: Path, source: str, words: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=words):
        find_inputs(str(tmp_path / source), outside=Path("out"))


def test_a_pattern_follows_a_loop_of_folders_once(images: Path) -> None:
    (images / "deep" / "up").symlink_to(images)
    found = find_inputs(f"{images}/**/*.png", outside=Path("out")).paths
    assert [path.relative_to(images).as_posix() for path in found] == ["b.png"]


def test_a_pattern_follows_links_to_folders_elsewhere(images: Path, tmp_path: Path) -> None:
    (images / "deep").rename(tmp_path / "elsewhere")
    (images / "link").symlink_to(tmp_path / "elsewhere")
    found = find_inputs(f"{images}/**/*.d.jpg", outside=Path("out")).paths
    assert found == [images / "link" / "er" / "c.d.jpg"]


def test_a_pattern_that_matches_an_image_in_two_ways_lists_it_once(images: Path) -> None:
    found = find_inputs(f"{images}/**/**/*.jpg", outside=Path("out")).paths
    assert [path.name for path in found] == ["a.jpg", "c.d.jpg"]


def test_numbered_frames_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for name in ("f9.png", "f10.png", "f2.png", "f2.jpg", "g3.png"):
        (tmp_path / name).write_bytes(b"")
    found = find_inputs(str(tmp_path / "f%d.png"), outside=Path("out"))
    assert [path.name for path in found.paths] == ["f2.png", "f9.png", "f10.png"]


def test_a_form_of_numbers_with_leading_zeros_leaves_out_shorter_ones(tmp_path: Path) -> None:
    for name in ("000001.png", "000010.png", "1.png"):
        (tmp_path / name).write_bytes(b"")
    found = find_inputs(str(tmp_path / "%06d.png"), outside=Path("out"))
    assert [path.name for path in found.paths] == ["000001.png", "000010.png"]


def test_a_form_that_no_file_has_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no file has a name of that form; expected one such as f0001\.png"):
        find_inputs(str(tmp_path / "f%04d.png"), outside=Path("out"))


def test_a_text_file_lists_paths_in_its_order(images: Path, tmp_path: Path) -> None:
    listed = [images / "b.png", images / "deep" / "er" / "c.d.jpg", images / "a.jpg"]
    (tmp_path / "list.txt").write_text("\n".join(map(str, [*listed, "", listed[0]])))
    found = find_inputs(str(tmp_path / "list.txt"), outside=Path("out"))
    assert found.paths == listed
    assert [path.as_posix() for path in found.relative()] == ["b.png", "deep/er/c.d.jpg", "a.jpg"]


def test_relative_paths_of_a_list_are_those_of_the_current_folder(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(images)
    (tmp_path / "list.txt").write_text("a.jpg\n../in/b.png\n")
    found = find_inputs(str(tmp_path / "list.txt"), outside=Path("out"))
    assert [path.as_posix() for path in found.relative()] == ["a.jpg", "b.png"]


def test_the_standard_input_lists_paths_and_nul_separates_names_with_newlines(
    images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = images / "two\nlines.png"
    content = b"\0".join(os.fsencode(path) for path in (odd, images / "a.jpg"))
    monkeypatch.setattr(inputs.sys, "stdin", SimpleNamespace(buffer=io.BytesIO(content)))
    assert find_inputs("-", outside=Path("out")).paths == [odd, images / "a.jpg"]


def test_an_empty_list_is_refused(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("\n\n")
    with pytest.raises(DataError, match="lists no image; expected a path per line"):
        find_inputs(str(tmp_path / "list.txt"), outside=Path("out"))


def test_a_folder_that_cannot_be_listed_is_among_the_inputs(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scan = os.scandir

    def refuse(path: str) -> object:
        if Path(path).name == "deep":
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)  # the tests may run as root, whom no permission stops
    found = find_inputs(str(images), outside=Path("out")).paths
    assert [path.name for path in found] == ["a.jpg", "b.png", "deep"]


def test_the_standard_input_is_refused_by_several_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(DataError, match=r"write the list to a \.txt file"):
        find_inputs("-", outside=Path("out"))
