import numpy as np
import pytest

from segkit.inference.postprocess import ClassRule, Postprocess

DIGITS = {".": 0, "#": 1, "o": 2, "~": 255}


def drawn(*rows: str) -> np.ndarray:
    return np.array([[DIGITS[letter] for letter in row] for row in rows], np.uint8)


def apply(mask: np.ndarray, confidence: np.ndarray | None = None, /, class_id: int = 1, **rule: object) -> np.ndarray:
    return Postprocess({class_id: ClassRule(**rule)})(mask, confidence)  # type: ignore[arg-type]


# ---- components


def test_components_of_fewer_pixels_are_dropped_and_larger_ones_stay() -> None:
    mask = drawn("##....", "##...#", "....#.", "......")
    assert np.array_equal(apply(mask, min_component=3), drawn("##....", "##....", "......", "......"))
    assert np.array_equal(apply(mask, min_component=2), mask)  # diagonal neighbours are connected


def test_a_dropped_component_becomes_what_most_of_its_neighbours_are() -> None:
    mask = drawn("......", "ooooo.", "oo#oo.", "ooooo.", "......")
    assert apply(mask, min_component=2)[2, 2] == 2
    mask = drawn("......", "......", ".o#o..", "......", "......")
    assert apply(mask, min_component=2)[2, 2] == 0


def test_only_the_largest_component_is_kept() -> None:
    mask = drawn("##..###", "##..###", ".......", "#......")
    assert np.array_equal(apply(mask, keep_largest=True), drawn("....###", "....###", ".......", "......."))


def test_of_equally_large_components_the_topmost_then_leftmost_is_kept() -> None:
    mask = drawn("...#.#", "#.....")
    assert np.array_equal(apply(mask, keep_largest=True), drawn("...#..", "......"))


def test_a_component_without_neighbours_stays() -> None:
    full = np.ones((3, 4), np.uint8)
    assert np.array_equal(apply(full, min_component=100), full)
    beside_ignored = drawn("#~", "~~")
    assert np.array_equal(apply(beside_ignored, min_component=100), beside_ignored)


def test_components_of_other_classes_are_left_alone() -> None:
    mask = drawn("o....", "...#.")
    assert np.array_equal(apply(mask, class_id=1, min_component=2), drawn("o....", "....."))
    assert np.array_equal(apply(mask, class_id=2, min_component=2), drawn(".....", "...#."))


def test_a_component_at_the_edge_of_the_image_is_one_like_any_other() -> None:
    mask = np.zeros((5, 6), np.uint8)
    mask[0, 0] = mask[4, 5] = mask[2, 5] = 1
    assert not apply(mask, min_component=2).any()


# ---- holes


def test_holes_are_filled_up_to_a_size_and_larger_ones_stay() -> None:
    mask = drawn("#######", "#.##..#", "####..#", "#######")
    assert np.array_equal(apply(mask, max_hole=1), drawn("#######", "####..#", "####..#", "#######"))
    assert (apply(mask, max_hole=4) == 1).all()


def test_what_is_open_to_the_edge_is_no_hole() -> None:
    mask = drawn("###.###", "###.###", "#######")
    assert np.array_equal(apply(mask, max_hole=50), mask)


def test_a_hole_that_leaks_only_at_a_corner_is_one() -> None:
    mask = drawn("####.", "#.##.", "####.", ".....")
    assert apply(mask, max_hole=1)[1, 1] == 1
    diagonal = drawn("###.", "#.#.", "##..", "....")  # the hole touches the outside diagonally
    assert apply(diagonal, max_hole=1)[1, 1] == 1


def test_ignored_pixels_in_a_hole_stay() -> None:
    mask = drawn("#####", "#.~.#", "#####")
    assert np.array_equal(apply(mask, max_hole=3), drawn("#####", "##~##", "#####"))


# ---- confidence


def test_unsure_pixels_become_the_nearest_other_class() -> None:
    mask = drawn("oo####..", "oo####..")
    confidence = np.full(mask.shape, 0.9, np.float32)
    confidence[:, 2] = confidence[0, 5] = 0.3
    assert np.array_equal(apply(mask, confidence, min_confidence=0.5), drawn("ooo##...", "ooo###.."))
    assert np.array_equal(apply(mask, confidence, min_confidence=0.2), mask)


def test_unsure_pixels_amid_their_own_class_stay() -> None:
    mask = drawn("#####.", "#####.", "#####.")
    confidence = np.full(mask.shape, 0.9, np.float32)
    confidence[1, 1] = 0.1
    assert np.array_equal(apply(mask, confidence, min_confidence=0.5), mask)


def test_a_rule_on_confidence_needs_one() -> None:
    rules = Postprocess({1: ClassRule(min_confidence=0.5)})
    assert rules.needs_confidence
    with pytest.raises(ValueError, match="found None"):
        rules(drawn("#."))
    assert not Postprocess({1: ClassRule(min_component=3, max_hole=2)}).needs_confidence


# ---- together


def test_rules_of_classes_are_applied_one_after_the_other_in_their_order() -> None:
    mask = drawn(".....", ".ooo.", ".o#o.", ".ooo.", ".....")
    drop = ClassRule(min_component=9)
    assert (Postprocess({2: ClassRule(min_component=9, max_hole=1)})(mask) != 2).all()  # 8 pixels when it is looked at
    assert (Postprocess({1: ClassRule(min_component=2), 2: drop})(mask) == 2).sum() == 9  # 9 by then
    assert (Postprocess({2: drop, 1: ClassRule(min_component=2)})(mask) == 2).sum() == 0


def test_what_is_given_is_not_changed() -> None:
    mask = drawn("#....", "..###", "..#.#", "..###")
    before = mask.copy()
    after = apply(mask, min_component=2, max_hole=1)
    assert np.array_equal(mask, before)
    assert not np.array_equal(after, before)


@pytest.mark.parametrize("rule", [ClassRule(), ClassRule(min_component=5, keep_largest=True, max_hole=5)])
def test_masks_of_a_pixel_and_masks_without_the_class_pass(rule: ClassRule) -> None:
    for mask in (drawn("#"), drawn("."), drawn("..", "o.")):
        assert np.array_equal(Postprocess({1: rule})(mask), mask)


def test_rules_survive_plain_values_with_their_order() -> None:
    rules = Postprocess(
        {3: ClassRule(min_component=64), 1: ClassRule(keep_largest=True, min_confidence=0.5)}, 254, "val"
    )
    again = Postprocess.from_dict(rules.to_dict())
    assert again == rules
    assert list(again.rules) == [3, 1]


def test_a_rule_of_a_newer_segkit_is_named() -> None:
    with pytest.raises(ValueError, match="found a rule smooth, expected keep_largest, "):
        Postprocess.from_dict({"rules": [{"class": 1, "smooth": 3}], "ignore_index": 255, "tuned_on": "val"})


@pytest.mark.parametrize("settings", [{"min_confidence": 1.5}, {"min_component": -1}, {"max_hole": -3}])
def test_numbers_outside_their_range_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(settings))}: found {next(iter(settings.values()))}"):
        ClassRule(**settings)  # type: ignore[arg-type]
