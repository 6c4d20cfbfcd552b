"""Packages of AOTInductor (.aoti.pt2): the graph, compiled to machine code of this kind of processor.

For programs in C++ and Python that trust the file: loading one runs its code. segkit itself does so here, to compare
what it has just compiled with PyTorch, and predicts with none.
"""

from collections.abc import Callable
from pathlib import Path

import torch
from torch.export import ExportedProgram

from segkit.errors import ConfigError, first_line
from segkit.export.graph import without_traces
from segkit.inference.backend import Array
from segkit.inference.exported import Exported

KEY = "segkit"  # of the package's metadata


def write(program: ExportedProgram, about: Exported, path: Path) -> None:
    """Compile a program into `path`, which takes a C++ compiler and a minute or more.

    Raises:
        ConfigError: it can't be compiled here.
    """
    settings = {"aot_inductor.metadata": {KEY: about.to_json()}}
    try:
        torch._inductor.aoti_compile_and_package(
            without_traces(program), package_path=str(path), inductor_configs=settings
        )
    except Exception as error:  # from the compiler in use, of many types
        raise ConfigError(
            f"--format aoti: the model can't be compiled here ({first_line(error)}); it needs a C++ compiler such as "
            "g++, or choose --format torch-export"
        ) from error


def load(path: Path) -> Callable[[Array], Array]:
    """Return the package as a function from uint8 images to the output. It runs the code in the file."""
    model = torch._inductor.aoti_load_package(str(path))

    @torch.inference_mode()
    def run(images: Array) -> torch.Tensor:
        output: torch.Tensor = model(torch.as_tensor(images).contiguous())
        return output

    return run
