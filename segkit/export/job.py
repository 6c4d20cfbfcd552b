"""The whole of an export: write the file out of sight, run it in its own runtime beside PyTorch, and keep it or not."""

import contextlib
import hashlib
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch

from segkit.config.schema import RunConfig
from segkit.datasets.images import read_image
from segkit.datasets.layouts import Item, list_items
from segkit.datasets.masks import build_mask_reader
from segkit.datasets.reading import read_pair
from segkit.errors import ConfigError, DataError, ExportError, RunFolderError, first_line
from segkit.evaluation.overrides import evaluation_config
from segkit.evaluation.validation import Validation
from segkit.export import onnx_file
from segkit.export.graph import Deployable, build_deployable, trace
from segkit.export.openvino_files import convert, save
from segkit.export.parity import Parity, compare, onnx_reference_difference
from segkit.export.quantize import CALIBRATION_IMAGES, layers_kept, quantize
from segkit.export.table import FORMATS
from segkit.imaging.letterbox import LetterBox
from segkit.inference.backend import Backend
from segkit.inference.exported import Exported, ExportedBackend, OutputKind, build_exported, is_exported
from segkit.inference.openvino_backend import compiled
from segkit.inference.ready import load_checkpoints, ready, ready_together
from segkit.inference.trained import stored_rules
from segkit.loading.evaluation_set import EvaluationSet
from segkit.models.checkpoint import Checkpoint
from segkit.prediction.inputs import find_inputs
from segkit.runtime.files import writing

FULL_AGREEMENT, REDUCED_AGREEMENT = 0.999, 0.99  # of class ids: in fp32, and in less
MAX_MIOU_DROP = 0.005
LARGEST_FOR_REFERENCE = 256 * 256  # pixels of an image that ONNX's reference implementation takes in seconds


@dataclass(frozen=True)
class ExportSettings:
    """What is exported, and what it has to hold; each field is an option of `segkit export`."""

    format: str
    output: Path
    output_kind: OutputKind = "logits"
    precision: str = "fp32"
    any_size: bool = False
    images: str | None = None  # what to compare on, as the INPUT of predict; None: the validation split
    num_images: int = 16
    min_agreement: float | None = None  # None: 0.999 in fp32, 0.99 else
    max_miou_drop: float = MAX_MIOU_DROP  # of int8, 0..1
    overwrite: bool = False


@dataclass(frozen=True)
class ExportReport:
    """What was written, and what was measured before it was kept.

    `reference_difference` is that of ONNX's own implementation, None for other formats. `miou` is that of PyTorch
    in fp32 and of the exported model, 0..1, where int8 had to be accepted by it; `kept_layers` kept their precision.
    """

    files: tuple[Path, ...]
    num_bytes: int
    about: Exported
    parity: Parity
    min_agreement: float
    reference_difference: float | None = None
    miou: tuple[float, float] | None = None
    kept_layers: tuple[str, ...] = ()


def export_model(paths: Sequence[Path], overrides: Sequence[str], settings: ExportSettings) -> ExportReport:
    """Export a checkpoint, or the ensemble of several, and keep the files if they agree with PyTorch.

    `overrides` say where the data is, as for `eval_miou`. Validation images are the first one's config's.

    Raises:
        CheckpointError: a file can't be read, or checkpoints don't go together.
        ConfigError: settings that don't go together, a package that isn't installed, a network that can't be exported.
        DataError: no images to compare on.
        ExportError: the exported model disagrees with PyTorch, or loses too much mIoU; no file is left.
        RunFolderError: the files exist, or can't be written.
    """
    _check(paths, settings)
    checkpoints = load_checkpoints(paths)
    config = evaluation_config(paths[0], checkpoints[0], overrides)
    compared = _images(config, checkpoints[0], settings)
    reference = ready_together(checkpoints, device="cpu", precision="fp32")[0]
    about = _about(paths, checkpoints, settings)
    with writing(settings.output.parent, remedy="choose another folder with --output"), _workshop(settings) as path:
        about = replace(about, path=path)
        members = [
            ready(checkpoint, torch.device("cpu"), precision=torch.float32, channels_last=False).model
            for checkpoint in checkpoints
        ]
        deployable = build_deployable(
            members, output=settings.output_kind, precision=settings.precision, any_size=settings.any_size
        )
        program = trace(deployable, config.data.canvas, any_size=settings.any_size)
        extra: dict[str, Any] = {}
        if settings.precision == "int8":
            model = convert(program, about, path)
            model, extra = _int8(model, about, reference, config, checkpoints[0], settings)
            save(model, about, path)
        else:
            FORMATS[settings.format].write(program, about, path)
        run = FORMATS[settings.format].run
        exported = ExportedBackend(run(path), about, config.data.canvas) if run else build_exported(about)
        parity = compare(exported, reference, compared)
        if settings.any_size:
            _check_another_size(exported, reference, compared[:2], deployable.stride, _min_agreement(settings))
        if path.suffix == ".onnx":
            extra["reference_difference"] = _ask_reference(deployable, exported)
        report = ExportReport(
            _places(settings, path.parent),
            sum(each.stat().st_size for each in path.parent.iterdir()),
            about,
            parity,
            _min_agreement(settings),
            **extra,
        )
        _accept(report, max_miou_drop=settings.max_miou_drop)
        if FORMATS[settings.format].model:
            if settings.output.exists():
                shutil.rmtree(settings.output)
            path.parent.replace(settings.output)
        else:
            for each, place in zip(sorted(path.parent.iterdir()), report.files, strict=True):
                each.replace(place)  # .bin before .xml: whoever sees the graph finds its weights
    return report


def _places(settings: ExportSettings, folder: Path) -> tuple[Path, ...]:
    """Return where the files of a folder will be; of a format that is a folder, itself."""
    if FORMATS[settings.format].model:
        return (settings.output,)
    return tuple(settings.output.with_name(each.name) for each in sorted(folder.iterdir()))


def _check(paths: Sequence[Path], settings: ExportSettings) -> None:
    chosen = FORMATS[settings.format]
    if exported := [path for path in paths if is_exported(path)]:
        raise ConfigError(
            f"{exported[0]}: exported already, expected a checkpoint, such as runs/NAME/checkpoints/best.pt"
        )
    if settings.precision not in chosen.precisions:
        raise ConfigError(
            f"--precision {settings.precision}: found with --format {settings.format}, expected one of "
            f"{', '.join(chosen.precisions)}"
            + ("; int8 is made for OpenVINO: --format openvino" if settings.precision == "int8" else "")
        )
    if not settings.output.name.lower().endswith(chosen.suffix):
        raise ConfigError(f"--output {settings.output}: expected a name that ends in {chosen.suffix}")
    if chosen.model and settings.output_kind != "logits":
        raise ConfigError(f"--output-kind {settings.output_kind}: found with --format web, whose page needs logits")
    if chosen.model and settings.output.is_dir() and not (settings.output / chosen.model).is_file():
        raise RunFolderError(f"{settings.output}: a folder that isn't an export; choose another --output")
    if settings.precision == "int8" and settings.output_kind != "logits":
        raise ConfigError(
            f"--precision int8: found with --output-kind {settings.output_kind}, expected logits, by which its mIoU is "
            "measured"
        )
    for file in (settings.output, *(settings.output.with_suffix(suffix) for suffix in chosen.beside)):
        if file.exists() and not settings.overwrite:
            raise RunFolderError(f"{file}: exists already; replace it with --overwrite, or choose another --output")


def _images(config: RunConfig, checkpoint: Checkpoint, settings: ExportSettings) -> list[np.ndarray]:
    """Return the images to compare on, uint8 RGB [h, w, 3], evenly spread over the validation split or the INPUT."""
    if settings.images is not None:
        paths = find_inputs(settings.images, outside=settings.output).paths
        return [read_image(paths[k]) for k in _spread(len(paths), settings.num_images)]
    items = _items(config, checkpoint, config.data.val)
    reader = build_mask_reader(config.data, checkpoint.classes)
    return [read_pair(items[k], reader)[0] for k in _spread(len(items), settings.num_images)]


def _items(config: RunConfig, checkpoint: Checkpoint, split: str) -> list[Item]:
    try:
        return list_items(config.data, split, seed=config.train.seed, held_out=checkpoint.held_out)
    except DataError as error:
        raise DataError(
            f"{error}. An export is compared with PyTorch on real images: give the data set with data.root=FOLDER, or "
            "other images with --images FOLDER"
        ) from error


def _spread(count: int, wanted: int) -> list[int]:
    return [k * count // min(count, wanted) for k in range(min(count, wanted))]


def _about(paths: Sequence[Path], checkpoints: Sequence[Checkpoint], settings: ExportSettings) -> Exported:
    first = checkpoints[0]
    rules = stored_rules(checkpoints)
    mean, std = (first.weights[name].flatten() / 255 for name in ("mean", "std"))
    return Exported(
        config=first.config,
        classes=first.classes,
        output=settings.output_kind,
        precision=settings.precision,
        normalization={"mean": mean.tolist(), "std": std.tolist()},
        held_out=first.held_out,
        zoom=first.zoom,
        postprocess=rules.to_dict() if rules else None,
        temperature=first.temperature if len(checkpoints) == 1 else None,
        size_hw=None if settings.any_size else first.config.data.canvas,
        weights=tuple((path.name, _digest(path)) for path in paths),
        licence=_licence(first),
    )


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _licence(checkpoint: Checkpoint) -> str:
    """Return the licence of the weights that training started from: as noted then, else as timm knows it."""
    encoder, pretrained = checkpoint.config.model.encoder, checkpoint.config.model.pretrained
    if checkpoint.pretrained:
        return str(checkpoint.pretrained)
    if pretrained == "none":
        return "none: trained from scratch"
    known = timm.models.get_pretrained_cfg(encoder[3:]) if encoder.startswith("tu-") else None
    return (known.license if known else None) or f"unknown: that of {encoder}, {pretrained}"


@contextlib.contextmanager
def _workshop(settings: ExportSettings) -> Iterator[Path]:
    """Give the file's path in a hidden folder beside it, which is gone at the end, whatever happens."""
    settings.output.parent.mkdir(parents=True, exist_ok=True)
    folder = settings.output.parent / f".{uuid.uuid4().hex[:12]}.part"
    folder.mkdir()
    try:
        yield folder / (FORMATS[settings.format].model or settings.output.name)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _int8(
    model: Any, about: Exported, reference: Backend, config: RunConfig, checkpoint: Checkpoint, settings: ExportSettings
) -> tuple[Any, dict[str, Any]]:
    """Return the model in int8, and what was measured of it."""
    reader = build_mask_reader(config.data, checkpoint.classes)
    canvas_hw = about.config.data.canvas
    dataset = EvaluationSet(_items(config, checkpoint, config.data.val), reader, canvas_hw=canvas_hw)
    validation = Validation(dataset, config.eval.batch_size)
    training = _items(config, checkpoint, config.data.train)
    canvases = []
    for k in _spread(len(training), CALIBRATION_IMAGES):
        image = read_pair(training[k], reader)[0]
        canvases.append(LetterBox.fit(image.shape[:2], canvas_hw).apply(image).transpose(2, 0, 1))

    def score(candidate: Any) -> float:
        backend = ExportedBackend(compiled(candidate, about, "CPU"), about, canvas_hw)
        return validation.score(backend).scores.miou

    before = validation.score(reference, title="scoring in fp32").scores.miou
    small = quantize(model, canvases, score, max_drop=settings.max_miou_drop, before=before, path=about.path)
    return small, {"miou": (before, score(small)), "kept_layers": tuple(layers_kept(small))}


def _check_another_size(
    exported: ExportedBackend, reference: Backend, images: Sequence[np.ndarray], stride: int, min_agreement: float
) -> None:
    """Raises ExportError where a model that should take any size is right at its canvas's size only."""
    height, width = exported.canvas_hw
    other_hw = (height + stride, width + 2 * stride)
    try:
        agreement = compare(exported, reference, images, canvas_hw=other_hw).agreement
    except Exception as error:  # runtimes have types of their own
        agreement, why = 0.0, first_line(error)
    else:
        why = f"{agreement:.4%} of the pixels got the class that PyTorch gives them, expected {min_agreement:.4%}"
    if agreement < min_agreement:
        raise ExportError(
            f"--any-size: not kept: at {other_hw[1]}x{other_hw[0]} pixels the exported model fails ({why}): the "
            "network holds parts that are bound to the size it was exported with; leave --any-size out"
        )


def _ask_reference(deployable: Deployable, exported: ExportedBackend) -> float:
    """Return how far ONNX's own reference implementation, a program in numpy, differs from onnxruntime.

    It takes minutes for large images. Then it judges the same network, exported once more for a small one.
    """
    about = exported.about
    small_hw = (2 * deployable.stride, 2 * deployable.stride)
    size_hw = about.size_hw or small_hw
    if size_hw[0] * size_hw[1] <= LARGEST_FOR_REFERENCE:
        return onnx_reference_difference(about.path, exported, size_hw)
    with tempfile.TemporaryDirectory() as folder:
        small = replace(about, path=Path(folder) / "small.onnx", size_hw=small_hw)
        onnx_file.write(trace(deployable, small_hw), small, small.path)
        return onnx_reference_difference(small.path, build_exported(small), small_hw)


def _min_agreement(settings: ExportSettings) -> float:
    if settings.min_agreement is not None:
        return settings.min_agreement
    return FULL_AGREEMENT if settings.precision == "fp32" else REDUCED_AGREEMENT


def _accept(report: ExportReport, *, max_miou_drop: float) -> None:
    """Raises ExportError for a model that must not be kept."""
    parity, name = report.parity, report.files[-1]
    if not parity.agreement >= report.min_agreement:
        raise ExportError(
            f"{name}: not kept: {parity.agreement:.4%} of the pixels of {parity.num_images} images got the class that "
            f"PyTorch gives them, expected at least {report.min_agreement:.4%} (largest difference of "
            f"{report.about.output}: {parity.largest_difference:.3g}); try another --precision or --format, or accept "
            "it with --min-agreement"
        )
    if report.miou and report.miou[0] - report.miou[1] > max_miou_drop:
        before, after = report.miou
        raise ExportError(
            f"{name}: not kept: mIoU on validation is {after:.2%} in int8 and {before:.2%} in fp32, expected a loss of "
            f"at most {100 * max_miou_drop:g} points; accept more with --max-miou-drop, or try --precision fp16"
        )
