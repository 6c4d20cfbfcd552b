import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from segkit.config.schema import ModelConfig
from segkit.inference.folding import _warn, for_inference
from segkit.models.segmenter import Segmenter
from segkit.models.table import build_model

CANVAS = (64, 64)
MODELS = [
    ModelConfig("unet", "resnet18", "none"),
    ModelConfig("deeplabv3plus", "mobilenet_v2", "none"),
    ModelConfig("fpn", "tu-mobilenetv3_small_050", "none"),
    ModelConfig("lite_unet", "tu-tf_efficientnet_lite0", "none"),
    ModelConfig("segformer", "mit_b0", "none"),
    ModelConfig("unet_classic", "resnet50", "none"),
    ModelConfig("unet", "peleenet", "none"),
]


def unsettled(config: ModelConfig) -> Segmenter:
    """A model whose BatchNorm statistics are not the initial ones, so that folding them changes something."""
    torch.manual_seed(0)
    model = build_model(config, 4).to_device(torch.device("cpu"), channels_last=True)
    for layer in model.modules():
        if isinstance(layer, _BatchNorm):
            nn.init.uniform_(layer.running_mean, -0.2, 0.2)  # type: ignore[arg-type]
            nn.init.uniform_(layer.running_var, 0.5, 2)  # type: ignore[arg-type]
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.uniform_(layer.bias, -0.2, 0.2)
    return model


def norms(model: nn.Module) -> int:
    return sum(isinstance(layer, _BatchNorm) for layer in model.modules())


@pytest.mark.parametrize("config", MODELS, ids=lambda config: config.name)
def test_logits_stay_the_same_without_batchnorm(config: ModelConfig) -> None:
    model = unsettled(config)
    ready = for_inference(model, canvas_hw=CANVAS, precision=torch.float32)
    images = torch.randint(0, 256, (2, 3, *CANVAS), dtype=torch.uint8)
    with torch.no_grad():
        expected = model.eval()(images)
    torch.testing.assert_close(ready(images), expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))
    assert norms(ready) <= norms(model) // 10


def test_the_model_itself_is_left_as_it_was() -> None:
    model = unsettled(MODELS[0]).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for_inference(model, canvas_hw=CANVAS, precision=torch.bfloat16)
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert before.keys() == model.state_dict().keys()
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_what_folding_does_not_change_is_in_memory_once() -> None:
    model = unsettled(MODELS[0])
    ready = for_inference(model, canvas_hw=CANVAS, precision=torch.float32)
    name = "network.segmentation_head.0.weight"  # no BatchNorm follows
    theirs, ours = model.get_parameter(name), ready.get_parameter(name)
    assert ours.data_ptr() == theirs.data_ptr()
    assert (ours.requires_grad, theirs.requires_grad) == (False, True)


class Between(nn.Module):
    """Does something to the convolution's weight that folding can't know of."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Conv2d(3, 4, 1)
        self.norm = nn.BatchNorm2d(4)
        nn.init.uniform_(self.norm.running_var, 2, 3)  # type: ignore[arg-type]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raw = self.encoder(x)
        result: torch.Tensor = self.norm(raw) + raw
        return result


def between() -> Segmenter:
    return Segmenter(Between(), stride=32, mean=(0.5, 0.4, 0.3), std=(0.5, 0.25, 0.2))


def test_a_network_that_uses_more_than_the_normalised_output_is_not_folded() -> None:
    model = between()
    ready = for_inference(model, canvas_hw=CANVAS, precision=torch.float32)
    images = torch.randint(0, 256, (1, 3, *CANVAS), dtype=torch.uint8)
    assert norms(ready) == 1
    assert torch.equal(ready(images), model.eval()(images))


def test_what_is_not_folded_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    _warn.cache_clear()
    for _ in range(2):
        for_inference(between(), canvas_hw=CANVAS, precision=torch.float32)
    assert [record.getMessage().split(":")[1] for record in caplog.records] == [
        " BatchNorm of Between isn't folded for inference"
    ]


def test_what_is_folded_is_not_worth_a_word(caplog: pytest.LogCaptureFixture) -> None:
    for_inference(unsettled(MODELS[0]), canvas_hw=CANVAS, precision=torch.float32)
    assert not caplog.records


def test_weights_are_narrowed_once() -> None:
    ready = for_inference(unsettled(MODELS[0]), canvas_hw=CANVAS, precision=torch.bfloat16)
    kinds = {layer.weight.dtype for layer in ready.modules() if isinstance(layer, nn.Conv2d)}
    assert kinds == {torch.bfloat16}


def sizes_seen(canvas_hw: tuple[int, int], *, only_hw: tuple[int, int] | None = None, norm: bool = True) -> set[str]:
    """Fold a network that takes images of `only_hw`, or of any size; return the sizes of those that it was given."""
    seen = set()

    class Watching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4) if norm else nn.GroupNorm(2, 4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.add("{2}x{3}".format(*x.shape))
            assert only_hw in (None, tuple(x.shape[2:])), "as timm's transformers say it"
            result: torch.Tensor = self.encoder(x)
            return result

    model = Segmenter(Watching(), stride=32, mean=(0.5, 0.4, 0.3), std=(0.5, 0.25, 0.2))
    assert norms(for_inference(model, canvas_hw=canvas_hw, precision=torch.float32)) == 0
    return seen


def test_a_small_image_shows_what_can_be_folded() -> None:
    assert sizes_seen((640, 960)) == {"64x96"}


def test_no_image_is_larger_than_the_canvas() -> None:
    assert sizes_seen((32, 960)) == {"32x96"}


def test_a_network_of_one_size_is_given_the_canvas() -> None:
    assert sizes_seen((224, 224), only_hw=(224, 224)) == {"64x96", "224x224"}


def test_a_network_without_batchnorm_is_given_nothing() -> None:
    assert sizes_seen((640, 960), norm=False) == set()


def test_a_network_that_takes_no_image_says_why() -> None:
    with pytest.raises(AssertionError, match="as timm's transformers say it"):
        sizes_seen((224, 224), only_hw=(7, 7))
