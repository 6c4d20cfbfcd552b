"""segkit: a folder of images and label masks in, a trained, measured semantic segmentation model out.

The verbs that a reader edits are files here; everything else is a noun with a folder, whose docstring names its files.
The floors, highest first: a module imports only from floors below its own, and never from its neighbours on the same.

    cli                             the `segkit` command: which command, its exit code
    commands                        a file per command; tools/*.py are the same commands as scripts
    tune | plan | lr_find | cross_validation | postprocess | calibrate | compare | suspects  before a run; folds; after
    train | eval_miou | score | rank  the training loop; figures of a checkpoint; of any masks; what to label next
    training | doctor               what a run needs beside its loop; `segkit check`
    report | predict | export | serving  tables; masks and overlays of images; models for other runtimes, and over HTTP
    prediction                      what `segkit predict` reads and writes
    evaluation                      the confusion matrix, every figure, validation
    inference | formats             trained models that predict; labels of other tools
    loading | models                augmented batches; networks and checkpoints
    losses                          what is minimised
    datasets                        what lies on a disk or in a bucket
    imaging | runtime               pixels and class ids as arrays; device, ranks, files, threads
    config | classes                the YAML file of an experiment; names, colours, ignore_index
    errors                          what a user can fix

Shapes and names, the same in every file:

    B batch   C classes   H W network canvas   h w original image   *_hw a (height, width) pair   num_* a count
    image    uint8 RGB pixels [3, H, W] (arrays from files: [h, w, 3])     images   uint8 [B, 3, H, W]
    mask     uint8 class ids [H, W]; ignore_index marks pixels without a label
    logits   raw scores float [B, C, H, W]        target   a batch of masks, in losses and metrics only

Public names, each imported when it is first used, so that `import segkit` and `segkit --help` load nothing heavy:

    load_config(path, overrides)        a checked RunConfig          segkit.config.reading
    train.train(config)                 a trained run folder         segkit.train, the module: see below
    evaluate(checkpoint, overrides)     scores on a split            segkit.eval_miou.eval_miou
    Predictor.load(checkpoint)          image in, mask out           segkit.inference.predictor
    Checkpoint.load(path)               weights, config, classes     segkit.models.checkpoint

`segkit.train` is the module that holds the loop and its function `train`. A function can't have that name too: Python
sets the attribute to the module whenever anyone imports it, so the name would change its meaning on the way.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from segkit import train
    from segkit.config.reading import load_config
    from segkit.eval_miou import eval_miou as evaluate
    from segkit.inference.predictor import Predictor
    from segkit.models.checkpoint import Checkpoint

__version__ = "0.1.0"
__all__ = ["Checkpoint", "Predictor", "__version__", "evaluate", "load_config", "train"]

_SOURCES = {
    "Checkpoint": ("segkit.models.checkpoint", "Checkpoint"),
    "Predictor": ("segkit.inference.predictor", "Predictor"),
    "evaluate": ("segkit.eval_miou", "eval_miou"),
    "load_config": ("segkit.config.reading", "load_config"),
    "train": ("segkit.train", None),
}


def __getattr__(name: str) -> Any:
    if name not in _SOURCES:
        raise AttributeError(f"module 'segkit' has no attribute {name!r}")
    source, attribute = _SOURCES[name]
    module = importlib.import_module(source)
    globals()[name] = value = module if attribute is None else getattr(module, attribute)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
