from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from segkit.cli import main
from segkit.datasets.images import read_image
from segkit.errors import ConfigError
from segkit.imaging.letterbox import LetterBox
from segkit.inference.features import (
    class_activation,
    feature_maps,
    heat,
    last_map_of_encoder,
    list_layers,
    stretched,
    tile,
)
from segkit.models.checkpoint import Checkpoint
from segkit.models.segmenter import Segmenter


@pytest.fixture
def segmenter(varied: Path) -> Segmenter:
    return Checkpoint.load(varied).build().eval()


@pytest.fixture
def image_path(shapes: Path) -> Path:
    return sorted((shapes / "JPEGImages").glob("*.jpg"))[0]


@pytest.fixture
def placed(image_path: Path, varied: Path) -> tuple[LetterBox, np.ndarray]:
    image = read_image(image_path)
    box = LetterBox.fit(image.shape[:2], Checkpoint.load(varied).config.data.canvas)
    return box, box.apply(image)


# ---- the picture


def test_channels_stand_in_a_near_square_grid_between_white_separators() -> None:
    maps = np.random.default_rng(0).normal(size=(7, 60, 80)).astype(np.float32)
    picture = tile(maps)
    assert picture.shape == (3 * 62 + 2, 3 * 82 + 2)
    assert (picture[:2] == 255).all()
    assert (picture[62:64] == 255).all()
    assert (picture[:, 82:84] == 255).all()
    assert np.array_equal(picture[64:124, 84:164], stretched(maps[4]))
    assert (picture[126:186, 84:] == 255).all()  # the grid's empty places


def test_a_small_map_is_enlarged_by_whole_pixels() -> None:
    maps = np.arange(6, dtype=np.float32).reshape(1, 2, 3)
    picture = tile(maps)
    assert picture.shape == (2 * 16 + 4, 3 * 16 + 4)
    assert np.array_equal(picture[2:-2, 2:-2], np.kron(stretched(maps[0]), np.ones((16, 16), np.uint8)))


def test_a_channel_is_stretched_and_a_constant_one_is_grey() -> None:
    assert stretched(np.array([[-1.0, 0.0, 1.0]])).tolist() == [[0, 128, 255]]
    assert stretched(np.full((1, 2), 7.0)).tolist() == [[128, 128]]


# ---- the maps


def test_maps_are_what_the_layer_gives_and_no_hook_stays(
    segmenter: Segmenter, placed: tuple[LetterBox, np.ndarray]
) -> None:
    layer = next(
        found for found in list_layers(segmenter, placed[1]) if len(found.shape) == 4 and "encoder" in found.name
    )
    given: list[torch.Tensor] = []
    handle = segmenter.get_submodule(layer.name).register_forward_hook(lambda _, __, output: given.append(output))
    with torch.inference_mode():
        segmenter(torch.from_numpy(placed[1].transpose(2, 0, 1)[None].copy()))
    handle.remove()
    assert np.array_equal(feature_maps(segmenter, layer.name, placed[1]), given[0][0].numpy())
    assert layer.shape == tuple(given[0].shape)
    assert not any(module._forward_hooks for module in segmenter.modules())


def test_the_activation_of_a_class_is_that_of_its_formula(
    segmenter: Segmenter, placed: tuple[LetterBox, np.ndarray]
) -> None:
    box, canvas = placed
    layer = last_map_of_encoder(list_layers(segmenter, canvas))
    class_id = int(np.bincount(predicted(segmenter, canvas)[box.inner].ravel()).argmax())
    found = class_activation(segmenter, layer, class_id, box, canvas)

    kept: list[torch.Tensor] = []
    handle = segmenter.get_submodule(layer).register_forward_hook(lambda _, __, output: kept.append(output))
    logits = segmenter(torch.from_numpy(canvas.transpose(2, 0, 1)[None].copy()))[0]
    handle.remove()
    inner = logits[(slice(None), *box.inner)]
    inner[class_id][inner.argmax(dim=0) == class_id].sum().backward(inputs=[kept[0]])
    weights = kept[0].grad.mean(dim=(2, 3), keepdim=True)
    expected = (weights * kept[0]).sum(dim=1)[0].relu().detach().numpy()
    assert found == pytest.approx(expected / expected.max(), abs=1e-5)


def test_a_layer_before_an_in_place_one_shows_its_own_output(
    segmenter: Segmenter, placed: tuple[LetterBox, np.ndarray]
) -> None:
    box, canvas = placed
    layer = "network.encoder.layer1.0.bn1"
    assert segmenter.get_submodule("network.encoder.layer1.0.relu").inplace
    class_id = int(np.bincount(predicted(segmenter, canvas)[box.inner].ravel()).argmax())
    maps, cam = feature_maps(segmenter, layer, canvas), class_activation(segmenter, layer, class_id, box, canvas)
    for module in segmenter.modules():
        if hasattr(module, "inplace"):
            module.inplace = False
    assert maps.min() < 0
    assert np.array_equal(maps, feature_maps(segmenter, layer, canvas))
    assert cam == pytest.approx(class_activation(segmenter, layer, class_id, box, canvas), abs=1e-6)


def predicted(segmenter: Segmenter, canvas: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return segmenter(torch.from_numpy(canvas.transpose(2, 0, 1)[None].copy()))[0].argmax(dim=0).numpy()


def test_heat_covers_the_image_and_not_its_bars() -> None:
    box = LetterBox.fit((20, 40), (40, 40))
    cam = np.zeros((40, 40), np.float32)
    cam[box.inner] = 1
    shown = heat(np.zeros((20, 40, 3), np.uint8), cam, box)
    assert shown.shape == (20, 40, 3)
    assert (shown[5:15] == shown[10, 20]).all()


def test_heat_leaves_out_what_pads_the_canvas_to_the_stride() -> None:
    box = LetterBox.fit((36, 64), (36, 64))  # the network sees 64x64
    cam = np.zeros((64, 64), np.float32)
    cam[18:36] = 1
    shown = heat(np.zeros((36, 64, 3), np.uint8), cam, box, stride=32)
    assert (shown[:18] == shown[0, 0]).all()
    assert (shown[18:] == shown[35, 0]).all()
    assert (shown[0, 0] != shown[35, 0]).any()


# ---- the command


def test_the_command_writes_maps_and_activations(
    varied: Path, image_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["features", str(varied), "--list"]) == 0
    layers = capsys.readouterr().out.splitlines()
    layer = next(line.split()[0] for line in layers if "encoder" in line and line.split()[1].count("x") == 3)
    out = tmp_path / "maps.png"
    assert main(["features", str(varied), str(image_path), "--layer", layer, "--output", str(out)]) == 0
    assert cv2.imread(str(out), -1).ndim == 2
    names = Checkpoint.load(varied).classes.names
    words = ["features", str(varied), str(image_path), "--output", str(out), "--cam"]
    assert any(main([*words, name]) == 0 for name in names)
    assert cv2.imread(str(out)).shape == read_image(image_path).shape


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--layer", "network.encodr"], r"--layer: found 'network.encodr', expected a layer, such as network.encoder"),
        (["--cam", "cat"], r"--cam: found 'cat', expected one of background"),
        ([], r"found neither --layer nor --cam"),
    ],
)
def test_what_it_cannot_do_is_refused(
    varied: Path, image_path: Path, words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["features", str(varied), str(image_path), *words, "--output", str(tmp_path / "x.png")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "x.png").exists()


@pytest.mark.parametrize("name", ["model.onnx", "model.xml", "model.pt2"])
def test_an_exported_model_is_refused(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["features", str(tmp_path / name), "--list"]) == 2
    assert f"{name}: an exported model, expected a checkpoint" in capsys.readouterr().err


def test_a_class_predicted_nowhere_is_named(segmenter: Segmenter, placed: tuple[LetterBox, np.ndarray]) -> None:
    segmenter.network.head.bias.data[2] -= 1e4
    with pytest.raises(ConfigError, match="--cam: square is predicted nowhere in this image, expected a class that is"):
        class_activation(segmenter, "network.head", 2, *placed, class_name="square")


def test_a_file_that_cannot_be_written_names_the_option(
    varied: Path, image_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    words = ["--layer", "network.head", "--output", str(tmp_path / "file" / "x.png")]
    assert main(["features", str(varied), str(image_path), *words]) == 2
    assert "--output FILE" in capsys.readouterr().err


def test_a_layer_without_maps_and_a_class_that_is_not_predicted_are_refused(
    segmenter: Segmenter, placed: tuple[LetterBox, np.ndarray]
) -> None:
    box, canvas = placed
    with pytest.raises(ConfigError, match=r"--layer network\.encoder: gives list, expected maps"):
        feature_maps(segmenter, "network.encoder", canvas)
    ids = predicted(segmenter, canvas)[box.inner]
    missing = next((k for k in range(4) if k not in ids), None)
    if missing is None:
        segmenter.network.head.bias.data[0] -= 100
        missing = 0
    with pytest.raises(ConfigError, match=f"--cam: class {missing} is predicted nowhere"):
        class_activation(segmenter, "network.head", missing, box, canvas)
