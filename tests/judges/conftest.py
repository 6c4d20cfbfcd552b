"""Images of few classes, large enough for every figure to have something to say."""

import numpy as np
import pytest

from segkit.evaluation.judged import Judged


def drawn(seed: int, *, size_hw: tuple[int, int] = (90, 120), num_classes: int = 4, ignored: bool = True) -> Judged:
    """Blobs of classes in truth; the prediction follows probabilities that are right more often than not."""
    import cv2

    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(num_classes, *size_hw)).astype(np.float32)
    smooth = np.stack([cv2.GaussianBlur(plane, (0, 0), 6) for plane in noise])
    truth = smooth.argmax(axis=0).astype(np.uint8)
    other = rng.normal(size=(num_classes, *size_hw)).astype(np.float32)
    scores = 40 * smooth + 15 * np.stack([cv2.GaussianBlur(plane, (0, 0), 3) for plane in other])
    powers = np.exp(scores - scores.max(axis=0))
    probabilities = (powers / powers.sum(axis=0)).astype(np.float32)
    if ignored:
        truth[:9, 20:50] = 255
        truth[60:80, 100:105] = 255
    return Judged(
        truth,
        probabilities.argmax(axis=0).astype(np.uint8),
        num_classes=num_classes,
        probabilities=lambda rows, columns: probabilities[:, rows[:, None], columns],
    )


@pytest.fixture(params=[0, 1, 2])
def image(request: pytest.FixtureRequest) -> Judged:
    return drawn(request.param)


@pytest.fixture
def images() -> list[Judged]:
    return [drawn(seed) for seed in range(6)]
