"""OpenVINO models (.xml beside .bin) by OpenVINO's runtime. Its telemetry is kept out of the process."""

import contextlib
import ctypes
import functools
import gc
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from segkit.errors import CheckpointError, DeviceError
from segkit.inference.backend import Array
from segkit.inference.exported import Exported, ExportedBackend, needs, unreadable
from segkit.runtime.machine import processes_here, usable_cores

KEY = "segkit"  # of the model's rt_info


def runtime(path: Path) -> Any:
    """Return the package openvino, which sends nothing home. Raises ConfigError where it isn't installed."""
    silence_telemetry()
    try:
        import openvino
    except ImportError as error:
        raise needs("openvino", "openvino", path) from error
    core()  # before anyone makes another one
    return openvino


@functools.cache
def core() -> Any:
    """Return the one `Core` of this process, which is never freed.

    A Core puts a signal stack of its own in the place of the one before, and back when it is freed. Of two that aren't
    freed in the opposite order, the stack of a freed one stays: the next signal, such as Ctrl-C or the end of a child
    process, kills the process (OpenVINO 2026.4). For those that others make: `signal_stack_kept`.
    """
    silence_telemetry()
    import openvino

    core = openvino.Core()
    core.get_property("CPU", "SUPPORTED_PROPERTIES")  # loads the plugin that does so
    return core


def silence_telemetry() -> None:
    """Make the package that OpenVINO and NNCF report usage with fail to import; both have a stub for that case.

    Importing openvino sends an event; there is no setting against it.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]


class _SignalStack(ctypes.Structure):
    """stack_t of Linux."""

    _fields_ = [("base", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t)]


@contextlib.contextmanager
def signal_stack_kept() -> Iterator[None]:
    """Put this thread's signal stack back afterwards, whatever Cores of others, as NNCF makes them, have left there.

    What of them is freed still later does no harm: a Core only takes back a stack of its own.
    """
    if sys.platform != "linux":
        yield
        return
    libc, before = ctypes.CDLL(None), _SignalStack()
    libc.sigaltstack(None, ctypes.byref(before))
    try:
        yield
    finally:
        gc.collect()
        libc.sigaltstack(ctypes.byref(before), None)


def read(path: Path) -> str | None:
    """Return what the model carries under segkit's key; None without it."""
    model = _model(path)
    return str(model.get_rt_info(KEY).value) if model.has_rt_info(KEY) else None


def build(about: Exported, canvas_hw: tuple[int, int], device: str) -> tuple[ExportedBackend, str, str]:
    """Return the model as a backend on a device (auto, cpu, or one of OpenVINO), its precision, and "openvino".

    Raises:
        DeviceError: no such device in OpenVINO.
    """
    runtime(about.path)
    available = core().available_devices
    chosen = "CPU" if device in ("auto", "cpu") else device.upper()
    if chosen not in available:
        raise DeviceError(
            f"--device {device}: found {', '.join(available)} in OpenVINO, expected auto, cpu or one of these"
        )
    return ExportedBackend(compiled(_model(about.path), about, chosen), about, canvas_hw), about.precision, "openvino"


def compiled(model: Any, about: Exported, device: str) -> Callable[[Array], np.ndarray]:
    """Return a model of OpenVINO, ready to run on one of its devices: from uint8 images to the output.

    One that is compiled already, as NNCF gives them, stays as it is.
    """
    hints: dict[str, Any] = {
        "PERFORMANCE_HINT": "LATENCY",
        # as exported: what the processor can do would otherwise decide, so that one file gave different masks
        "INFERENCE_PRECISION_HINT": {"bf16": "bf16", "fp16": "f16"}.get(about.precision, "f32"),
    }
    if device == "CPU":
        hints["INFERENCE_NUM_THREADS"] = max(1, usable_cores() // processes_here())
    is_compiled = isinstance(model, runtime(about.path).CompiledModel)
    network = model if is_compiled else core().compile_model(model, device, hints)

    def run(images: Array) -> np.ndarray:
        request = network.create_infer_request()  # one each: callers may be threads
        output: np.ndarray = request.infer([np.ascontiguousarray(images)], share_inputs=True)[0]
        return output

    return run


def _model(path: Path) -> Any:
    if not path.with_suffix(".bin").is_file():
        raise CheckpointError(
            f"{path}: its weights are missing, expected {path.with_suffix('.bin').name} beside it; copy both files"
        )
    runtime(path)
    try:
        return core().read_model(path)
    except RuntimeError as error:
        raise unreadable(path, error) from error
