import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segkit.config.schema import DataConfig
from segkit.datasets import survey as doctor
from segkit.datasets.layouts import Item, list_items, resolve_classes
from segkit.datasets.masks import build_mask_reader
from segkit.datasets.survey import survey
from segkit.errors import DataError
from segkit.loading.prepare import prepare_data


def look(data: DataConfig, split: str = "train") -> doctor.Survey:
    reader = build_mask_reader(data, resolve_classes(data))
    return survey(list_items(data, split), reader, title="checking")


def test_pixels_and_images_are_counted_by_class(write_folders: Callable[..., DataConfig]) -> None:
    masks = {
        "a": np.array([[0, 0, 1]], np.uint8),
        "b": np.array([[0, 255, 255]], np.uint8),
        "c": np.zeros((1, 3), np.uint8),
    }
    data = write_folders(masks, val_fraction=0.0, train="train")
    (Path(data.root) / "train.txt").write_text("a\nb\nc\n")
    found = look(data)
    assert found.class_pixels == (6, 1)
    assert found.class_images == (3, 1)
    assert found.surrounding_pixels == (7, 3)
    assert found.ignored_pixels == 2


def test_a_survey_knows_which_classes_each_image_shows(write_folders: Callable[..., DataConfig]) -> None:
    names = tuple(f"class {k}" for k in range(11))  # more than a byte's worth
    rows = np.random.default_rng(0).integers(0, 11, (20, 5)).astype(np.uint8)
    data = write_folders({f"{k:02d}": row[None] for k, row in enumerate(rows)}, classes=names, val_fraction=0.0)
    (Path(data.root) / "train.txt").write_text("".join(f"{k:02d}\n" for k in range(20)))
    for found in (look(data), look(data)):  # the second is remembered
        assert found.presence.shape == (20, 11)
        assert [set(np.flatnonzero(shown)) for shown in found.presence] == [set(row) for row in rows.tolist()]
        assert len(found.shown) == 20 * 2


def test_a_survey_knows_the_sizes_of_images_and_at_which_factor_the_middle_one_fits(
    write_folders: Callable[..., DataConfig],
) -> None:
    sizes = [(10, 20), (40, 10), (10, 20), (80, 100), (10, 20)]
    masks = {f"{k}": np.resize(np.array([0, 1], np.uint8), hw) for k, hw in enumerate(sizes)}
    data = write_folders(masks, val_fraction=0.0)
    (Path(data.root) / "train.txt").write_text("".join(f"{k}\n" for k in range(5)))
    for found in (look(data), look(data)):  # the second is remembered
        assert found.sizes == ((10, 20, 3), (40, 10, 1), (80, 100, 1))
        assert found.median_fit((40, 40)) == 2  # of 0.4, 1, 2, 2, 2
        assert found.median_fit((10, 40)) == 1  # of 0.1, 0.25, 1, 1, 1


def test_the_middle_of_an_even_number_of_images_is_the_lower_one() -> None:
    sizes = ((10, 10, 2), (20, 20, 1), (40, 40, 1))
    found = doctor.Survey(4, (1,), (4,), (1,), 0, b"\x80" * 4, sizes)
    assert found.median_fit((40, 40)) == 2
    assert doctor.Survey(4, (1,), (4,), (1,), 0, b"\x80" * 4).median_fit((40, 40)) is None


@pytest.mark.parametrize("change", ["missing", "cut", "other"])
def test_a_memory_that_does_not_say_what_images_show_is_looked_at_again(
    write_folders: Callable[..., DataConfig], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, change: str
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "memory"))
    data = write_folders({name: np.array([[0, 1]], np.uint8) for name in "abcd"})
    first = look(data)
    (path,) = (tmp_path / "memory").rglob("survey-*.json")
    plain = json.loads(path.read_text())
    shown = plain.pop("shown")
    if change != "missing":
        plain["shown"] = shown[:2] if change == "cut" else "00" * (len(shown) // 2)
    path.write_text(json.dumps(plain))
    assert look(data) == first
    assert json.loads(path.read_text())["shown"] == shown


def test_wrong_files_are_all_counted_and_ten_are_shown(write_folders: Callable[..., DataConfig]) -> None:
    data = write_folders({f"m{k}": np.full((4, 4), 9, np.uint8) for k in range(16)}, val_fraction=0.01)
    with pytest.raises(DataError, match=r"5 more \(15 in total\)"):
        look(data)


def test_masks_of_0_and_255_come_with_the_config_line_that_reads_them(write_folders: Callable[..., DataConfig]) -> None:
    data = write_folders({name: np.array([[0, 255]], np.uint8) for name in "abcd"})
    with pytest.raises(DataError, match=r"no pixel of class 'object'.*set data\.mask_values: \[0, 255\]"):
        look(data)


def test_mapped_masks_without_the_second_class_are_not_second_guessed(write_folders: Callable[..., DataConfig]) -> None:
    data = write_folders({n: np.array([[0, 9]], np.uint8) for n in "abcd"}, mask_values=(0, 255), ignore_values=(9,))
    assert look(data).class_pixels == (3, 0)


def test_masks_without_a_single_label_are_refused(write_folders: Callable[..., DataConfig]) -> None:
    data = write_folders({n: np.full((2, 2), 255, np.uint8) for n in "abcd"}, classes=("a", "b", "c"))
    with pytest.raises(DataError, match="not one labelled pixel"):
        look(data)


def test_sizes_and_truncation_are_found_without_training(write_folders: Callable[..., DataConfig]) -> None:
    data = write_folders({name: np.array([[0, 1]], np.uint8) for name in "abcdefgh"}, val_fraction=0.01)
    images = Path(data.root) / "images"
    Image.new("RGB", (5, 5)).save(images / "a.png")
    (images / "b.png").write_bytes((images / "b.png").read_bytes()[:-30])
    (images / "c.png").write_bytes(b"")
    with pytest.raises(DataError) as caught:
        look(data)
    for words in ("a.png is 5x5", "b.png: the image is damaged", "c.png: the file is empty"):
        assert words in str(caught.value)


def test_a_clean_survey_is_remembered_until_a_file_changes(
    write_folders: Callable[..., DataConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_folders({name: np.array([[0, 1]], np.uint8) for name in "abcd"})
    first = look(data)
    calls = []
    original = doctor._look
    monkeypatch.setattr(doctor, "_look", lambda *a, **k: calls.append(1) or original(*a, **k))
    assert look(data) == first
    assert not calls
    changed = list_items(data, "train")[0].mask
    assert changed is not None
    Image.fromarray(np.array([[1, 1]], np.uint8)).save(changed)
    assert look(data).class_pixels == (first.class_pixels[0] - 1, first.class_pixels[1] + 1)
    assert calls


def test_a_damaged_memory_is_no_problem(
    write_folders: Callable[..., DataConfig], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "memory"))
    data = write_folders({name: np.array([[0, 1]], np.uint8) for name in "abcd"})
    first = look(data)
    for path in (tmp_path / "memory").rglob("*.json"):
        path.write_text("{")
    assert look(data) == first


def test_a_image_in_both_splits_is_refused(shapes: Path) -> None:
    with pytest.raises(DataError, match=r"in 'train' and in 'train'; remove it from one"):
        prepare_data(DataConfig(root=str(shapes), val="train"), seed=0)


def test_a_training_set_of_one_class_is_refused(write_folders: Callable[..., DataConfig]) -> None:
    data = write_folders({name: np.zeros((4, 4), np.uint8) for name in "abcd"})
    with pytest.raises(DataError, match="every labelled pixel is 'background'"):
        prepare_data(data, seed=0)


def test_items_survive_the_way_to_other_ranks() -> None:
    import pickle

    item = Item("a", Path("a.jpg"), Path("a.png"))
    assert pickle.loads(pickle.dumps(item)) == item


@pytest.mark.parametrize("name", ["camvid", "voc2012_sample", "weizmann_horses", "drive", "leaf_black_rot"])
def test_real_data_sets_are_sound(shared_data: Callable[[str], Path], name: str) -> None:
    prepared = prepare_data(DataConfig(root=str(shared_data(name))), seed=0)
    assert sum(prepared.survey.class_pixels) > 0
