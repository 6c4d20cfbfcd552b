"""Settings that can't have an effect, and settings that exclude each other. To add a rule, write it here."""

from segkit.config.keys import differences
from segkit.config.schema import RunConfig


def contradictions(config: RunConfig) -> list[str]:
    """Return one line per mistake, empty if the settings go together. A default never counts as a setting."""
    return [*_without_effect(config), *_excluding(config)]


def _without_effect(config: RunConfig) -> list[str]:
    data, augment, loss, optim = config.data, config.augment, config.loss, config.optim
    from_file = config.model.pretrained not in ("imagenet", "hed", "none")
    # key: (whether it has an effect, what it needs to have one)
    rules = {
        "data.val_fraction": (data.layout == "folders", "data.layout: folders (voc and webdataset have splits)"),
        "data.cache_gib": (
            data.cache != "none" or data.layout == "webdataset",
            "data.cache: ram or disk, or data.layout: webdataset",
        ),
        "data.repeat_threshold": (data.sampler == "repeat_factor", "data.sampler: repeat_factor"),
        "augment.rare_crops": (
            any(augment.scale[1] * data.canvas[k] > (augment.crop or data.canvas)[k] for k in range(2)),
            "images that are cropped: augment.scale above 1, or augment.crop smaller than data.canvas",
        ),
        "model.weights_map": (from_file, "a file of weights in model.pretrained"),
        "loss.gamma": (loss.focal > 0, "loss.focal > 0"),
        "loss.alpha": (loss.focal > 0, "loss.focal > 0"),
        "loss.class_weights": (loss.cross_entropy + loss.focal > 0, "loss.cross_entropy or loss.focal > 0"),
        "optim.momentum": (optim.name == "sgd", "optim.name: sgd"),
        "optim.power": (optim.schedule == "poly", "optim.schedule: poly"),
        "optim.min_lr": (optim.schedule in ("poly", "cosine"), "optim.schedule: poly or cosine"),
        "optim.step_epochs": (optim.schedule == "step", "optim.schedule: step"),
        "optim.step_factor": (optim.schedule == "step", "optim.schedule: step"),
    }
    changed = differences(RunConfig(), config)
    return [
        f"{key}: set, but without effect: it needs {needs}"
        for key, (effective, needs) in rules.items()
        if key in changed and not effective
    ]


def _excluding(config: RunConfig) -> list[str]:
    data, augment, loss, optim, train = config.data, config.augment, config.loss, config.optim, config.train
    tta = config.eval.tta
    problems = []
    if not any(loss.weights.values()):
        problems.append(f"loss: every weight is 0; expected at least one of {', '.join(loss.weights)} above 0")
    if augment.scale[0] > augment.scale[1]:
        problems.append(f"augment.scale: found {list(augment.scale)}, expected [smallest, largest]")
    if optim.schedule == "step" and not optim.step_epochs:
        problems.append("optim.step_epochs: empty, expected the epochs after which lr drops, as in [60, 80]")
    if train.batch_size != "auto" and train.batch_size % train.accumulate:
        problems.append(
            f"train.accumulate: {train.accumulate} doesn't divide train.batch_size {train.batch_size}; a batch is "
            "split into that many equal parts"
        )
    if train.sharding != "none" and (train.compile or train.sync_bn or train.gradient_compression != "none"):
        problems.append(
            f"train.sharding: {train.sharding} can't be combined with train.compile, train.sync_bn or "
            "train.gradient_compression; switch those off"
        )
    if config.model.name == "unet_classic" and config.model.encoder not in ("vgg16", "resnet50"):
        problems.append(f"model.encoder: found {config.model.encoder}, but unet_classic takes vgg16 or resnet50")
    if config.model.pretrained == "hed" and config.model.encoder != "vgg16":
        problems.append(f"model.pretrained: hed is a VGG16; expected model.encoder: vgg16, not {config.model.encoder}")
    if data.ignore_values == "rest" and data.mask_values is None:
        problems.append("data.ignore_values: 'rest' needs data.mask_values, which list what is not the rest")
    if repeated := sorted({str(view) for view in tta if tta.count(view) > 1}):
        problems.append(f"eval.tta: found {', '.join(repeated)} more than once, expected each view once")
    if 1 in tta:
        problems.append("eval.tta: found scale 1, which is always among the views; leave it out")
    return problems
