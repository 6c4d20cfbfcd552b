"""Settings that can't have an effect, and settings that exclude each other. To add a rule, write it here."""

from itertools import pairwise

from segkit.config.keys import differences
from segkit.config.schema import LossConfig, OptimConfig, RunConfig, ScheduleName


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
        "data.unlabeled": (
            any(augment.scale[1] * data.canvas[k] > (augment.crop or data.canvas)[k] for k in range(2)),
            "images that are cropped, around labelled pixels: augment.scale above 1, or augment.crop smaller than "
            "data.canvas",
        ),
        "model.weights_map": (from_file, "a file of weights in model.pretrained"),
        "data.more_images": (
            bool(config.distill.teachers) or config.semi.weight > 0,
            "distill.teachers or semi.weight: someone who says what is on them",
        ),
        "semi.weight": (config.train.ema > 0, "train.ema, the moving average that is the teacher"),
        "semi.threshold": (config.semi.weight > 0, "semi.weight > 0"),
        "semi.mix": (config.semi.weight > 0, "semi.weight > 0"),
        "distill.weight": (bool(config.distill.teachers), "distill.teachers"),
        "distill.temperature": (bool(config.distill.teachers), "distill.teachers"),
        "loss.gamma": (loss.focal > 0, "loss.focal > 0"),
        "loss.alpha": (loss.focal > 0, "loss.focal > 0"),
        "loss.class_weights": (
            loss.cross_entropy + loss.focal + loss.ohem > 0,
            "loss.cross_entropy, loss.focal or loss.ohem > 0",
        ),
        "loss.label_smoothing": (loss.cross_entropy > 0, "loss.cross_entropy > 0"),
        "loss.dice_form": (loss.dice > 0, "loss.dice > 0"),
        "loss.tversky_alpha": (loss.tversky + loss.focal_tversky > 0, "loss.tversky or loss.focal_tversky > 0"),
        "loss.tversky_beta": (loss.tversky + loss.focal_tversky > 0, "loss.tversky or loss.focal_tversky > 0"),
        "loss.focal_tversky_gamma": (loss.focal_tversky > 0, "loss.focal_tversky > 0"),
        "loss.ohem_threshold": (loss.ohem > 0, "loss.ohem > 0"),
        "loss.ohem_min_kept": (loss.ohem > 0, "loss.ohem > 0"),
        "loss.rmi_radius": (loss.rmi > 0, "loss.rmi > 0"),
        "loss.rmi_pool": (loss.rmi > 0, "loss.rmi > 0"),
        "train.sync_bn": (config.model.norm == "batch", "model.norm: batch"),
        **_optimizer_rules(optim),
        **_schedule_rules(optim),
        "optim.thaw_warmup": (
            config.train.freeze_epochs > 0 or any(epochs != "always" for epochs in config.train.freeze.values()),
            "something that thaws: train.freeze_epochs > 0, or train.freeze with a number of epochs",
        ),
    }
    changed = differences(RunConfig(), config)
    return [
        f"{key}: set, but without effect: it needs {needs}"
        for key, (effective, needs) in rules.items()
        if key in changed and not effective
    ]


def _optimizer_rules(optim: OptimConfig) -> dict[str, tuple[bool, str]]:
    return {
        "optim.momentum": (optim.name in ("sgd", "rmsprop", "muon"), "optim.name: sgd, rmsprop or muon"),
        "optim.nesterov": (
            optim.name in ("sgd", "muon") and optim.momentum > 0,
            "optim.name: sgd or muon, and optim.momentum > 0",
        ),
    }


def _schedule_rules(optim: OptimConfig) -> dict[str, tuple[bool, str]]:
    def used(*names: ScheduleName) -> bool:
        return bool(optim.schedules & set(names))

    return {
        "optim.warmup": (optim.warms_up, "optim.schedule: any but one_cycle, which rises over optim.rise"),
        "optim.power": (used("poly"), "optim.schedule: poly"),
        "optim.min_lr": (
            used("poly", "cosine", "linear", "exponential", "one_cycle", "plateau"),
            "optim.schedule: poly, cosine, linear, exponential, one_cycle or plateau",
        ),
        "optim.cycles": (used("cosine"), "optim.schedule: cosine"),
        "optim.cycle_factor": (used("cosine") and optim.cycles > 1, "optim.schedule: cosine, and optim.cycles > 1"),
        "optim.step_epochs": (used("step"), "optim.schedule: step"),
        "optim.step_every": (used("step"), "optim.schedule: step"),
        "optim.step_factor": (used("step", "plateau"), "optim.schedule: step or plateau"),
        "optim.patience": (used("plateau"), "optim.schedule: plateau"),
        "optim.rise": (used("one_cycle"), "optim.schedule: one_cycle"),
        "optim.start_lr": (used("one_cycle"), "optim.schedule: one_cycle"),
    }


def _excluding(config: RunConfig) -> list[str]:
    data, augment, loss, optim, train = config.data, config.augment, config.loss, config.optim, config.train
    tta = config.eval.tta
    problems = []
    if not any(loss.weights.values()):
        problems.append(f"loss: every weight is 0; expected at least one of {', '.join(loss.weights)} above 0")
    if data.unlabeled == "ignore" and augment.rare_crops:
        problems.append(
            "augment.rare_crops: can't be combined with data.unlabeled: ignore, by which every crop holds a labelled "
            "pixel, of a rare class rather than of others; leave it out"
        )
    problems += _of_schedule(loss)
    if loss.tversky_alpha == loss.tversky_beta == 0:
        problems.append("loss.tversky_alpha, loss.tversky_beta: found 0 for both, expected at least one above 0")
    if loss.ohem_threshold == loss.ohem_min_kept == 0:
        problems.append("loss.ohem_threshold, loss.ohem_min_kept: found 0 for both, expected at least one above 0")
    if loss.rmi and min(canvas := augment.crop or data.canvas) < loss.rmi_radius * loss.rmi_pool:
        problems.append(
            f"loss.rmi: training images of {canvas[0]}x{canvas[1]} hold no region of {loss.rmi_radius}x"
            f"{loss.rmi_radius} cells of {loss.rmi_pool}x{loss.rmi_pool} pixels; lower loss.rmi_radius or loss.rmi_pool"
        )
    if config.semi.weight and train.sharding != "none":
        problems.append(f"semi.weight: can't be combined with train.sharding: {train.sharding}; leave one out")
    if data.more_images and (data.layout == "webdataset" or data.sampler != "uniform"):
        problems.append("data.more_images: needs data.layout: voc or folders, and data.sampler: uniform")
    if augment.partners and data.layout == "webdataset":
        problems.append(
            f"augment.{augment.partners[0]}: needs other images at random, which data.layout: webdataset reads in "
            "order; leave it out"
        )
    if augment.scale[0] > augment.scale[1]:
        problems.append(f"augment.scale: found {list(augment.scale)}, expected [smallest, largest]")
    problems += _schedule_problems(optim)
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
    if train.sharding != "none" and optim.name == "muon":
        problems.append(
            f"train.sharding: {train.sharding} can't be combined with optim.name: muon, which takes each weight as a "
            "whole matrix; choose adamw"
        )
    if train.sharding != "none" and train.freeze:
        problems.append(
            f"train.sharding: {train.sharding} can't be combined with train.freeze: its losses differ from those of "
            "unsharded training; leave one out"
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


def _schedule_problems(optim: OptimConfig) -> list[str]:
    problems = []
    if "step" in optim.schedules and bool(optim.step_epochs) == bool(optim.step_every):
        found = "both" if optim.step_every else "empty"
        problems.append(
            f"optim.step_epochs: {found}{' this and step_every' if optim.step_every else ''}, expected the epochs "
            "after which lr drops, as in [60, 80], or optim.step_every: 30"
        )
    if "exponential" in optim.schedules and optim.min_lr == 0:
        problems.append("optim.min_lr: found 0, which an exponential never reaches; expected a number > 0")
    if isinstance(optim.schedule, str):
        return problems
    ends = [end for _, end in optim.schedule]
    if not ends or ends[-1] != 1 or any(end <= before for before, end in pairwise(ends)):
        problems.append(
            f"optim.schedule: found parts that end at {ends}, expected rising fractions of the run, the last one 1.0"
        )
    elif ends[0] <= optim.warmup:
        problems.append(
            f"optim.schedule: the first part ends at {ends[0]}, expected more than optim.warmup, {optim.warmup}"
        )
    if alone := sorted(optim.schedules & {"plateau", "one_cycle"}):
        problems.append(f"optim.schedule: {' and '.join(alone)} can't be part of a chain; expected the name alone")
    return problems


def _of_schedule(loss: LossConfig) -> list[str]:
    problems = []
    for name, (first, last) in loss.schedule.items():
        where = f"loss.schedule.{name}"
        if name not in loss.weights:
            problems.append(f"{where}: unknown loss, expected one of {', '.join(loss.weights)}")
        elif not loss.weights[name]:
            problems.append(f"{where}: set, but without effect: it needs loss.{name} > 0")
        elif first == last:
            problems.append(f"{where}: found {first:g} at both ends; put a constant factor into loss.{name}")
    return problems
