from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from segkit.classes import Classes
from segkit.config.schema import DataConfig, TrainConfig
from segkit.errors import CheckpointError
from segkit.inference.ensemble import together
from segkit.inference.folding import for_inference
from segkit.inference.predictor import Predictor
from segkit.inference.torch_backend import TorchBackend
from segkit.inference.windows import WindowSetting
from segkit.loading.collate import to_tensor
from segkit.models.checkpoint import Checkpoint
from segkit.models.segmenter import Segmenter
from segkit.models.table import build_model


@pytest.fixture(scope="module")
def predictor(checkpoint: Path) -> Predictor:
    return Predictor.load(checkpoint, device="cpu")


# ---- one image


@pytest.mark.parametrize("hw", [(40, 60), (64, 64), (200, 10), (1, 1)])
def test_a_mask_has_the_size_of_its_image(predictor: Predictor, hw: tuple[int, int]) -> None:
    mask = predictor(np.random.default_rng(0).integers(0, 255, (*hw, 3), np.uint8))
    assert mask.shape == hw
    assert mask.dtype == np.uint8
    assert mask.max() < 3


def test_probabilities_sum_to_1_and_agree_with_the_mask(predictor: Predictor) -> None:
    image = np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8)
    probabilities = predictor.probabilities(image)
    assert probabilities.shape == (3, 40, 60)
    np.testing.assert_allclose(probabilities.sum(axis=0), 1, rtol=1e-5)
    assert np.array_equal(probabilities.argmax(axis=0), predictor(image))


@pytest.mark.parametrize(
    "array", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((4, 4, 4), np.uint8)]
)
def test_arrays_of_another_kind_are_refused(predictor: Predictor, array: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"expected uint8 RGB \[h, w, 3\]"):
        predictor(array)


@pytest.mark.parametrize("array", [np.zeros(4, np.uint8), np.zeros((4, 4, 3), np.float32)])
@pytest.mark.parametrize("window", ["off", (64, 64)])
def test_arrays_of_another_kind_are_refused_by_windows_as_well(
    predictor: Predictor, array: np.ndarray, window: WindowSetting
) -> None:
    with pytest.raises(ValueError, match=r"expected uint8 RGB \[h, w, 3\]"):
        Predictor(predictor.backend, window=window)(array)


def test_a_path_may_be_a_string(checkpoint: Path) -> None:
    assert Predictor.load(str(checkpoint), device="cpu").classes.names == ("background", "disc", "square")


def test_a_model_trained_in_fp16_predicts_on_a_cpu(checkpoint: Path, tmp_path: Path) -> None:
    loaded = Checkpoint.load(checkpoint)
    loaded.config = replace(loaded.config, train=TrainConfig(precision="fp16"))
    loaded.save(tmp_path / "fp16.pt")
    assert Predictor.load(tmp_path / "fp16.pt", device="cpu").backend.precision in (torch.bfloat16, torch.float32)


def test_any_array_of_rgb_pixels_will_do(predictor: Predictor) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*predictor.canvas_hw, 3), np.uint8)
    expected = predictor(image)
    frozen = image.copy()
    frozen.flags.writeable = False
    for same in (image[..., ::-1].copy()[..., ::-1], np.asfortranarray(image), frozen):
        assert np.array_equal(predictor(same), expected)


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError):
        Predictor.load(tmp_path / "no.pt")


# ---- several models


@pytest.fixture(scope="module")
def second(checkpoint: Path) -> Path:
    """A checkpoint like the first one, with other weights."""
    return variant(checkpoint, "second.pt", seed=1)


def variant(checkpoint: Path, name: str, *, seed: int = 0, **changes: object) -> Path:
    """Write a checkpoint with weights of a seed; `changes` are other values of its fields."""
    loaded = Checkpoint.load(checkpoint)
    torch.manual_seed(seed)
    classes = changes.get("classes", loaded.classes)
    weights = build_model(loaded.config.model, len(classes)).state_dict()  # type: ignore[arg-type]
    path = checkpoint.with_name(name)
    replace(loaded, weights=weights, **changes).save(path)  # type: ignore[arg-type]
    return path


def noise(hw: tuple[int, int] = (90, 50)) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (*hw, 3), np.uint8)


def test_several_models_give_the_mean_of_their_probabilities(checkpoint: Path, second: Path) -> None:
    image = noise((64, 64))  # of the canvas' size: nothing is interpolated
    alone = [Predictor.load(path, device="cpu").probabilities(image) for path in (checkpoint, second)]
    ensemble = Predictor.load([checkpoint, second], device="cpu")
    found = ensemble.probabilities(image)
    assert np.abs(alone[0] - alone[1]).max() > 0.02  # so that any other mean would differ
    np.testing.assert_allclose(found, (alone[0] + alone[1]) / 2, atol=1e-6)
    assert np.array_equal(ensemble(image), found.argmax(axis=0))


@pytest.mark.parametrize("hw", [(90, 50), (20, 200), (64, 64)])
def test_an_ensembles_probabilities_sum_to_1_at_any_size(checkpoint: Path, second: Path, hw: tuple[int, int]) -> None:
    probabilities = Predictor.load([checkpoint, second], device="cpu").probabilities(noise(hw))
    assert probabilities.shape == (3, *hw)
    np.testing.assert_allclose(probabilities.sum(axis=0), 1, rtol=1e-5)


def test_a_model_with_itself_is_that_model_at_any_size(predictor: Predictor, checkpoint: Path) -> None:
    twice = Predictor.load([checkpoint, checkpoint], device="cpu")
    np.testing.assert_allclose(twice.probabilities(noise()), predictor.probabilities(noise()), atol=1e-6)
    assert (twice(noise()) == predictor(noise())).mean() > 0.999


def test_the_order_of_models_does_not_matter(checkpoint: Path, second: Path) -> None:
    third = variant(checkpoint, "third.pt", seed=2)
    first, other = (
        Predictor.load(paths, device="cpu").probabilities(noise())
        for paths in ([checkpoint, second, third], [third, checkpoint, second])
    )
    np.testing.assert_allclose(first, other, atol=1e-6)


def test_one_checkpoint_is_that_model_alone_to_the_last_byte(predictor: Predictor, checkpoint: Path) -> None:
    listed = Predictor.load([checkpoint], device="cpu")
    assert np.array_equal(listed.probabilities(noise()), predictor.probabilities(noise()))
    loaded = Checkpoint.load(checkpoint)
    plain = for_inference(
        loaded.build().to_device(torch.device("cpu"), channels_last=True), canvas_hw=(64, 64), precision=torch.float32
    )
    box, canvas = predictor.letterbox(noise())
    logits = TorchBackend(plain, predictor.classes, (64, 64), torch.float32)(to_tensor(canvas)[None])[0]
    assert torch.equal(listed.canvas_logits(canvas), logits)
    assert np.array_equal(listed(noise()), box.mask(logits))


def test_models_that_are_certain_of_different_things_give_numbers(predictor: Predictor, checkpoint: Path) -> None:
    certain = torch.tensor([1e5, 0.0, -1e5]).view(1, 3, 1, 1).expand(1, 3, *predictor.canvas_hw)

    class Certain(Segmenter):
        def __init__(self, logits: torch.Tensor) -> None:
            super().__init__(torch.nn.Identity(), stride=1, mean=(0, 0, 0), std=(1, 1, 1))
            self.logits = logits

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.logits

    members = [
        TorchBackend(Certain(logits), predictor.classes, (64, 64), torch.float32)
        for logits in (certain, certain.flip(1))
    ]
    ensemble = Predictor(together(members))
    np.testing.assert_allclose(ensemble.probabilities(noise())[:, 0, 0], [0.5, 0, 0.5], atol=1e-6)


def test_checkpoints_that_do_not_go_together_are_both_named(checkpoint: Path) -> None:
    names = variant(checkpoint, "names.pt", classes=Classes.build(["background", "square", "disc"]))
    more = variant(checkpoint, "more.pt", classes=Classes.build(["background", "disc", "square", "star"]))
    config = Checkpoint.load(checkpoint).config
    canvas = variant(checkpoint, "canvas.pt", config=replace(config, data=DataConfig(canvas=(64, 96))))
    for other, words in (
        (names, "its class 1 is square, that of .*best.pt is disc"),
        (more, "its class 3 is star, that of .*best.pt is missing"),
        (canvas, "its canvas is 96x64, that of .*best.pt is 64x64"),
    ):
        with pytest.raises(CheckpointError, match=rf"{other.name}: {words}"):
            Predictor.load([checkpoint, other])


def test_models_trained_in_different_precisions_predict_in_fp32(checkpoint: Path) -> None:
    config = replace(Checkpoint.load(checkpoint).config, train=TrainConfig(precision="bf16"))
    narrow = variant(checkpoint, "bf16.pt", config=config)
    assert Predictor.load([narrow, narrow], device="cpu").backend.precision == torch.bfloat16
    assert Predictor.load([narrow, checkpoint], device="cpu").backend.precision == torch.float32
    assert Predictor.load([narrow, checkpoint], device="cpu", precision="bf16").backend.precision == torch.bfloat16


def test_no_checkpoint_is_refused() -> None:
    with pytest.raises(ValueError, match="found no path"):
        Predictor.load([])
