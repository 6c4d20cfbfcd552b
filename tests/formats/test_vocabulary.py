from pathlib import Path

import pytest

from segkit.errors import ConfigError, DataError
from segkit.formats.options import ReadOptions
from segkit.formats.vocabulary import Vocabulary

SOURCE = Path("src")


def test_background_goes_in_front_of_the_sources_order() -> None:
    built = Vocabulary.build(SOURCE, ["dog", "cat", "dog"], ReadOptions())
    assert built.classes.names == ("background", "dog", "cat")
    assert built.ids == {"dog": 1, "cat": 2}
    assert built.rest == 0


def test_the_sources_own_backgrounds_are_the_background_with_their_colour() -> None:
    labels = ["dog", "_background_", "Background"]
    built = Vocabulary.build(SOURCE, labels, ReadOptions(), colors={"_background_": (9, 8, 7)})
    assert built.classes.names == ("background", "dog")
    assert built.classes.colors[0] == (9, 8, 7)
    assert built.ids == {"dog": 1, "_background_": 0, "Background": 0}


def test_a_list_beside_the_source_says_the_ids_and_what_has_no_label() -> None:
    built = Vocabulary.build(SOURCE, ["dog", "cow"], ReadOptions(), names=["cat", "dog"])
    assert built.ids == {"dog": 1, "cow": 255}
    assert built.rest == 255
    assert built.notes == (
        "pixels without a label are ignored, since no class is called background",
        "labels that are not among the classes become ignored: cow",
    )


def test_no_background_is_added_where_unlabelled_pixels_are_ignored() -> None:
    built = Vocabulary.build(SOURCE, ["dog", "cat"], ReadOptions(unlabeled="ignore"))
    assert built.classes.names == ("dog", "cat")
    assert built.rest == 255


def test_the_user_overrides_the_formats_rule() -> None:
    built = Vocabulary.build(SOURCE, ["dog", "cat"], ReadOptions(unlabeled="background"), unlabeled="ignore")
    assert built.classes.names == ("background", "dog", "cat")
    assert built.rest == 0


def test_classes_are_chosen_and_what_is_dropped_is_said() -> None:
    built = Vocabulary.build(SOURCE, ["dog", "cat", "cow"], ReadOptions(classes=("background", "cow", "dog")))
    assert built.ids == {"dog": 2, "cow": 1, "cat": 0}
    assert built.notes == ("labels that are not among the classes become background: cat",)


def test_a_chosen_class_that_the_source_lacks_is_said() -> None:
    built = Vocabulary.build(SOURCE, ["dog"], ReadOptions(classes=("background", "dgo", "dog")))
    assert built.notes == ("no label of the source is called dgo; it has: dog",)


def test_the_sources_background_may_be_called_otherwise() -> None:
    built = Vocabulary.build(SOURCE, ["_background_", "dog"], ReadOptions(classes=("dog", "background")))
    assert built.ids == {"_background_": 1, "dog": 0}
    assert not built.notes


def test_chosen_classes_without_the_background_that_is_needed_are_refused() -> None:
    with pytest.raises(ConfigError, match="--classes background,cat,dog"):
        Vocabulary.build(SOURCE, ["dog", "cat"], ReadOptions(classes=("cat", "dog")))
    built = Vocabulary.build(SOURCE, ["dog", "cat"], ReadOptions(classes=("cat", "dog"), unlabeled="ignore"))
    assert built.rest == 255


def test_colors_follow_their_names() -> None:
    built = Vocabulary.build(SOURCE, ["dog", "cat"], ReadOptions(), colors={"cat": (9, 8, 7)})
    assert built.classes.colors == ((0, 0, 0), (128, 0, 0), (9, 8, 7))


def test_no_label_at_all_is_an_error() -> None:
    with pytest.raises(DataError, match="found no label"):
        Vocabulary.build(SOURCE, [], ReadOptions())
