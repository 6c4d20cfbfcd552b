import cv2
import numpy as np
import pytest

from segkit.loading.augment.photometric import HsvJitter


@pytest.mark.parametrize("channel", range(3))
def test_hsv_jitter_changes_each_channel_by_its_factor_alone(channel: int) -> None:
    image = np.full((4, 4, 3), (200, 100, 50), np.uint8)
    before = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)[0, 0].astype(int)
    factors = np.ones(3)
    factors[channel] = 0.7
    after = cv2.cvtColor(HsvJitter(0.1, 0.7, 0.3).apply(image, factors), cv2.COLOR_RGB2HSV)[0, 0].astype(int)
    assert np.abs(after - before * factors).max() <= 3


def test_hsv_jitter_draws_factors_within_its_amounts() -> None:
    step, rng = HsvJitter(0.1, 0.7, 0.3), np.random.default_rng(0)
    draws = np.array([step.sample(rng) for _ in range(500)])
    assert (np.abs(draws - 1) <= (0.1, 0.7, 0.3)).all()
    assert (np.abs(draws - 1).max(axis=0) > (0.09, 0.65, 0.28)).all()
