import pytest

from segkit.config.reading import config_from_dict
from segkit.config.schema import RunConfig
from segkit.config.strict_yaml import parse_yaml
from segkit.errors import ConfigError


def config(text: str) -> RunConfig:
    return config_from_dict(parse_yaml(text, where="test"), where="test")


def refused(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        config(text)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("loss: {gamma: 3}", "loss.gamma"),
        ("model: {weights_map: map.yaml}", "model.weights_map"),
        ("model: {weights_map: map.yaml, pretrained: none}", "model.weights_map"),
        ("loss: {alpha: [1, 1]}", "loss.alpha"),
        ("loss: {cross_entropy: 0, dice: 1, class_weights: log}", "loss.class_weights"),
        ("optim: {momentum: 0.5}", "optim.momentum"),
        ("optim: {schedule: cosine, power: 2}", "optim.power"),
        ("optim: {step_epochs: [3]}", "optim.step_epochs"),
        ("optim: {schedule: constant, min_lr: 0.1}", "optim.min_lr"),
        ("optim: {step_factor: 0.5}", "optim.step_factor"),
        ("data: {cache_gib: 1}", "data.cache_gib"),
        ("data: {val_fraction: 0.1}", "data.val_fraction"),
        ("data: {repeat_threshold: 0.1}", "data.repeat_threshold"),
        ("data: {sampler: class_balanced, repeat_threshold: 0.1}", "data.repeat_threshold"),
        ("augment: {rare_crops: 0.5, scale: [0.5, 1.0]}", "augment.rare_crops"),
        ("augment: {rare_crops: 0.5, scale: [1.0, 1.5], crop: [768, 800]}", "augment.rare_crops"),
    ],
)
def test_a_setting_without_effect_is_an_error(text: str, key: str) -> None:
    assert f"{key}: set, but without effect" in refused(text)


@pytest.mark.parametrize(
    "text",
    [
        "loss: {focal: 1, gamma: 3}",
        "optim: {name: sgd, momentum: 0.5}",
        "optim: {schedule: step, step_epochs: [3]}",
        "data: {layout: folders, val_fraction: 0.1}",
        "data: {sampler: repeat_factor, repeat_threshold: 0.1}",
        "augment: {rare_crops: 0.5, scale: [1.0, 1.5], crop: [768, 700]}",
        "augment: {rare_crops: 0.5, scale: [0.5, 1.0], crop: [512, 256]}",
        "data: {cache: ram, cache_gib: 1}",
        "data: {layout: webdataset, cache_gib: 1}",
        "optim: {schedule: step, step_epochs: [3], step_factor: 0.5}",
        "model: {weights_map: map.yaml, pretrained: theirs.pth}",
        "loss: {gamma: 2.0}",  # the default is no setting
    ],
)
def test_the_same_setting_where_it_has_an_effect_is_fine(text: str) -> None:
    config(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("loss: {cross_entropy: 0}", "every weight is 0"),
        ("augment: {scale: [2, 1]}", "expected [smallest, largest]"),
        ("optim: {schedule: step}", "optim.step_epochs: empty"),
        ("train: {batch_size: 8, accumulate: 3}", "doesn't divide"),
        ("train: {sharding: fsdp2, compile: true}", "train.sharding: fsdp2 can't be combined with train.compile"),
        ("train: {sharding: fsdp2, sync_bn: true}", "train.sync_bn"),
        ("train: {sharding: fsdp2, gradient_compression: fp16}", "train.gradient_compression"),
        ("data: {ignore_values: rest}", "needs data.mask_values"),
    ],
)
def test_contradictions_are_refused(text: str, words: str) -> None:
    assert words in refused(text)


@pytest.mark.parametrize(
    "text",
    [
        "loss: {cross_entropy: 0, dice: 1}",
        "augment: {scale: [1, 1]}",
        "train: {batch_size: 8, accumulate: 4}",
        "train: {batch_size: auto, accumulate: 3}",
        "train: {sharding: fsdp2}",
        "train: {compile: true, sync_bn: true, gradient_compression: fp16}",
        "data: {ignore_values: rest, mask_values: [0, 255]}",
    ],
)
def test_settings_that_go_together_are_fine(text: str) -> None:
    config(text)


def test_the_classic_unet_and_the_weights_of_hed_are_for_their_own_encoders() -> None:
    assert "unet_classic takes vgg16 or resnet50" in refused("model: {name: unet_classic}")
    assert "hed is a VGG16" in refused("model: {pretrained: hed}")
    config("model: {name: unet_classic, encoder: resnet50}")
    config("model: {name: unet_classic, encoder: vgg16, pretrained: hed}")
