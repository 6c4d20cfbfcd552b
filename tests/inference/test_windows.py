import tracemalloc
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from torch import nn

from segkit.classes import Classes
from segkit.datasets.shapes import draw_scene
from segkit.errors import ConfigError
from segkit.imaging.letterbox import LetterBox
from segkit.inference.backend import Array, Backend
from segkit.inference.segmentation import Segmentation
from segkit.inference.windows import Windows, choose_window, parse_window


def named(count: int) -> Classes:
    return Classes.build([f"class {k}" for k in range(count)])


@dataclass
class Convolutions:
    """A backend of three 3x3 convolutions: it sees 3 pixels around each. Of tensors, or of arrays."""

    classes: Classes = field(default_factory=lambda: named(4))
    arrays: bool = False
    canvas_hw: tuple[int, int] = (32, 48)
    calls: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        torch.manual_seed(0)
        layers = [nn.Conv2d(3, 8, 3, padding=1), nn.Tanh(), nn.Conv2d(8, 8, 3, padding=1), nn.Tanh()]
        self.network = nn.Sequential(*layers, nn.Conv2d(8, len(self.classes), 3, padding=1)).requires_grad_(False)

    @property
    def device(self) -> torch.device | None:
        return None if self.arrays else torch.device("cpu")

    @torch.inference_mode()
    def __call__(self, images: Array) -> Array:
        assert isinstance(images, np.ndarray if self.arrays else torch.Tensor)
        self.calls.append(len(images))
        logits = 4 * self.network(torch.as_tensor(images).float() / 64 - 2)
        return logits.numpy() if self.arrays else logits


@dataclass
class Plain:
    """A backend of arrays without a network: the logit of class k is the pixel's red, up to k."""

    classes: Classes
    canvas_hw: tuple[int, int] = (16, 16)
    device: None = None

    def __call__(self, images: Array) -> Array:
        assert isinstance(images, np.ndarray)
        steps = np.arange(len(self.classes), dtype=np.float32).reshape(1, -1, 1, 1)
        return -np.abs(images[:, :1].astype(np.float32) - steps)


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return draw_scene(np.random.default_rng(1), (150, 210))[0]


def whole(backend: Backend, image: np.ndarray) -> Segmentation:
    """The image in one pass of the network, at its own size."""
    hw = (image.shape[0], image.shape[1])
    pixels = np.ascontiguousarray(image.transpose(2, 0, 1)[None])
    images = pixels if backend.device is None else torch.from_numpy(pixels)
    return Segmentation(backend(images)[0], LetterBox.fit(hw, hw))


# ---- what windows give is what the whole image gives


@pytest.mark.parametrize("arrays", [False, True])
@pytest.mark.parametrize("overlap", [0.25, 0.5, 0.7])
def test_windows_agree_with_the_whole_image_where_the_receptive_field_fits_the_overlap(
    image: np.ndarray, overlap: float, arrays: bool
) -> None:
    backend = Convolutions(arrays=arrays)
    expected = whole(backend, image)
    windows = Windows(backend, backend.canvas_hw, overlap=overlap)
    agrees = windows.mask(image) == expected.mask
    assert len(np.unique(expected.mask)) >= 3  # or there would be nothing to agree on
    assert agrees.mean() >= 0.999


def test_windows_give_the_scores_of_the_whole_image_to_a_model_that_sees_no_further_than_their_margin(
    image: np.ndarray,
) -> None:
    backend = Convolutions()
    windows = Windows(backend, backend.canvas_hw, overlap=0.5)
    assert windows.grid((150, 210))[0].margin == 4  # the backend sees 3
    np.testing.assert_allclose(windows.probabilities(image), whole(backend, image).probabilities, atol=1e-5)


def test_without_an_overlap_they_do_not(image: np.ndarray) -> None:
    backend = Convolutions()
    windows = Windows(backend, backend.canvas_hw, overlap=0)
    assert (windows.mask(image) == whole(backend, image).mask).mean() < 0.999


@pytest.mark.parametrize("hw", [(32, 48), (20, 48), (32, 31), (1, 1), (64, 96), (63, 96), (61, 40)])
def test_an_image_that_a_window_fits_gets_the_scores_of_its_letterbox(image: np.ndarray, hw: tuple[int, int]) -> None:
    backend, part = Convolutions(), image[: hw[0], : hw[1]]
    box = LetterBox.fit(hw, backend.canvas_hw)
    zoom = min(canvas / side for canvas, side in zip(backend.canvas_hw, hw, strict=True))
    canvases = torch.from_numpy(box.apply(part)[None].copy()).permute(0, 3, 1, 2)
    expected = Segmentation(backend(canvases)[0], box)
    windows = Windows(backend, backend.canvas_hw, zoom=zoom)
    assert np.array_equal(windows.probabilities(part), expected.probabilities)
    assert np.array_equal(windows.mask(part), expected.probabilities.argmax(axis=0))


def test_a_small_image_lies_between_bars_of_grey() -> None:
    seen = []

    class Watching(Plain):
        def __call__(self, images: Array) -> Array:
            seen.append(np.array(images))
            return super().__call__(images)

    image = np.full((4, 6, 3), 9, np.uint8)
    Windows(Watching(named(3)), (16, 16), zoom=2.0).mask(image)
    expected = np.full((16, 16), 128)
    expected[4:12, 2:14] = 9
    assert np.array_equal(seen[0][0, 1], expected)


@pytest.mark.parametrize("zoom", [0.4, 1.0, 1.7])
def test_a_window_takes_more_pixels_at_a_smaller_zoom(zoom: float) -> None:
    rows, columns, box = Windows(Plain(named(2)), (32, 64), zoom=zoom).grid((1000, 1000))
    assert (rows.window, columns.window) == (round(32 / zoom), round(64 / zoom))
    assert box.inner_hw == (32, 64)


@pytest.mark.parametrize("num_classes", [2, 200])
@pytest.mark.parametrize("hw", [(1, 1), (1, 70), (70, 1), (16, 16), (17, 16), (40, 61)])
def test_every_size_and_number_of_classes_gives_probabilities_that_sum_to_1(
    hw: tuple[int, int], num_classes: int
) -> None:
    image = np.random.default_rng(0).integers(0, num_classes, (*hw, 3)).astype(np.uint8)
    windows = Windows(Plain(named(num_classes)), (16, 16))
    probabilities = windows.probabilities(image)
    assert probabilities.shape == (num_classes, *hw)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(axis=0), 1, rtol=1e-5)
    assert np.array_equal(windows.mask(image), image[..., 0])
    scores = windows.logits(image)
    assert np.isfinite(scores).all()
    assert np.array_equal(Segmentation(scores, LetterBox.fit(hw, hw)).mask, image[..., 0])


@pytest.mark.parametrize("arrays", [False, True])
def test_the_size_of_batches_changes_nothing_but_their_number(image: np.ndarray, arrays: bool) -> None:
    one, several = Convolutions(arrays=arrays), Convolutions(arrays=arrays)
    expected = Windows(one, (32, 48)).probabilities(image)
    found = Windows(several, (32, 48), batch_size=4).probabilities(image)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert max(one.calls) == 1
    assert max(several.calls) == 4
    assert sum(several.calls) == sum(one.calls)


# ---- strips


@pytest.mark.parametrize("arrays", [False, True])
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.6])
def test_strips_are_the_whole_in_parts(image: np.ndarray, overlap: float, arrays: bool) -> None:
    windows = Windows(Convolutions(arrays=arrays), (32, 48), overlap=overlap, zoom=0.8)
    strips = list(windows.strips(image, with_confidence=True))
    assert [k for strip in strips for k in range(strip.rows.start, strip.rows.stop)] == list(range(150))
    assert np.array_equal(np.concatenate([strip.ids for strip in strips]), windows.mask(image))
    assert np.array_equal(np.concatenate([strip.image for strip in strips]), image)
    confidence = np.concatenate([strip.confidence for strip in strips if strip.confidence is not None])
    assert np.array_equal(confidence, windows.probabilities(image).max(axis=0))
    assert all(strip.confidence is None for strip in windows.strips(image))


@dataclass
class Drawn:
    """An image that is never in memory as a whole."""

    hw: tuple[int, int]
    asked: list[slice] = field(default_factory=list)

    def read(self, rows: slice) -> np.ndarray:
        self.asked.append(rows)
        values = (np.arange(rows.start, rows.stop) % 3).astype(np.uint8)
        return np.broadcast_to(values[:, None, None], (len(values), self.hw[1], 3)).copy()


def test_rows_are_read_once_from_top_to_bottom() -> None:
    source = Drawn((203, 20))
    ids = np.concatenate([strip.ids for strip in Windows(Plain(named(3)), (16, 16), overlap=0.6).strips(source)])
    assert [k for rows in source.asked for k in range(rows.start, rows.stop)] == list(range(203))
    assert np.array_equal(ids[:, 0], np.arange(203) % 3)


def test_memory_depends_on_the_width_of_an_image_but_not_on_its_height() -> None:
    def peak(hw: tuple[int, int]) -> int:
        windows = Windows(Plain(named(20)), (32, 32))
        tracemalloc.start()
        for _ in windows.strips(Drawn(hw)):
            pass
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak((64, 64))  # what is imported on the way
    low, high, wide = peak((80, 512)), peak((656, 512)), peak((80, 2560))
    assert high < 1.1 * low
    # of 20 float32 classes only the overlap, a quarter of a window's rows, is kept; and the pixels four times
    assert wide - low < 1.2 * (2560 - 512) * (20 * 8 * 4 + 4 * 32 * 3)


def test_a_broken_source_ends_as_its_own_error_without_a_thread_left() -> None:
    class Broken(Drawn):
        def read(self, rows: slice) -> np.ndarray:
            if rows.start > 50:
                raise OSError("gone")
            return super().read(rows)

    with pytest.raises(OSError, match="gone"):
        list(Windows(Plain(named(3)), (16, 16)).strips(Broken((100, 20))))


@pytest.mark.parametrize("wrong", [{"overlap": 1.0}, {"overlap": -0.1}, {"zoom": 0.0}, {"batch_size": 0}])
def test_settings_that_cover_nothing_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"expected overlap in \[0, 1\)"):
        Windows(Plain(named(2)), (16, 16), **wrong)  # type: ignore[arg-type]


# ---- when


@pytest.mark.parametrize(
    ("setting", "source_hw", "smallest", "expected"),
    [
        ("auto", (4000, 3000), 0.25, (512, 512)),
        ("auto", (2048, 2048), 0.25, None),  # shrunk as much as training did, no more
        ("auto", (2049, 100), 0.25, (512, 512)),
        ("auto", (100, 100), 0.25, None),
        ("auto", (40000, 40000), None, None),  # a checkpoint from before the zoom was noted
        ("off", (40000, 40000), 0.25, None),
        ((256, 320), (100, 100), None, (256, 320)),
    ],
)
def test_windows_are_for_images_that_a_letterbox_would_shrink_more_than_training_did(
    setting: str, source_hw: tuple[int, int], smallest: float | None, expected: tuple[int, int] | None
) -> None:
    assert choose_window(setting, source_hw, (512, 512), smallest_zoom=smallest) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "expected"), [("auto", "auto"), ("off", "off"), ("512,768", (512, 768)), ("8, 9", (8, 9))]
)
def test_the_option_says_auto_off_or_a_size(text: str, expected: object) -> None:
    assert parse_window(text) == expected


@pytest.mark.parametrize("text", ["", "on", "512", "512,7", "512,-8", "1,2,3", "a,b", "512x512"])
def test_anything_else_is_refused_with_what_was_expected(text: str) -> None:
    with pytest.raises(ConfigError, match=r"--window: found .*expected auto, off, or height,width"):
        parse_window(text)
