import numpy as np
import pytest
import torch
import torch.nn.functional as F

from segkit.imaging.argmax import argmax, argmax_in_strips, resized_argmax
from segkit.imaging.letterbox import LetterBox

SIZES = [(40, 52), (33, 47), (80, 104), (301, 203), (7, 300), (12, 15)]


def scores(num_classes: int, hw: tuple[int, int], *, channels_last: bool, seed: int = 0) -> torch.Tensor:
    """Smooth scores [C, H, W] with some noise, so that there are borders and interiors."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(1, num_classes, 5, 6, generator=generator)
    x = F.interpolate(coarse, hw, mode="bicubic") + 0.05 * torch.randn(1, num_classes, *hw, generator=generator)
    return x.to(memory_format=torch.channels_last if channels_last else torch.contiguous_format)[0]


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("num_classes", [2, 3, 21, 150])
def test_the_largest_score_wins_and_the_first_of_equals(num_classes: int, channels_last: bool) -> None:
    x = scores(num_classes, (40, 52), channels_last=channels_last)
    x[:, 3] = 1.5
    assert np.array_equal(argmax(x), x.argmax(dim=0).numpy())
    assert not argmax(x)[3].any()


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size_hw", SIZES)
def test_masks_at_another_size_are_those_of_interpolating_every_score(
    size_hw: tuple[int, int], dtype: torch.dtype, channels_last: bool
) -> None:
    x = scores(9, (40, 52), channels_last=channels_last).to(dtype)
    interpolated = F.interpolate(x[None].float(), size_hw, mode="bilinear", align_corners=False)[0]
    expected, found = interpolated.argmax(dim=0), torch.from_numpy(resized_argmax(x, size_hw)).long()
    assert (found == expected).float().mean() >= 0.999
    behind = interpolated.gather(0, expected[None]) - interpolated.gather(0, found[None])
    assert behind.max() < 1e-5  # where they differ, the classes tie


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("source_hw", [(30, 64), (64, 30), (200, 90), (90, 200)])
def test_a_mask_is_the_argmax_of_the_inverted_scores_without_the_bars(
    source_hw: tuple[int, int], channels_last: bool
) -> None:
    box = LetterBox.fit(source_hw, (48, 56))
    x = scores(4, (48, 56), channels_last=channels_last)
    assert box.mask(x).shape == source_hw
    assert box.mask(x).dtype == np.uint8
    assert (box.mask(x) == box.invert(x).argmax(dim=0).numpy()).mean() >= 0.999


@pytest.mark.parametrize("hw", [(1, 1), (1, 9), (7, 1)])
@pytest.mark.parametrize("size_hw", [(1, 1), (1, 9), (9, 1), (20, 30)])
def test_tiny_images_get_their_class(hw: tuple[int, int], size_hw: tuple[int, int]) -> None:
    x = torch.randn(5, *hw, generator=torch.Generator().manual_seed(3))
    x[4] += 9
    assert np.array_equal(resized_argmax(x, size_hw), np.full(size_hw, 4))


def test_a_single_undecided_pixel_gets_its_class() -> None:
    x = torch.zeros(3, 4, 4)
    x[1], x[2, 3, 3] = 1.0, 9.0
    expected = F.interpolate(x[None], (13, 13), mode="bilinear", align_corners=False)[0].argmax(dim=0)
    for pixels in range(1, 40):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("segkit.imaging.argmax.PIXELS_AT_A_TIME", pixels)
            assert np.array_equal(resized_argmax(x, (13, 13)), expected.numpy())


def test_noise_without_any_interior_comes_out_right_too() -> None:
    x = torch.randn(5, 20, 24, generator=torch.Generator().manual_seed(1))
    expected = F.interpolate(x[None], (90, 100), mode="bilinear", align_corners=False)[0].argmax(dim=0)
    assert (resized_argmax(x, (90, 100)) == expected.numpy()).mean() >= 0.999


# ---- what GPUs do


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size_hw", [*SIZES, (1, 1)])
def test_strips_give_the_ids_of_the_whole(size_hw: tuple[int, int], dtype: torch.dtype) -> None:
    x = scores(9, (40, 52), channels_last=True).to(dtype)
    interpolated = F.interpolate(x[None].float(), size_hw, mode="bilinear", align_corners=False)[0]
    expected, found = interpolated.argmax(dim=0), argmax_in_strips(x, size_hw).long()
    behind = interpolated.gather(0, expected[None]) - interpolated.gather(0, found[None])
    assert behind.max() < 1e-5  # where they differ, the classes tie
    assert (found == expected).float().mean() >= 0.999


@pytest.mark.parametrize("strip_bytes", [1, 10_000, 123_456])
@pytest.mark.parametrize("size_hw", [(301, 203), (7, 300), (40, 52)])
def test_the_height_of_a_strip_changes_nothing(size_hw: tuple[int, int], strip_bytes: int) -> None:
    x = scores(9, (40, 52), channels_last=False)
    found = argmax_in_strips(x, size_hw, strip_bytes=strip_bytes)
    assert found.dtype == torch.uint8
    assert torch.equal(found, argmax_in_strips(x, size_hw))


def test_a_strip_stays_within_its_bytes() -> None:
    x = scores(9, (40, 52), channels_last=False)
    with torch.profiler.profile(profile_memory=True, activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        argmax_in_strips(x, (600, 400), strip_bytes=400_000)
    assert profiler.profiler is not None
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    largest = max(event.nbytes() for event in events)
    assert largest <= 400_000 < 9 * 600 * 400 * 4  # of all scores
