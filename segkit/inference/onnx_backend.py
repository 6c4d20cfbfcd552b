"""ONNX models by onnxruntime. Its telemetry is switched off before it is imported."""

import os
from pathlib import Path
from typing import Any

import numpy as np

from segkit.errors import DeviceError
from segkit.inference.backend import Array
from segkit.inference.exported import Exported, ExportedBackend, needs, unreadable
from segkit.runtime.machine import processes_here, usable_cores

KEY = "segkit"  # of metadata_props


def runtime(path: Path) -> Any:
    """Return the package onnxruntime, which sends nothing home. Raises ConfigError where it isn't installed."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read when it is imported
    try:
        import onnxruntime
    except ImportError as error:
        raise needs("onnxruntime", "onnx", path) from error
    onnxruntime.disable_telemetry_events()  # Windows: events of the system
    onnxruntime.set_default_logger_severity(4)  # what concerns users is raised
    return onnxruntime


def read(path: Path) -> str | None:
    """Return what the file carries under segkit's key; None without it."""
    session = _session(path, ["CPUExecutionProvider"], optimized=False)
    described: str | None = session.get_modelmeta().custom_metadata_map.get(KEY)
    return described


def build(about: Exported, canvas_hw: tuple[int, int], device: str) -> tuple[ExportedBackend, str, str]:
    """Return the model as a backend on a device (auto, cpu, cuda, cuda:N), its precision, and "onnxruntime".

    Raises:
        DeviceError: no such device in this onnxruntime.
    """
    session = _session(about.path, _providers(about.path, device), optimized=True)
    name = session.get_inputs()[0].name

    def run(images: Array) -> np.ndarray:
        output: np.ndarray = session.run(None, {name: np.ascontiguousarray(images)})[0]
        return output

    return ExportedBackend(run, about, canvas_hw), about.precision, "onnxruntime"


def _session(path: Path, providers: list[Any], *, optimized: bool) -> Any:
    ort = runtime(path)
    options = ort.SessionOptions()
    options.intra_op_num_threads = max(1, usable_cores() // processes_here())
    # Threads that wait for the next image must not take the cores of those that decode and save.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if not optimized:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        return ort.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # its many types share no other base
        raise unreadable(path, error) from error


def _providers(path: Path, device: str) -> list[Any]:
    kind, _, number = device.partition(":")
    available = runtime(path).get_available_providers()
    has_gpu = "CUDAExecutionProvider" in available
    if kind == "cpu" or (kind == "auto" and not has_gpu):
        return ["CPUExecutionProvider"]
    if kind in ("auto", "cuda") and has_gpu and (not number or number.isdecimal()):
        return [("CUDAExecutionProvider", {"device_id": int(number or 0)}), "CPUExecutionProvider"]
    raise DeviceError(
        f"--device {device}: found {', '.join(available)} in this onnxruntime, expected auto, cpu, or cuda with "
        "CUDAExecutionProvider; install onnxruntime-gpu instead of onnxruntime for it"
    )
