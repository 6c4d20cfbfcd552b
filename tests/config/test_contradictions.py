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
        ("loss: {cross_entropy: 0, dice: 1, label_smoothing: 0.1}", "loss.label_smoothing"),
        ("loss: {dice_form: squared}", "loss.dice_form"),
        ("loss: {dice: 1, tversky_alpha: 0.5}", "loss.tversky_alpha"),
        ("loss: {dice: 1, tversky_beta: 0.5}", "loss.tversky_beta"),
        ("loss: {tversky: 1, focal_tversky_gamma: 2}", "loss.focal_tversky_gamma"),
        ("loss: {ohem_threshold: 0.5}", "loss.ohem_threshold"),
        ("loss: {ohem_min_kept: 0.5}", "loss.ohem_min_kept"),
        ("loss: {rmi_radius: 2}", "loss.rmi_radius"),
        ("loss: {rmi_pool: 2}", "loss.rmi_pool"),
        ("loss: {schedule: {boundary: [0, 1]}}", "loss.schedule.boundary"),
        ("optim: {momentum: 0.5}", "optim.momentum"),
        ("optim: {schedule: cosine, power: 2}", "optim.power"),
        ("optim: {step_epochs: [3]}", "optim.step_epochs"),
        ("optim: {schedule: constant, min_lr: 0.1}", "optim.min_lr"),
        ("optim: {step_factor: 0.5}", "optim.step_factor"),
        ("optim: {name: lion, momentum: 0.5}", "optim.momentum"),
        ("optim: {nesterov: false}", "optim.nesterov"),
        ("optim: {name: sgd, momentum: 0, nesterov: false}", "optim.nesterov"),
        ("optim: {schedule: one_cycle, warmup: 0.1}", "optim.warmup"),
        ("optim: {schedule: linear, cycles: 2}", "optim.cycles"),
        ("optim: {schedule: cosine, cycle_factor: 2}", "optim.cycle_factor"),
        ("optim: {step_every: 3}", "optim.step_every"),
        ("optim: {schedule: step, step_every: 3, patience: 3}", "optim.patience"),
        ("optim: {rise: 0.2}", "optim.rise"),
        ("optim: {start_lr: 0.2}", "optim.start_lr"),
        ("optim: {schedule: [[constant, 0.5], [linear, 1.0]], power: 2}", "optim.power"),
        ("optim: {thaw_warmup: 0.1}", "optim.thaw_warmup"),
        ("optim: {thaw_warmup: 0.1}\ntrain: {freeze: {encoder.*: always}}", "optim.thaw_warmup"),
        ("model: {norm: group}\ntrain: {sync_bn: true}", "train.sync_bn"),
        ("data: {cache_gib: 1}", "data.cache_gib"),
        ("data: {val_fraction: 0.1}", "data.val_fraction"),
        ("data: {repeat_threshold: 0.1}", "data.repeat_threshold"),
        ("data: {sampler: class_balanced, repeat_threshold: 0.1}", "data.repeat_threshold"),
        ("augment: {rare_crops: 0.5, scale: [0.5, 1.0]}", "augment.rare_crops"),
        ("augment: {rare_crops: 0.5, scale: [1.0, 1.5], crop: [768, 800]}", "augment.rare_crops"),
        ("{data: {unlabeled: ignore}, augment: {scale: [0.5, 1.0]}}", "data.unlabeled"),
    ],
)
def test_a_setting_without_effect_is_an_error(text: str, key: str) -> None:
    assert f"{key}: set, but without effect" in refused(text)


@pytest.mark.parametrize(
    "text",
    [
        "loss: {focal: 1, gamma: 3}",
        "loss: {label_smoothing: 0.1}",
        "loss: {dice: 1, dice_form: squared}",
        "loss: {tversky: 1, tversky_alpha: 0.5, tversky_beta: 0.5}",
        "loss: {focal_tversky: 1, tversky_alpha: 0.5, focal_tversky_gamma: 2}",
        "loss: {cross_entropy: 0, ohem: 1, ohem_threshold: 0.5, ohem_min_kept: 0.5, class_weights: log}",
        "loss: {rmi: 1, rmi_radius: 2, rmi_pool: 2}",
        "loss: {boundary: 0.01, schedule: {boundary: [0, 1], cross_entropy: [1, 0.5]}}",
        "optim: {name: sgd, momentum: 0.5}",
        "optim: {thaw_warmup: 0.1}\ntrain: {freeze_epochs: 1}",
        "optim: {thaw_warmup: 0.1}\ntrain: {freeze: {encoder.*: 2, '*.bias': always}}",
        "optim: {name: rmsprop, momentum: 0.5}",
        "optim: {name: muon, nesterov: false}",
        "optim: {schedule: one_cycle, rise: 0.2, start_lr: 0.1, min_lr: 0.1}",
        "optim: {schedule: cosine, cycles: 3, cycle_factor: 2}",
        "optim: {schedule: plateau, patience: 3, step_factor: 0.5, min_lr: 0.1}",
        "optim: {schedule: [[constant, 0.5], [poly, 1.0]], power: 2}",
        "optim: {schedule: step, step_epochs: [3]}",
        "data: {layout: folders, val_fraction: 0.1}",
        "data: {sampler: repeat_factor, repeat_threshold: 0.1}",
        "augment: {rare_crops: 0.5, scale: [1.0, 1.5], crop: [768, 700]}",
        "augment: {rare_crops: 0.5, scale: [0.5, 1.0], crop: [512, 256]}",
        "data: {unlabeled: ignore}",
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
        (
            "loss: {schedule: {hausdorff: [0, 1]}}",
            "loss.schedule.hausdorff: unknown loss, expected one of cross",
        ),
        ("loss: {schedule: {cross_entropy: [1, 1]}}", "loss.schedule.cross_entropy: found 1 at both ends"),
        ("loss: {tversky: 1, tversky_alpha: 0, tversky_beta: 0}", "found 0 for both"),
        ("loss: {ohem: 1, ohem_threshold: 0, ohem_min_kept: 0}", "found 0 for both"),
        ("{loss: {rmi: 1}, data: {canvas: [512, 8]}}", "training images of 512x8 hold no region of 3x3 cells"),
        ("{loss: {rmi: 1}, augment: {crop: [8, 64]}}", "training images of 8x64 hold no region"),
        ("augment: {scale: [2, 1]}", "expected [smallest, largest]"),
        ("optim: {schedule: step}", "optim.step_epochs: empty"),
        ("optim: {schedule: step, step_epochs: [3], step_every: 3}", "optim.step_epochs: both this and step_every"),
        ("optim: {schedule: exponential, min_lr: 0}", "optim.min_lr: found 0"),
        ("optim: {schedule: [[constant, 0.5]]}", "parts that end at [0.5], expected rising fractions"),
        ("optim: {schedule: [[constant, 0.5], [poly, 0.5], [linear, 1.0]]}", "expected rising fractions"),
        ("optim: {schedule: []}", "expected rising fractions"),
        ("optim: {schedule: [[constant, 0.05], [poly, 1.0]]}", "expected more than optim.warmup, 0.05"),
        ("optim: {schedule: [[constant, 0.5], [plateau, 1.0]]}", "plateau can't be part of a chain"),
        ("optim: {schedule: [[one_cycle, 0.5], [poly, 1.0]]}", "one_cycle can't be part of a chain"),
        ("optim: {schedule: [[constant, 0.5, 2], [poly, 1.0]]}", "each entry a list of one of: poly, cosine"),
        ("optim: {schedule: polly}", "did you mean poly?"),
        ("optim: {groups: {'head.*': {rate: 2}}}", "optim.groups: found"),
        (
            "train: {sharding: fsdp2}\noptim: {name: muon}",
            "train.sharding: fsdp2 can't be combined with optim.name: muon",
        ),
        ("train: {batch_size: 8, accumulate: 3}", "doesn't divide"),
        ("train: {sharding: fsdp2, compile: true}", "train.sharding: fsdp2 can't be combined with train.compile"),
        ("train: {sharding: fsdp2, sync_bn: true}", "train.sync_bn"),
        ("train: {sharding: fsdp2, gradient_compression: fp16}", "train.gradient_compression"),
        ("train: {sharding: fsdp2, freeze: {encoder.*: 2}}", "can't be combined with train.freeze"),
        ("data: {ignore_values: rest}", "needs data.mask_values"),
    ],
)
def test_contradictions_are_refused(text: str, words: str) -> None:
    assert words in refused(text)


@pytest.mark.parametrize(
    "text",
    [
        "loss: {cross_entropy: 0, dice: 1}",
        "loss: {tversky: 1, tversky_alpha: 0}",
        "loss: {ohem: 1, ohem_threshold: 0}",
        "{loss: {rmi: 1}, data: {canvas: [9, 9]}}",
        "augment: {scale: [1, 1]}",
        "train: {batch_size: 8, accumulate: 4}",
        "train: {batch_size: auto, accumulate: 3}",
        "train: {sharding: fsdp2}",
        "train: {sharding: fsdp2}\noptim: {name: lion}",
        "optim: {schedule: step, step_every: 3}",
        "optim: {schedule: exponential, min_lr: 0.001}",
        "optim: {schedule: [[constant, 0.06], [linear, 1]]}",
        "optim: {groups: {'head.*': {lr: 2, weight_decay: 0}, '*.bias': {lr: 2}}, layer_decay: 0.5, l1: 0.1}",
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
