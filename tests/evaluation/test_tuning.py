import numpy as np
import pytest

from segkit.classes import Classes
from segkit.errors import RunFolderError
from segkit.evaluation.confusion import ConfusionMatrix
from segkit.evaluation.tuning import (
    CONFIDENCES,
    MaskStore,
    PredictedImage,
    candidates,
    choosing_half,
    confidence_level,
    tune,
)
from segkit.inference.postprocess import ClassRule, Postprocess

CLASSES = Classes.build(["background", "disc", "square"])
HW = (60, 80)


def images(number: int = 16, *, salt: float = 0.0, holes: float = 0.0, seed: int = 0) -> list[PredictedImage]:
    """A square in each image, predicted with single pixels of `disc` around it and of `background` in it.

    Pixels that are wrong are less sure than others. A stripe at the right is ignored.
    """
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(number):
        truth = np.zeros(HW, np.uint8)
        top, left = rng.integers(2, 20, 2)
        truth[top : top + 30, left : left + 40] = 2
        truth[:, -6:] = 255
        truth[-8:-2, 4:10] = 1  # a disc of 36 pixels, so that the class is known
        ids = np.where(truth == 255, 0, truth).astype(np.uint8)
        wrong = np.zeros(HW, bool)
        wrong[1::3, 1::3] = True  # apart from each other
        draws = rng.random(HW)
        ids[wrong & (truth == 0) & (draws < salt)] = 1
        ids[wrong & (truth == 2) & (draws < holes)] = 0
        confidence = np.where(ids == truth, 0.95, 0.55).astype(np.float32)
        made.append(PredictedImage(ids, truth, confidence_level(confidence)))
    return made


def kept(found: list[PredictedImage]) -> dict[int, ClassRule]:
    return dict(tune(found, CLASSES, tuned_on="val").postprocess.rules)


def test_a_rule_that_helps_is_kept() -> None:
    found = images(salt=0.3)
    tuning = tune(found, CLASSES, tuned_on="val")
    assert tuning.postprocess.rules
    assert tuning.postprocess.tuned_on == "val"
    assert tuning.interval[0] > 0
    assert tuning.before < 0.75
    assert tuning.after > 0.999


def test_masks_that_are_right_are_given_no_rules() -> None:
    assert kept(images()) == {}


def test_a_rule_that_gains_on_one_half_alone_is_refused() -> None:
    noisy, clean = images(salt=0.3), images()
    half = choosing_half(len(noisy))
    found = [noisy[k] if half[k] else clean[k] for k in range(len(noisy))]
    tuning = tune(found, CLASSES, tuned_on="val")
    assert not tuning.postprocess.rules
    assert any(trial.rule and "held-back half" in trial.why for trial in tuning.trials)


def test_a_gain_that_hangs_on_two_images_is_within_the_error() -> None:
    found, noisy = images(), images(salt=0.3)
    half = choosing_half(len(found))
    one, other = int(np.flatnonzero(half)[0]), int(np.flatnonzero(~half)[0])
    found[one], found[other] = noisy[one], noisy[other]
    tuning = tune(found, CLASSES, tuned_on="val")
    assert not tuning.postprocess.rules
    assert {trial.why for trial in tuning.trials if trial.rule} == {"within the bootstrap error"}


def test_holes_are_found_and_the_mildest_rule_that_does_it_is_chosen() -> None:
    found = images(holes=0.3)
    for image in found:
        image.level[:] = len(CONFIDENCES)  # sure of everything
    # a pixel of background in a square is a component of the background as well, of the class that comes first
    assert kept(found) == {0: ClassRule(min_component=4)}
    open_ones = images(holes=0.3)
    for image in open_ones:
        image.level[:] = len(CONFIDENCES)
        image.ids[image.truth == 2] = np.where(image.ids[image.truth == 2] == 0, 1, 2)
    assert set(kept(open_ones)) <= {1, 2}


def test_the_figures_are_those_of_the_rules_applied_to_what_was_predicted() -> None:
    before, found = images(salt=0.2, holes=0.2), images(salt=0.2, holes=0.2)
    tuning = tune(found, CLASSES, tuned_on="val")
    assert tuning.postprocess.rules
    for rules, expected in ((Postprocess(), tuning.before), (tuning.postprocess, tuning.after)):
        matrix = ConfusionMatrix(3)
        for image in before:
            matrix.update(rules(image.ids, image.confidence), image.truth)
        assert matrix.scores().miou == expected


def test_every_kind_is_tried_for_every_class() -> None:
    tuning = tune(images(4), CLASSES, tuned_on="val")
    assert [trial.class_id for trial in tuning.trials] == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_sizes_grow_with_the_images_up_to_a_share_of_them() -> None:
    for num_pixels, largest in ((100, 4), (360 * 480, 1024), (3000 * 4000, 65536)):
        confidences, components, holes = candidates(num_pixels)
        assert [rule.max_hole for rule in holes][-1] == largest
        assert [rule.min_component for rule in components] == [*(rule.max_hole for rule in holes), 0]
        assert components[-1].keep_largest
        assert len(confidences) == len(CONFIDENCES)


@pytest.mark.parametrize("number", [2, 3, 6, 101])
def test_both_halves_have_images_and_neighbours_stay_together(number: int) -> None:
    half = choosing_half(number)
    assert 0.3 < half.mean() < 0.7
    assert (half[1:] != half[:-1]).sum() <= 7


def test_a_level_answers_each_threshold_as_the_confidence_does() -> None:
    confidence = np.concatenate([CONFIDENCES, np.nextafter(CONFIDENCES, 0), np.linspace(0, 1, 99, dtype=np.float32)])
    image = PredictedImage(confidence, confidence, confidence_level(confidence))
    for rule in candidates(1000)[0]:
        assert np.array_equal(image.confidence < rule.min_confidence, confidence < rule.min_confidence)


def test_a_single_image_cannot_be_halved() -> None:
    with pytest.raises(ValueError, match="found 1 images"):
        tune(images(1), CLASSES, tuned_on="val")


# ---- memory


def test_what_exceeds_the_memory_goes_to_a_file_and_can_be_written_to() -> None:
    arrays = [np.full((10, 100 + k), k, np.uint8) for k in range(6)]
    with MaskStore(limit=2500) as store:
        held = [store.keep(array) for array in arrays]
    assert [isinstance(array, np.memmap) for array in held] == [False, False, True, True, True, True]
    assert all(np.array_equal(*pair) for pair in zip(arrays, held, strict=True))
    held[4][2:4] = 77
    assert (held[4][2:4] == 77).all()
    assert np.array_equal(held[5], arrays[5])
    assert np.array_equal(held[3], arrays[3])


def test_rules_found_on_a_file_are_those_found_in_memory() -> None:
    with MaskStore(limit=0) as store:
        on_disk = [
            PredictedImage(*(store.keep(array) for array in (image.ids, image.truth, image.level)))
            for image in images(salt=0.3)
        ]
    assert kept(on_disk) == kept(images(salt=0.3))


def test_a_folder_for_temporary_files_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/missing")
    with pytest.raises(RunFolderError, match=r"/missing: can't be written .*TMPDIR"):
        MaskStore(limit=0).keep(np.zeros((2, 2), np.uint8))
