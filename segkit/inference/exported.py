"""Exported models: what their files say of themselves, and the runtime that computes each. No torch.

The description is JSON, which every format carries in its own way. It has the keys of a .safetensors checkpoint, and
what a program needs that has never heard of segkit: input, output, letterbox, licence. To add a runtime: a file beside
this one with `read` and `build`, and a line in `RUNTIMES`.
"""

import importlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np

from segkit import __version__
from segkit.classes import Classes
from segkit.config.reading import config_from_dict, config_to_dict
from segkit.config.schema import RunConfig
from segkit.errors import CheckpointError, ConfigError, SegkitError
from segkit.imaging.letterbox import BAR_GREY
from segkit.inference.backend import Array, Backend

FORMAT = 1
OutputKind = Literal["logits", "probabilities", "mask"]

# By suffix: the name of the format, and the module beside this one that runs it.
RUNTIMES = {
    ".onnx": ("onnx", "onnx_backend"),
    ".xml": ("openvino", "openvino_backend"),
    ".pt2": ("torch-export", "program_backend"),
}

LETTERBOX = {
    "place": "centre",
    "bars": BAR_GREY,
    "shrink": "area",
    "enlarge": "bilinear, half-pixel centres",
    "invert": "cut the bars off the output, resize it bilinearly (half-pixel centres) to the image's size, then argmax",
}


@dataclass(frozen=True)
class Exported:
    """A model that was exported, as its file describes it. It takes uint8 RGB [B, 3, H, W], letterboxed, and gives
    `output`: float32 logits or probabilities [B, C, H, W], or class ids uint8 [B, H, W].

    `size_hw` and `batch` are those that the file is bound to; None where it takes any. `weights` names the files that
    the model was made of, with their SHA-256; `licence` is that of the pretrained encoder, as its publisher names it.
    """

    config: RunConfig
    classes: Classes
    output: OutputKind
    precision: str  # fp32, fp16, bf16 or int8
    normalization: dict[str, list[float]]  # mean and std of RGB in 0..1: done inside the model
    held_out: list[str] | None = None
    zoom: float | None = None
    postprocess: dict[str, Any] | None = None
    temperature: float | None = None
    size_hw: tuple[int, int] | None = None
    batch: int | None = None
    weights: tuple[tuple[str, str], ...] = ()
    licence: str = "unknown"
    version: str = __version__
    path: Path = field(default=Path(), compare=False)

    @property
    def smallest_zoom(self) -> float | None:
        """The smallest factor by which training scaled an image of the median size; None where `zoom` is."""
        return None if self.zoom is None else self.zoom * self.config.augment.scale[0]

    def to_json(self) -> str:
        """Return what the file carries."""
        return json.dumps(
            {
                "segkit_export": FORMAT,
                "version": self.version,
                "classes": self.classes.to_dict(),
                "canvas": list(self.config.data.canvas),
                "input": {"dtype": "uint8", "layout": "NCHW", "channels": "RGB", "range": [0, 255]},
                "output": self.output,
                "precision": self.precision,
                "size": self.size_hw and list(self.size_hw),
                "batch": self.batch,
                "letterbox": LETTERBOX,
                "normalization": self.normalization,
                "postprocess": self.postprocess,
                "temperature": self.temperature,
                "zoom": self.zoom,
                "held_out": self.held_out,
                "config": config_to_dict(self.config),
                "weights": [{"file": name, "sha256": digest} for name, digest in self.weights],
                "licence": {"segkit": "Apache-2.0", "pretrained_encoder": self.licence},
            }
        )

    @classmethod
    def from_json(cls, text: str | None, path: Path) -> "Exported":
        """Return what a file says of itself.

        Raises:
            CheckpointError: nothing, or what another program or a newer segkit wrote.
        """
        try:
            plain = json.loads(text or "null")
            if not isinstance(plain, dict) or "segkit_export" not in plain:
                raise CheckpointError(
                    f"{path}: a model without segkit's description, expected one that segkit has exported: "
                    "segkit export CHECKPOINT --output FILE"
                )
            if plain["segkit_export"] > FORMAT:
                raise CheckpointError(
                    f"{path}: exported by segkit {plain['version']} in a newer format, this is {__version__}; update "
                    "segkit"
                )
            return cls(
                config=config_from_dict(plain["config"], where=f"the config in {path}"),
                classes=Classes.from_dict(plain["classes"]),
                output=plain["output"],
                precision=plain["precision"],
                normalization=plain["normalization"],
                held_out=plain["held_out"],
                zoom=plain["zoom"],
                postprocess=plain["postprocess"],
                temperature=plain.get("temperature"),  # exports of before have none
                size_hw=plain["size"] and (plain["size"][0], plain["size"][1]),
                batch=plain["batch"],
                weights=tuple((entry["file"], entry["sha256"]) for entry in plain["weights"]),
                licence=plain["licence"]["pretrained_encoder"],
                version=plain["version"],
                path=path,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"{path}: segkit's description in it is damaged ({error!r:.120}); export it again"
            ) from error


@dataclass(frozen=True)
class ExportedBackend:
    """A runtime as a backend: it takes canvases of any number, in as many calls as the file's fixed batch asks for."""

    run: Any  # uint8 [B, 3, H, W] -> the model's output for it
    about: Exported
    canvas_hw: tuple[int, int]
    device: Any = None  # PyTorch's, where that is the runtime

    @property
    def classes(self) -> Classes:
        """Class k is channel k of the logits."""
        return self.about.classes

    def __call__(self, images: Array) -> Array:
        """Return logits float32 [B, C, H, W] on the canvas, for letterboxed images, uint8 RGB [B, 3, H, W].

        Of a model that gives probabilities the logarithm: scores with the same softmax and the same argmax.

        Raises:
            ConfigError: images of another size than the model is bound to.
        """
        fixed = self.about.size_hw
        if fixed is not None and tuple(images.shape[2:]) != fixed:
            raise ConfigError(
                f"{self.about.path}: takes images of {fixed[1]}x{fixed[0]} pixels only, found "
                f"{images.shape[3]}x{images.shape[2]}; leave out scales in --tta (eval.tta), another --window and "
                "data.canvas, or export with another data.canvas"
            )
        size = self.about.batch or len(images)
        parts = [self.run(images[first : first + size]) for first in range(0, len(images), size)]
        scores: Any = parts[0] if len(parts) == 1 else _join(parts)
        return _logarithm(scores) if self.about.output == "probabilities" else scores


def is_exported(path: Path | str) -> bool:
    """True if a file's name says that it is an exported model."""
    return Path(path).suffix.lower() in RUNTIMES


def read_exported(path: Path | str) -> Exported:
    """Return what an exported model says of itself.

    Raises:
        CheckpointError: the file is missing, damaged or of another program.
        ConfigError: its runtime isn't installed.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; expected a model that segkit export has written")
    return Exported.from_json(_runtime(path).read(path), path)


def ready_exported(
    about: Exported, *, device: str = "auto", precision: str | None = None, canvas_hw: tuple[int, int] | None = None
) -> tuple[Backend, str, str]:
    """Return an exported model as a backend, its precision and the name of its runtime; as `make_ready`.

    Raises:
        ConfigError: another precision or canvas than it has; a model that gives masks.
        DeviceError: no such device in this runtime.
    """
    if precision not in (None, "auto", about.precision):
        raise ConfigError(
            f"{about.path}: was exported in {about.precision}, found --precision {precision} (train.precision); leave "
            "it out, or export the checkpoint in that precision"
        )
    if about.output == "mask":
        raise ConfigError(
            f"{about.path}: gives class ids on its canvas, expected logits or probabilities, which can be taken to an "
            "image's own size; export it with --output-kind logits"
        )
    size_hw = canvas_hw or about.config.data.canvas
    if about.size_hw not in (None, size_hw):
        raise ConfigError(
            f"data.canvas: found {list(size_hw)}, but {about.path} takes {list(about.size_hw or ())} only; leave it "
            "out, or export the checkpoint again"
        )
    return _runtime(about.path).build(about, size_hw, device)


def build_exported(about: Exported, device: str = "cpu") -> ExportedBackend:
    """Return the runtime of an exported model whatever it gives, masks included: for comparing outputs."""
    backend: ExportedBackend = _runtime(about.path).build(about, about.config.data.canvas, device)[0]
    return backend


def needs(package: str, extra: str, path: Path) -> ConfigError:
    """Return the error that says which package a file needs, and how to install it."""
    return ConfigError(
        f"{path}: needs the package {package}, which isn't installed; install it with pip install 'segkit[{extra}]'"
    )


def unreadable(path: Path, error: BaseException) -> SegkitError:
    """Return the error that says that a runtime can't read a file."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return CheckpointError(f"{path}: can't be read as a model ({lines[-1][:160]}); copy it again, or export it again")


def _runtime(path: Path) -> ModuleType:
    return importlib.import_module(f"segkit.inference.{RUNTIMES[path.suffix.lower()][1]}")


def _join(parts: Sequence[Any]) -> Any:
    if isinstance(parts[0], np.ndarray):
        return np.concatenate(parts)
    import torch

    return torch.cat([*parts])


def _logarithm(probabilities: Any) -> Any:
    """Return finite logarithms: a probability of 0 becomes the smallest normal number first."""
    smallest = float(np.finfo(np.float32).tiny)
    if isinstance(probabilities, np.ndarray):
        return np.log(np.maximum(probabilities, smallest))
    return probabilities.clamp_min(smallest).log()
