import itertools
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from segkit.classes import Classes
from segkit.errors import ConfigError
from segkit.inference import tta
from segkit.inference.backend import Array
from segkit.inference.tta import parse_tta, with_tta

CLASSES = Classes.build(["a", "b", "c"])
CANVAS_HW = (24, 32)


@dataclass
class Pixelwise:
    """Scores that are a function of each pixel alone: the same whichever way the image is turned."""

    arrays: bool = False
    num_calls: int = 0
    classes: Classes = CLASSES
    canvas_hw: tuple[int, int] = CANVAS_HW

    @property
    def device(self) -> torch.device | None:
        return None if self.arrays else torch.device("cpu")

    def __call__(self, images: Array) -> Array:
        self.num_calls += 1
        assert images.dtype == (np.uint8 if self.arrays else torch.uint8)
        assert images.shape[1] == 3
        return images.astype(np.float32) / 50 if isinstance(images, np.ndarray) else images.float() / 50


@dataclass
class Leaning(Pixelwise):
    """Scores that depend on the column and the row as well, as those of no real model should."""

    def __call__(self, images: Array) -> Array:
        scores = super().__call__(images)
        height, width = images.shape[2:]
        ramp = np.linspace(0, 3, height, dtype=np.float32)[:, None] * np.linspace(0, 1, width, dtype=np.float32)
        return scores * (ramp if self.arrays else torch.from_numpy(ramp))


def canvases(*, smooth: bool = False) -> torch.Tensor:
    rng = np.random.default_rng(0)
    if smooth:
        rows, columns = np.meshgrid(*(np.linspace(0, 1, n) for n in CANVAS_HW), indexing="ij")
        planes = np.stack([200 * rows, 200 * columns, 200 - 100 * rows - 100 * columns])
        return torch.from_numpy(np.stack([planes, planes[:, ::-1]]).astype(np.uint8))
    return torch.from_numpy(rng.integers(0, 256, (2, 3, *CANVAS_HW), np.uint8))


def test_without_views_the_backend_stays_as_it_is() -> None:
    backend = Pixelwise()
    assert with_tta(backend, ()) is backend


@pytest.mark.parametrize("arrays", [False, True])
def test_flips_of_a_model_that_does_not_mind_them_change_nothing(arrays: bool) -> None:
    images: Array = canvases().numpy() if arrays else canvases()
    backend = Pixelwise(arrays)
    scores = torch.as_tensor(with_tta(backend, ("flip", "vflip"))(images))
    torch.testing.assert_close(scores, torch.as_tensor(backend(images)).log_softmax(dim=1), rtol=0, atol=1e-5)


def test_scores_are_the_logarithm_of_the_mean_probability_of_the_views() -> None:
    images, backend = canvases(), Leaning()
    scores = torch.as_tensor(with_tta(backend, ("flip", "vflip"))(images))
    turns: list[tuple[int, ...]] = [(), (3,), (2,), (2, 3)]
    votes = [torch.as_tensor(backend(images.flip(axes))).flip(axes).softmax(dim=1) for axes in turns]
    mean = torch.stack(votes).mean(dim=0)
    torch.testing.assert_close(scores.exp(), mean)
    assert not torch.allclose(mean, votes[0], atol=0.01)  # so that leaving a view out would be seen


@pytest.mark.parametrize("views", [("flip",), (0.5,), ("flip", "vflip", 0.75, 1.5)])
def test_arrays_give_what_tensors_give(views: tuple[str | float, ...]) -> None:
    images = canvases()
    tensors = with_tta(Leaning(), views)(images)  # type: ignore[arg-type]
    arrays = with_tta(Leaning(arrays=True), views)(images.numpy())  # type: ignore[arg-type]
    assert isinstance(tensors, torch.Tensor)
    assert isinstance(arrays, np.ndarray)
    assert arrays.dtype == np.float32
    np.testing.assert_allclose(arrays, tensors.numpy(), rtol=0, atol=1e-4)


def test_a_scaled_view_of_a_smooth_image_agrees_with_it_pixel_by_pixel() -> None:
    images, backend = canvases(smooth=True), Pixelwise()
    expected = torch.as_tensor(backend(images)).softmax(dim=1)
    for scale in (0.5, 1.5):
        found = torch.as_tensor(with_tta(backend, (scale,))(images)).exp()
        assert (found - expected).abs().max() < 0.03  # half a pixel off would be 0.06 and more


@pytest.mark.parametrize(
    ("views", "number"), [(("flip",), 2), (("flip", "vflip"), 4), ((1.25,), 2), (("flip", 0.75, 1.25), 6)]
)
def test_every_combination_of_flips_and_scales_is_seen_once(views: tuple[str | float, ...], number: int) -> None:
    backend = Pixelwise()
    with_tta(backend, views)(canvases())  # type: ignore[arg-type]
    assert backend.num_calls == number


def test_the_order_of_the_views_makes_no_difference() -> None:
    images = canvases()
    results = [
        torch.as_tensor(with_tta(Leaning(), views)(images))  # type: ignore[arg-type]
        for views in itertools.permutations(["flip", "vflip", 1.25, 0.5])
    ]
    assert all(torch.equal(result, results[0]) for result in results)


def test_classes_canvas_and_device_are_those_of_the_backend() -> None:
    augmented = with_tta(Pixelwise(), ("flip",))
    assert isinstance(augmented, tta.TestTimeAugmentation)
    assert (augmented.classes, augmented.canvas_hw, augmented.device) == (CLASSES, CANVAS_HW, torch.device("cpu"))
    assert with_tta(Pixelwise(arrays=True), ("flip",)).device is None


# ---- the grammar


@pytest.mark.parametrize(
    ("text", "views"),
    [("flip,0.75,1.25", ("flip", 0.75, 1.25)), ("vflip, 2", ("vflip", 2.0)), ("", ())],
)
def test_views_are_words_and_scales_with_commas(text: str, views: tuple[str | float, ...]) -> None:
    assert parse_tta(text) == views


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("mirror", r'--tta: .*found \["mirror"\], expected a list, each entry one of: flip, vflip, or a number'),
        ("flip,9", r'found \["flip", 9\], expected .*>= 0\.25 and <= 4'),
        ("flip,0", r"found .*0"),
        ("flip,flip", "found flip more than once"),
        ("1.25,1.25", r"found 1\.25 more than once"),
        ("flip,1", "found scale 1, which is always among the views"),
        ("flip],[", "--tta|override"),
    ],
)
def test_what_is_no_view_is_named(text: str, found: str) -> None:
    with pytest.raises(ConfigError, match=rf"(?s){found}"):
        parse_tta(text)
