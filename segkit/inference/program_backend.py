"""Programs of torch.export (.pt2) by PyTorch: a graph of its operators, without the code that made them."""

import inspect
from pathlib import Path

import torch

from segkit.errors import ConfigError
from segkit.inference.backend import Array
from segkit.inference.exported import Exported, ExportedBackend, unreadable
from segkit.inference.program_guard import refuse_code
from segkit.runtime.device import native_kernels, select_device

ENTRY = "segkit.json"  # among the archive's extra files


def read(path: Path) -> str | None:
    """Return what the archive carries under segkit's name; None without it."""
    return _load(path)[1]


def build(about: Exported, canvas_hw: tuple[int, int], device: str) -> tuple[ExportedBackend, str, str]:
    """Return the program as a backend on the CPU, its precision, and "torch.export".

    Raises:
        ConfigError: another device; a program is bound to the one that it was exported on.
    """
    target = torch.device("cpu") if device == "auto" else select_device(device)
    if target.type != "cpu":
        raise ConfigError(
            f"{about.path}: --device {device}: the program was exported for a CPU, expected auto or cpu; on a GPU "
            "predict with the checkpoint"
        )
    program = _load(about.path)[0]
    # checks of sizes would be compiled from text; another size is refused by the backend
    silent = {"check_guards": False} if "check_guards" in inspect.signature(program.module).parameters else {}
    module = program.module(**silent)

    @torch.inference_mode()
    def run(images: Array) -> torch.Tensor:
        with native_kernels():
            output: torch.Tensor = module(torch.as_tensor(images).contiguous())
        return output

    return ExportedBackend(run, about, canvas_hw, target), about.precision, "torch.export"


def _load(path: Path) -> tuple[torch.export.ExportedProgram, str | None]:
    refuse_code(path)
    files = {ENTRY: ""}
    try:
        program = torch.export.load(path, extra_files=files)
    except Exception as error:  # zip, pickle, schema and version errors of many types
        raise unreadable(path, error) from error
    return program, files[ENTRY] or None
