import csv
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from segkit.classes import Classes
from segkit.config.schema import DataConfig, ModelConfig, RunConfig, TrainConfig
from segkit.errors import CheckpointError, DataError, RunFolderError
from segkit.inference.ensemble import together
from segkit.inference.folding import for_inference
from segkit.inference.predictor import Predictor
from segkit.inference.torch_backend import TorchBackend
from segkit.loading.collate import to_tensor
from segkit.models.checkpoint import Checkpoint
from segkit.models.segmenter import Segmenter
from segkit.models.table import build_model
from segkit.predict import find_inputs, predict_files

CLASSES = Classes.build(["background", "disc", "square"], colors=[(0, 0, 0), (250, 0, 0), (0, 0, 250)])


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = RunConfig(
        data=DataConfig(canvas=(64, 64)),
        model=ModelConfig(name="lite_unet", encoder="resnet18", pretrained="none"),
        train=TrainConfig(precision="fp32"),
    )
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model") / "best.pt"
    Checkpoint(weights=build_model(config.model, 3).state_dict(), config=config, classes=CLASSES).save(path)
    return path


@pytest.fixture(scope="module")
def predictor(checkpoint: Path) -> Predictor:
    return Predictor.load(checkpoint, device="cpu")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for name, hw in (("a.jpg", (40, 60)), ("b.png", (64, 64)), ("deep/er/c.d.jpg", (33, 90))):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (*hw, 3), np.uint8)).save(path)
    return tmp_path / "in"


def rows(output: Path) -> list[dict[str, str]]:
    with (output / "predictions.csv").open() as file:
        return list(csv.DictReader(file))


# ---- one picture


@pytest.mark.parametrize("hw", [(40, 60), (64, 64), (200, 10), (1, 1)])
def test_a_mask_has_the_size_of_its_picture(predictor: Predictor, hw: tuple[int, int]) -> None:
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


def test_a_path_may_be_a_string(checkpoint: Path) -> None:
    assert Predictor.load(str(checkpoint), device="cpu").classes == CLASSES


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


def test_rows_of_what_was_saved_are_kept_when_the_rest_fails(
    predictor: Predictor, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def saved() -> set[str]:
        return {path.stem for path in (tmp_path / "out" / "masks").rglob("*.png")}

    def stop_at_the_third(self: Predictor, canvas: np.ndarray) -> torch.Tensor:
        calls.append(1)
        if len(calls) == 3:
            while not saved():  # by another thread; what it hasn't begun by now is given up
                time.sleep(0.01)
            raise KeyboardInterrupt
        return torch.zeros(4, *predictor.canvas_hw)

    monkeypatch.setattr(Predictor, "canvas_logits", stop_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        predict_files(predictor, str(pictures), tmp_path / "out")
    with (tmp_path / "out" / "predictions.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if not row["error"]]
    assert {Path(row["input"]).stem for row in rows} == saved()


def test_a_picture_beyond_memory_is_a_row_with_its_error(
    predictor: Predictor, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Predictor, canvas: np.ndarray) -> torch.Tensor:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes")

    monkeypatch.setattr(Predictor, "canvas_logits", fail)
    results = predict_files(predictor, str(pictures), tmp_path / "out")
    assert all("too large for this machine's memory" in result.error for result in results)


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
    logits = TorchBackend(plain, CLASSES, (64, 64), torch.float32)(to_tensor(canvas)[None])[0]
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

    members = [TorchBackend(Certain(x), CLASSES, (64, 64), torch.float32) for x in (certain, certain.flip(1))]
    ensemble = Predictor(together(members))
    np.testing.assert_allclose(ensemble.probabilities(noise())[:, 0, 0], [0.5, 0, 0.5], atol=1e-6)


def test_checkpoints_that_do_not_go_together_are_both_named(checkpoint: Path) -> None:
    names = variant(checkpoint, "names.pt", classes=Classes.build(["background", "square", "disc"]))
    more = variant(checkpoint, "more.pt", classes=Classes.build([*CLASSES.names, "star"]))
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


# ---- files


def test_a_folder_is_predicted_with_its_structure(predictor: Predictor, pictures: Path, tmp_path: Path) -> None:
    results = predict_files(predictor, str(pictures), tmp_path / "out")
    assert [result.error for result in results] == ["", "", ""]
    masks = sorted(
        path.relative_to(tmp_path / "out" / "masks").as_posix() for path in (tmp_path / "out" / "masks").rglob("*.png")
    )
    assert masks == ["a.png", "b.png", "deep/er/c.d.png"]
    assert (tmp_path / "out" / "overlays" / "deep" / "er" / "c.d.jpg").is_file()


def test_masks_are_palette_pngs_of_class_ids_at_the_original_size(
    predictor: Predictor, pictures: Path, tmp_path: Path
) -> None:
    predict_files(predictor, str(pictures / "a.jpg"), tmp_path / "out")
    with Image.open(tmp_path / "out" / "masks" / "a.png") as image:
        assert image.mode == "P"
        assert image.getpalette()[:9] == [0, 0, 0, 250, 0, 0, 0, 0, 250]  # type: ignore[index]
        assert np.array_equal(np.array(image), predictor(np.array(Image.open(pictures / "a.jpg"))))


def test_rows_hold_size_and_pixels_by_class(predictor: Predictor, pictures: Path, tmp_path: Path) -> None:
    predict_files(predictor, str(pictures), tmp_path / "out", overlays=False)
    found = rows(tmp_path / "out")
    assert [(row["height"], row["width"]) for row in found] == [("40", "60"), ("64", "64"), ("33", "90")]
    for row in found:
        assert sum(int(row[f"pixels_{name}"]) for name in CLASSES.names) == int(row["height"]) * int(row["width"])
        assert float(row["seconds"]) > 0
    assert not (tmp_path / "out" / "overlays").exists()


def test_a_bad_picture_is_a_row_with_its_error_and_the_others_are_done(
    predictor: Predictor, pictures: Path, tmp_path: Path
) -> None:
    (pictures / "b.png").write_bytes(b"no picture")
    results = predict_files(predictor, str(pictures), tmp_path / "out")
    assert [bool(result.error) for result in results] == [False, True, False]
    assert "b.png: not an image" in rows(tmp_path / "out")[1]["error"]
    assert not (tmp_path / "out" / "masks" / "b.png").exists()
    assert (tmp_path / "out" / "masks" / "a.png").exists()


def test_pictures_of_one_name_get_masks_of_two(predictor: Predictor, pictures: Path, tmp_path: Path) -> None:
    Image.new("RGB", (5, 5)).save(pictures / "a.png")
    predict_files(predictor, str(pictures), tmp_path / "out", overlays=False)
    assert {path.name for path in (tmp_path / "out" / "masks").glob("a*")} == {"a.jpg.png", "a.png.png"}


def test_masks_that_are_there_are_not_overwritten_unless_asked(
    predictor: Predictor, pictures: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    predict_files(predictor, str(pictures / "a.jpg"), out)
    (out / "masks" / "a.png").write_text("corrected by hand")
    with pytest.raises(RunFolderError, match="--overwrite"):
        predict_files(predictor, str(pictures / "a.jpg"), out)
    assert (out / "masks" / "a.png").read_text() == "corrected by hand"
    predict_files(predictor, str(pictures / "a.jpg"), out, overwrite=True)
    assert (out / "masks" / "a.png").read_bytes().startswith(b"\x89PNG")


def test_output_within_the_input_is_not_predicted_again(predictor: Predictor, pictures: Path) -> None:
    predict_files(predictor, str(pictures), pictures / "out")
    assert len(predict_files(predictor, str(pictures), pictures / "out", overwrite=True)) == 3


# ---- what an input may be


def test_a_pattern_finds_pictures_at_any_depth(pictures: Path) -> None:
    root, found = find_inputs(f"{pictures}/**/*.jpg", outside=Path("out"))
    assert root == pictures
    assert [path.name for path in found] == ["a.jpg", "c.d.jpg"]


def test_a_picture_with_brackets_in_its_name_is_taken_as_it_is(pictures: Path) -> None:
    odd = pictures / "x[1].jpg"
    (pictures / "a.jpg").rename(odd)
    assert find_inputs(str(odd), outside=Path("out"))[1] == [odd]


@pytest.mark.parametrize(
    ("source", "words"),
    [("nowhere", "no such file or folder"), ("*.gif", "matches no picture"), ("empty", "no pictures")],
)
def test_inputs_that_hold_no_picture_are_named(tmp_path: Path, source: str, words: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=words):
        find_inputs(str(tmp_path / source), outside=Path("out"))
