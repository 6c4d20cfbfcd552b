"""Programs of torch.export: a .pt2 archive that PyTorch runs without segkit's code."""

from pathlib import Path

import torch
from torch.export import ExportedProgram

from segkit.export.graph import without_traces
from segkit.inference.exported import Exported
from segkit.inference.program_backend import ENTRY


def write(program: ExportedProgram, about: Exported, path: Path) -> None:
    """Write a program as `path`, with its operators reduced to PyTorch's core set."""
    reduced = without_traces(program.run_decompositions())
    reduced._example_inputs = None  # an image of zeros, which would double the file for nothing
    reduced._guards_code = []  # checks of sizes, as text that would be evaluated; segkit checks sizes itself
    torch.export.save(reduced, path, extra_files={ENTRY: about.to_json()})
