from pathlib import Path

import pytest
from PIL import Image

from segkit.errors import DataError
from segkit.formats.annotations.image_folder import ImageFolder


def scan(root: Path, *names: str) -> ImageFolder:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (2, 2)).save(root / name)
    return ImageFolder.scan(root)


@pytest.mark.parametrize("name", ["a/1.x.jpg", "a/1.x", "1.x.jpg", "1.x", "C:\\data\\a\\1.x.jpg", "/far/away/1.x.jpg"])
def test_a_image_is_found_by_a_path_or_a_name_with_or_without_suffix(tmp_path: Path, name: str) -> None:
    folder = scan(tmp_path, "a/1.x.jpg", "b/2.jpg")
    found = folder.find(name, where="x")
    assert found == tmp_path / "a/1.x.jpg"
    assert folder.name(found) == "a/1.x"


def test_of_several_the_one_whose_path_ends_so_is_meant(tmp_path: Path) -> None:
    folder = scan(tmp_path, "a/1.jpg", "b/1.jpg", "b/1.png")
    assert folder.find("upload/b/1.jpg", where="x") == tmp_path / "b/1.jpg"
    for name in ("1.jpg", "b/1", "c/1.jpg"):
        with pytest.raises(DataError, match=f"x: '{name}' could be"):
            folder.find(name, where="x")


@pytest.mark.parametrize("name", ["2.jpg", "", "/", "..", "1.png"])
def test_what_isnt_there_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=f"x: found no image '{name}' below"):
        scan(tmp_path, "1.jpg").find(name, where="x")


def test_a_folder_without_images_and_none_at_all_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="found no images"):
        ImageFolder.scan(tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        ImageFolder.scan(tmp_path / "nowhere")
