import numpy as np
import pytest
import torch
import torch.nn.functional as F

from segkit.imaging.letterbox import BAR_GREY, LetterBox
from segkit.imaging.resize import resize_image, resize_mask

SIZES = [(375, 500), (500, 375), (1, 1), (7, 333), (512, 512), (1024, 37), (360, 480)]


@pytest.mark.parametrize("source_hw", SIZES)
@pytest.mark.parametrize("canvas_hw", [(512, 512), (64, 96), (97, 33)])
def test_the_image_fills_one_side_of_the_canvas_and_keeps_its_aspect_ratio(
    source_hw: tuple[int, int], canvas_hw: tuple[int, int]
) -> None:
    box = LetterBox.fit(source_hw, canvas_hw)
    assert box.inner_hw[0] == canvas_hw[0] or box.inner_hw[1] == canvas_hw[1]
    assert 0 <= box.top <= canvas_hw[0] - box.inner_hw[0]
    assert 0 <= box.left <= canvas_hw[1] - box.inner_hw[1]
    scale = min(canvas_hw[0] / source_hw[0], canvas_hw[1] / source_hw[1])
    for inner, source in zip(box.inner_hw, source_hw, strict=True):
        assert abs(inner - source * scale) <= 0.5 or inner == 1


def test_bars_are_grey_in_the_image_and_ignored_in_the_mask() -> None:
    box = LetterBox.fit((10, 20), (40, 40))
    image = box.apply(np.zeros((10, 20, 3), np.uint8))
    mask = box.apply_mask(np.ones((10, 20), np.uint8), ignore_index=255)
    assert box.inner_hw == (20, 40)
    assert set(np.unique(image[:10])) == set(np.unique(image[30:])) == {BAR_GREY}
    assert set(np.unique(mask[:10])) == set(np.unique(mask[30:])) == {255}
    assert set(np.unique(mask[10:30])) == {1}
    assert set(np.unique(image[10:30])) == {0}


def test_an_image_of_the_canvas_size_is_left_alone() -> None:
    image = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
    box = LetterBox.fit((48, 64), (48, 64))
    assert np.array_equal(box.apply(image), image)


@pytest.mark.parametrize("source_hw", [(48, 64), (20, 64), (48, 30)])
def test_logits_come_back_bit_for_bit_where_nothing_was_resized(source_hw: tuple[int, int]) -> None:
    box = LetterBox.fit(source_hw, (48, 64))
    canvas = torch.full((3, 48, 64), -99.0)
    logits = torch.randn(3, *source_hw)
    canvas[:, *box.inner] = logits
    assert torch.equal(box.invert(canvas), logits)


@pytest.mark.parametrize("source_hw", [(375, 500), (100, 30), (90, 90)])
def test_inverse_cuts_the_bars_off_before_interpolating(source_hw: tuple[int, int]) -> None:
    box = LetterBox.fit(source_hw, (64, 96))
    inner = torch.randn(5, *box.inner_hw)
    canvas = torch.full((5, 64, 96), 1e9)  # bars that would spoil every pixel they leaked into
    canvas[:, *box.inner] = inner
    expected = F.interpolate(inner[None], source_hw, mode="bilinear", align_corners=False)[0]
    assert torch.equal(box.invert(canvas), expected)


@pytest.mark.parametrize("source_hw", [(375, 500), (500, 281), (64, 64)])
def test_a_mask_survives_there_and_back(source_hw: tuple[int, int]) -> None:
    mask = np.zeros(source_hw, np.uint8)
    mask[source_hw[0] // 4 : source_hw[0] // 2, source_hw[1] // 3 :] = 1
    box = LetterBox.fit(source_hw, (256, 256))
    on_canvas = torch.from_numpy(box.apply_mask(mask, ignore_index=255)).long()
    logits = F.one_hot(on_canvas.clamp(max=2), 3).permute(2, 0, 1).float()
    back = box.invert(logits).argmax(dim=0).numpy()
    assert (back == mask).mean() > 0.99
    assert (back == 2).sum() == 0  # nothing of the bars


def test_masks_are_resized_to_ids_of_the_mask() -> None:
    mask = np.random.default_rng(0).choice(np.array([0, 7, 255], np.uint8), (37, 53))
    assert set(np.unique(resize_mask(mask, (91, 20)))) <= {0, 7, 255}


def test_shrinking_an_image_averages_it() -> None:
    checkers = np.indices((64, 64)).sum(axis=0) % 2 * 255
    image = np.repeat(checkers[:, :, None], 3, axis=2).astype(np.uint8)
    assert set(np.unique(resize_image(image, (32, 32)))) == {128}


@pytest.mark.parametrize("source_hw", [(64, 48), (200, 90), (17, 31)])
@pytest.mark.parametrize("as_tensor", [True, False])
def test_scores_at_some_pixels_are_those_of_all(source_hw: tuple[int, int], as_tensor: bool) -> None:
    box = LetterBox.fit(source_hw, (64, 48))
    logits = np.random.default_rng(0).normal(size=(3, 64, 48)).astype(np.float32)
    rows, columns = np.arange(1, source_hw[0], 3), np.arange(0, source_hw[1], 4)
    found = box.at(torch.from_numpy(logits) if as_tensor else logits, rows, columns)
    expected = np.asarray(box.invert(torch.from_numpy(logits)))[:, rows[:, None], columns]
    assert found.dtype == np.float32
    assert found == pytest.approx(expected, abs=1e-4)
