"""ONNX files, by PyTorch's exporter of exported programs (torch.onnx, dynamo)."""

import contextlib
import io
import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram

from segkit.inference.exported import Exported, needs
from segkit.inference.onnx_backend import KEY

OPSET = 18  # what torch.onnx translates to by itself, and every runtime of the last years reads
LARGEST = 2**31  # bytes of one protobuf


def write(program: ExportedProgram, about: Exported, path: Path) -> None:
    """Write a program as one .onnx file.

    Raises:
        ConfigError: onnx or onnxscript isn't installed.
    """
    onnx = package(path)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")  # deprecations inside torch and onnxscript, which users can't act on
        exported = torch.onnx.export(
            program, dynamo=True, optimize=True, opset_version=OPSET, input_names=["images"],
            output_names=[about.output], verbose=False,
        )  # fmt: skip
    assert exported is not None
    model: Any = exported.model_proto
    _tidy(model, about)
    model.metadata_props.add(key=KEY, value=about.to_json())
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString())


def package(path: Path) -> Any:
    """Return the package onnx. Raises ConfigError where it, or onnxscript, isn't installed."""
    try:
        import onnx
        import onnxscript  # noqa: F401  (what torch.onnx translates with)
    except ImportError as error:
        raise needs(error.name or "onnx", "onnx", path) from error
    return onnx


def _tidy(model: Any, about: Exported) -> None:
    """Remove notes on where each operation was called, and give the axes names that say what they are."""
    del model.metadata_props[:]
    graph = model.graph
    for noted in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        if hasattr(noted, "metadata_props"):
            del noted.metadata_props[:]
        noted.doc_string = ""
    model.doc_string = f"semantic segmentation of {len(about.classes)} classes: {', '.join(about.classes.names)}"[:1000]
    taken = [axis.dim_param for axis in graph.input[0].type.tensor_type.shape.dim]
    names = {given: name for given, name in zip(taken, ("batch", "channels", "height", "width"), strict=True) if given}
    for value in (*graph.input, *graph.output, *graph.value_info):
        for axis in value.type.tensor_type.shape.dim:
            if axis.dim_param in names:  # a size that is a number is the same field of the file
                axis.dim_param = names[axis.dim_param]
