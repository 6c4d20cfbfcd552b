"""Int8 by NNCF on OpenVINO: weights and activations in 8 bits, calibrated on training images.

Where validation loses more mIoU than allowed, NNCF's accuracy control gives layers back their precision, those first
that cost most (Kozlov et al. 2021, "Neural Network Compression Framework for fast model inference").
"""

import contextlib
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from segkit.inference.exported import needs
from segkit.inference.openvino_backend import runtime, signal_stack_kept

CALIBRATION_IMAGES = 128
CONVOLUTIONS = ("Convolution", "GroupConvolution", "ConvolutionBackpropData", "MatMul")


def quantize(
    model: Any,
    canvases: Sequence[np.ndarray],
    score: Callable[[Any], float],
    *,
    max_drop: float,
    before: float,
    path: Path,
) -> Any:
    """Return a model of OpenVINO in int8.

    canvases: letterboxed training images, uint8 RGB [3, H, W], for the ranges of activations. score: from a model of
    OpenVINO to its mIoU on validation, 0..1. max_drop: how much of it, absolute, may be lost; `before` is that of
    `model`. If all layers in int8 lose more, accuracy control follows, which scores dozens of models.

    Raises:
        ConfigError: nncf isn't installed.
    """
    nncf = _package(path)
    images = nncf.Dataset([canvas[None] for canvas in canvases])
    with signal_stack_kept(), _silent(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        options = {"preset": nncf.QuantizationPreset.MIXED, "subset_size": min(len(canvases), CALIBRATION_IMAGES)}
        # Processors without VNNI add products of 8 bits up in 16, which overflow; weights of 7 bits fit on all of them
        # (CamVid, such a processor: 99.06 % of pixels as in fp32, against 98.59 %).
        seven_bits = nncf.AdvancedQuantizationParameters(overflow_fix=nncf.OverflowFix.ENABLE)
        whole = nncf.quantize(model, images, advanced_parameters=seven_bits, **options)
        if before - score(whole) <= max_drop:
            return whole
        return nncf.quantize_with_accuracy_control(
            model,
            calibration_dataset=images,
            validation_dataset=nncf.Dataset([None]),  # `score` has the images
            validation_fn=lambda compiled, _: (score(compiled), None),
            max_drop=max_drop,
            drop_type=nncf.DropType.ABSOLUTE,
            advanced_quantization_parameters=seven_bits,
            **options,
        )


def layers_kept(model: Any) -> list[str]:
    """Name the convolutions and matrix products that weren't quantised, in the order of the graph."""
    kept = []
    for node in model.get_ordered_ops():
        if node.get_type_name() in CONVOLUTIONS:
            sources = [_source(node.input_value(k).get_node()) for k in range(2)]
            if "FakeQuantize" not in sources:
                kept.append(node.get_friendly_name())
    return kept


def _source(node: Any) -> str:
    """Return the type of what an input comes from, beyond reshapes and conversions."""
    while node.get_type_name() in ("Reshape", "Convert", "Transpose", "Multiply", "Subtract") and node.get_input_size():
        node = node.input_value(0).get_node()
    return str(node.get_type_name())


def _package(path: Path) -> Any:
    runtime(path)
    try:
        import nncf
    except ImportError as error:
        raise needs("nncf", "openvino", path) from error
    return nncf


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Keep NNCF's log and bars out of ours."""
    log = logging.getLogger("nncf")
    before = log.level
    log.setLevel(logging.ERROR)
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
        try:
            yield
        finally:
            log.setLevel(before)
