import random
import unicodedata
from collections import Counter
from pathlib import Path, PurePosixPath

from segkit.prediction.names import SUFFIXES, output_names


def names_of(*relative: str) -> list[str]:
    return output_names([Path(name) for name in relative])


def test_an_output_is_named_as_its_input_without_suffix() -> None:
    assert names_of("a.jpg", "b.PNG", "deep/er/c.d.jpg", "no/suffix") == ["a", "b", "deep/er/c.d", "no/suffix"]


def test_suffixes_are_kept_where_names_would_be_equal_without_them() -> None:
    assert names_of("a.jpg", "a.png", "b.png", "in/a.jpg") == ["a.jpg", "a.png", "b", "in/a"]


def test_a_kept_suffix_does_not_take_the_name_of_another() -> None:
    assert names_of("a.jpg", "a.jpg.png", "a.png") == ["a.jpg", "a.jpg.png", "a.png"]


def test_names_that_differ_only_in_case_are_numbered() -> None:
    assert names_of("A.jpg", "a.jpg", "B/x.png", "b/y.png") == ["A.jpg", "a.jpg-2", "B/x", "b/y"]


def test_names_that_differ_only_in_how_an_accent_is_stored_are_numbered() -> None:
    assert names_of("caf\u00e9.jpg", "cafe\u0301.jpg") == ["caf\u00e9.jpg", "cafe\u0301.jpg-2"]


def test_a_file_is_not_named_as_a_folder_that_others_need() -> None:
    assert names_of("a.jpg", "a.png/b.jpg") == ["a.jpg", "a.png/b"]


def test_names_stay_below_the_output_folder() -> None:
    assert names_of("x/../../a.jpg", "../a.png", "...jpg") == ["x/a", "a", ".."]


def test_names_of_any_inputs_are_usable_together_on_any_file_system() -> None:
    """Names of few letters, so that stems, suffixes, cases and folders collide often."""
    rng = random.Random(0)
    words = ["a", "A", "b", "a.jpg", "A.PNG", "a.png-2", "a.jpg-2", "..", "\u00e9", "e\u0301", "\udce9"]
    numbered = 0
    for _ in range(3000):
        made = ["/".join(rng.choices(words, k=rng.choice((1, 1, 1, 2, 3)))) + rng.choice((".jpg", ".png", ".JPG"))
                for _ in range(rng.randint(1, 8))]  # fmt: skip
        relative = sorted({Path(name) for name in made})
        names = output_names(relative)
        folders = {as_stored(parent.as_posix()) for name in names for parent in PurePosixPath(name).parents}
        for suffix in SUFFIXES:
            written = {as_stored(name + suffix) for name in names}
            assert len(written) == len(relative), relative
            assert not written & folders, relative
        assert all(".." not in PurePosixPath(name).parent.parts and not name.startswith("/") for name in names)
        plain = [path.with_suffix("").as_posix() for path in relative]
        counts = Counter(as_stored(name) for name in plain)
        if max(counts.values()) == 1 and not any(".." in name or "." in name for name in plain):
            assert names == plain
        numbered += any(name.endswith("-2") and path.suffix for name, path in zip(names, relative, strict=True))
    assert numbered > 100  # the set of words does make them collide


def as_stored(name: str) -> str:
    """Return what a file system that ignores case and how accents are stored takes a name for."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).lower())
