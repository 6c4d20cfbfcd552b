"""What a model costs: parameters, operations, memory of activations, and what it sees, stage by stage.

Operations are counted by PyTorch (torch.utils.flop_counter) in one forward pass: a multiplication and an addition are
two FLOPs, of convolutions and matrix products alone. Not here: how fast they are elsewhere (segkit/export/bench.py).
"""

import contextlib
import copy
import statistics
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from segkit.models.segmenter import Segmenter
from segkit.runtime.device import native_kernels


@dataclass(frozen=True)
class Stage:
    """A part of the network. `seconds` and `activation_bytes` are of one forward pass, outputs of its inner layers."""

    name: str
    parameters: int
    flops: int
    activation_bytes: int
    seconds: float


@dataclass(frozen=True)
class Summary:
    """What a model costs at one size, in fp32.

    `receptive_field_hw` is the height and width, in pixels of the canvas, of what the output pixel in the middle
    depends on; None where that is the whole image, as with global pooling and attention.
    """

    name: str
    size_hw: tuple[int, int]
    batch_size: int
    parameters: int
    flops: int
    activation_bytes: int
    seconds: float
    receptive_field_hw: tuple[int, int] | None
    stages: tuple[Stage, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def summarize(segmenter: Segmenter, name: str, *, size_hw: tuple[int, int], batch_size: int = 1) -> Summary:
    """Measure a model in eval mode, on its device, on images of random pixels of `size_hw`."""
    segmenter = segmenter.eval()
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (batch_size, 3, *size_hw), dtype=torch.uint8, generator=generator)
    images = images.to(segmenter.device)
    stages = dict(_stages(segmenter))
    with torch.inference_mode(), native_kernels():
        segmenter(images)  # once for what is set up in the first pass
        with _seconds(stages) as seconds:
            total = statistics.median(_timed(segmenter, images) for _ in range(5))
        with _activations(stages) as activations:
            segmenter(images)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:  # inference mode has no dispatch to count
        segmenter(images)
    flops = _flops(counter, segmenter, stages)
    return Summary(
        name,
        size_hw,
        batch_size,
        sum(parameter.numel() for parameter in segmenter.parameters()),
        counter.get_total_flops(),
        sum(activations.values()),
        total,
        receptive_field(segmenter, size_hw),
        tuple(
            Stage(
                stage,
                sum(parameter.numel() for parameter in module.parameters()),
                flops[stage],
                activations[stage],
                statistics.median(seconds[stage]) if seconds[stage] else 0.0,
            )
            for stage, module in stages.items()
        ),
    )


def receptive_field(segmenter: Segmenter, size_hw: tuple[int, int]) -> tuple[int, int] | None:
    """Return height and width of what the output pixel in the middle depends on; None where that is all of the image.

    Found by the gradient, of a copy whose weights are all positive and whose activations never end: no path is left out
    by chance, so that this is the theoretical receptive field (Luo et al. 2016), of padding and skips included.
    """
    probe = _positive(segmenter)
    images = torch.zeros((1, 3, *size_hw), dtype=torch.float64, device=segmenter.device, requires_grad=True)
    middle = probe(images)[0, :, size_hw[0] // 2, size_hw[1] // 2].sum()
    (gradient,) = torch.autograd.grad(middle, images)
    rows, columns = ((gradient[0] != 0).any(dim=0).any(dim=axis).nonzero().flatten() for axis in (1, 0))
    if not len(rows):
        return None
    reach = (int(rows[-1] - rows[0]) + 1, int(columns[-1] - columns[0]) + 1)
    return None if reach[0] >= size_hw[0] and reach[1] >= size_hw[1] else reach


def _positive(segmenter: Segmenter) -> nn.Module:
    """Return a copy in float64 in which each weight is positive, and each activation passes its input on."""
    probe = copy.deepcopy(segmenter).double().eval()
    for parameter in probe.parameters():
        nn.init.constant_(parameter, 0.01)
    for buffer_name, buffer in probe.named_buffers():
        if buffer_name.endswith(("running_mean", "running_var", "mean", "std")):
            nn.init.constant_(buffer, 0.0 if buffer_name.endswith("mean") else 1.0)
    for parent in list(probe.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, _ACTIVATIONS):
                setattr(parent, name, nn.Identity())
            elif isinstance(layer, nn.MaxPool2d):  # of equal values only one would get the gradient
                pooled = nn.AvgPool2d(layer.kernel_size, layer.stride, layer.padding)
                setattr(parent, name, pooled)
    return probe


_ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.SiLU, nn.GELU, nn.Hardswish, nn.Hardtanh, nn.LeakyReLU, nn.PReLU, nn.ELU)


def _stages(segmenter: Segmenter) -> Iterator[tuple[str, nn.Module]]:
    """Yield the parts of the network by name, in the order in which they are registered; together they are all of it.

    A part whose own parts are a chain of named ones is shown by those: an encoder by its stages.
    """
    for name, module in segmenter.network.named_children():
        parts = [(inner, part) for inner, part in module.named_children() if any(True for _ in part.parameters())]
        if name == "encoder" and len(parts) == 1:  # a wrapper
            parts = [(inner, part) for inner, part in parts[0][1].named_children()]
        if name == "encoder" and len(parts) > 1:
            yield from ((f"{name}.{inner}", part) for inner, part in parts)
        else:
            yield name, module


@contextlib.contextmanager
def _seconds(stages: dict[str, nn.Module]) -> Iterator[dict[str, list[float]]]:
    found: dict[str, list[float]] = {name: [] for name in stages}
    started: dict[str, float] = {}

    def before(name: str) -> Any:
        def note(*_: Any) -> None:
            _wait()
            started[name] = time.perf_counter()

        return note

    def after(name: str) -> Any:
        def note(*_: Any) -> None:
            _wait()
            found[name].append(time.perf_counter() - started[name])

        return note

    with contextlib.ExitStack() as stack:
        for name, module in stages.items():
            stack.callback(module.register_forward_pre_hook(before(name)).remove)
            stack.callback(module.register_forward_hook(after(name)).remove)
        yield found


@contextlib.contextmanager
def _activations(stages: dict[str, nn.Module]) -> Iterator[dict[str, int]]:
    """Give the bytes of the outputs of all layers within each stage, filled by the next forward pass."""
    found = dict.fromkeys(stages, 0)

    def counting(name: str) -> Any:
        def note(_: nn.Module, __: Any, output: Any) -> None:
            found[name] += output.nbytes if isinstance(output, torch.Tensor) else 0

        return note

    with contextlib.ExitStack() as stack:
        for name, module in stages.items():
            for layer in module.modules():
                if not list(layer.children()):
                    stack.callback(layer.register_forward_hook(counting(name)).remove)
        yield found


def _flops(counter: FlopCounterMode, segmenter: Segmenter, stages: dict[str, nn.Module]) -> dict[str, int]:
    """Return the operations of each stage, by the names that the counter gives modules."""
    names = {id(module): name for name, module in segmenter.named_modules()}
    counts = {key: sum(ops.values()) for key, ops in counter.get_flop_counts().items()}
    return {stage: counts.get(f"Segmenter.{names[id(module)]}", 0) for stage, module in stages.items()}


def _timed(segmenter: Segmenter, images: torch.Tensor) -> float:
    _wait()
    started = time.perf_counter()
    segmenter(images)
    _wait()
    return time.perf_counter() - started


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
