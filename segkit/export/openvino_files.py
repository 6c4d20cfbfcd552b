"""OpenVINO models: an .xml file of the graph and a .bin file of the weights beside it."""

from pathlib import Path
from typing import Any

from torch.export import ExportedProgram

from segkit.inference.exported import Exported
from segkit.inference.openvino_backend import KEY, runtime


def write(program: ExportedProgram, about: Exported, path: Path) -> None:
    """Write a program as `path` and the .bin file beside it.

    Raises:
        ConfigError: openvino isn't installed.
    """
    save(convert(program, about, path), about, path)


def convert(program: ExportedProgram, about: Exported, path: Path) -> Any:
    """Return a program as a model of OpenVINO, in fp32."""
    openvino = runtime(path)
    model = openvino.convert_model(program)
    model.inputs[0].get_tensor().set_names({"images"})
    model.outputs[0].get_tensor().set_names({about.output})
    return model


def save(model: Any, about: Exported, path: Path) -> None:
    """Write a model; weights of fp16 and bf16 in 16 bits, which OpenVINO widens where the processor needs it."""
    model.set_rt_info(about.to_json(), KEY)
    runtime(path).save_model(model, path, compress_to_fp16=about.precision in ("fp16", "bf16"))
