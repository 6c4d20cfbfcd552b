"""The formats that models are exported to.

To add one, write a file with `write(program, about, path)` beside this one, a line in `FORMATS`, and its runtime in
segkit/inference/exported.py, with which the result is proved.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch.export import ExportedProgram

from segkit.errors import ConfigError
from segkit.export import compiled_file, onnx_file, openvino_files, program_file, web_folder
from segkit.inference.backend import Array
from segkit.inference.exported import Exported


@dataclass(frozen=True)
class Format:
    """One format: its files' suffix, the precisions it can be had in, what writes it, and what runs it for the proof.

    `run` is None for formats that segkit predicts with, whose runtime is found by the suffix.
    """

    suffix: str
    precisions: tuple[str, ...]
    write: Callable[[ExportedProgram, Exported, Path], None]
    beside: tuple[str, ...] = ()  # suffixes of further files
    run: Callable[[Path], Callable[[Array], Array]] | None = None
    model: str | None = None  # of a format that is a folder: the name of the model in it


# By name; of suffixes that end alike the longer one first.
FORMATS: dict[str, Format] = {
    # no bf16: onnxruntime has no such convolution on CPUs
    "onnx": Format(".onnx", ("fp32", "fp16"), onnx_file.write),
    "openvino": Format(".xml", ("fp32", "fp16", "bf16", "int8"), openvino_files.write, beside=(".bin",)),
    "aoti": Format(".aoti.pt2", ("fp32", "bf16"), compiled_file.write, run=compiled_file.load),
    "web": Format("", ("fp32", "fp16"), web_folder.write, model="model.onnx"),
    "torch-export": Format(".pt2", ("fp32", "bf16"), program_file.write),
}


def format_of(path: Path) -> str:
    """Return the name of the format that a file's name stands for.

    Raises:
        ConfigError: none.
    """
    for name, each in FORMATS.items():
        if each.suffix and path.name.lower().endswith(each.suffix):
            return name
    suffixes = ", ".join(each.suffix for each in FORMATS.values() if each.suffix)
    raise ConfigError(f"--output {path}: expected a name that ends in {suffixes}; or a folder, with --format web")
