"""What is exported: one graph from uint8 images to logits, probabilities or a mask, normalisation inside.

Not here: the letterbox and the way back to an image's own size, which depend on the image; the description that each
file carries says how they are done (segkit/inference/exported.py).
"""

import functools
import math
from collections.abc import Sequence
from typing import Any

import torch
from timm.layers import Conv2dSame
from torch import nn
from torch.export import Dim, ExportedProgram

from segkit.errors import ConfigError, first_line
from segkit.inference.exported import OutputKind
from segkit.models.segmenter import Segmenter
from segkit.runtime.device import PRECISIONS

LARGEST_SIDE = 8192  # pixels, of a graph for any size
LARGEST_BATCH = 1024


class Deployable(nn.Module):
    """One Segmenter or an ensemble, BatchNorm folded, from uint8 RGB [B, 3, H, W] to the output that is wanted.

    Logits and probabilities are float32 [B, C, H, W], a mask is uint8 [B, H, W]. The scores of several models are the
    logarithm of their mean probability, as those of segkit.inference.ensemble. The networks compute in `dtype`;
    normalisation, resizing of the last logits and softmax in float32.
    """

    def __init__(self, members: Sequence[Segmenter], *, output: OutputKind, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.output = output
        if dtype != torch.float32:
            for member in members:
                member.network = _InPrecision(member.network.to(dtype), dtype)

    @property
    def stride(self) -> int:
        """What both sides of an image of any size must be multiples of."""
        return math.lcm(*(int(member.stride) for member in self.members))  # type: ignore[arg-type]

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return `output` for images, uint8 RGB [B, 3, H, W]."""
        scores = self.members[0](images)
        if len(self.members) > 1:
            votes = [member(images).log_softmax(dim=1) for member in self.members]
            scores = functools.reduce(torch.logaddexp, votes) - math.log(len(votes))
        if self.output == "mask":
            return scores.argmax(dim=1).to(torch.uint8)
        return scores.softmax(dim=1) if self.output == "probabilities" else scores


class _InPrecision(nn.Module):
    """A network that computes in a narrower dtype, and takes and gives float32."""

    def __init__(self, network: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.network, self.dtype = network, dtype

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return what the network does, float32."""
        scores: torch.Tensor = self.network(x.to(self.dtype))
        return scores.float()


def build_deployable(
    members: Sequence[Segmenter], *, output: OutputKind, precision: str, any_size: bool = False
) -> Deployable:
    """Return models, which become part of it, as what is exported; int8 is made of fp32 later.

    With `any_size`, TensorFlow's SAME padding, which depends on the image's size, is replaced by what it is for sizes
    that are multiples of the network's stride.
    """
    for member in members:
        if any_size:
            _fix_same_padding(member)
        for layer in member.modules():  # folding left tensors that can only be read
            for tensors in (layer._parameters, layer._buffers):
                tensors.update({name: _own(tensor) for name, tensor in tensors.items() if tensor is not None})
    return Deployable(members, output=output, dtype=PRECISIONS.get(precision, torch.float32)).eval()


@torch.no_grad()
def trace(deployable: Deployable, canvas_hw: tuple[int, int], *, any_size: bool = False) -> ExportedProgram:
    """Return the graph for any number of images of the canvas's size, or of any size in steps of the stride.

    Raises:
        ConfigError: the network can't be exported, or not for any size.
    """
    images = torch.zeros((2, 3, *canvas_hw), dtype=torch.uint8)
    dims: dict[int, object] = {0: Dim("batch", min=1, max=LARGEST_BATCH)}
    if any_size:
        stride = deployable.stride
        if any(side % stride for side in canvas_hw):
            raise ConfigError(
                f"--any-size: found data.canvas {list(canvas_hw)}, expected multiples of the network's stride, "
                f"{stride}; leave --any-size out, or train with another canvas"
            )
        most = LARGEST_SIDE // stride
        dims |= {2: stride * Dim("rows", min=1, max=most), 3: stride * Dim("columns", min=1, max=most)}
    try:
        return torch.export.export(deployable, (images,), dynamic_shapes=(dims,), strict=False)
    except Exception as error:  # of many types, from wherever the tracer was
        hint = "leave --any-size out" if any_size else "choose another architecture (model.name) to ship"
        kind = ", ".join(type(member.network).__name__ for member in deployable.members)
        raise ConfigError(f"{kind}: can't be exported by torch.export ({first_line(error)}); {hint}") from error


def without_traces(program: ExportedProgram) -> ExportedProgram:
    """Forget where each operation was called: paths of this machine don't belong into a file that is shipped."""
    for node in program.graph.nodes:
        for key in ("stack_trace", "nn_module_stack", "source_fn_stack", "torch_fn", "from_node", "custom"):
            node.meta.pop(key, None)
    return program


def _own(tensor: torch.Tensor) -> Any:
    copied = tensor.detach().clone()
    return nn.Parameter(copied, requires_grad=False) if isinstance(tensor, nn.Parameter) else copied


def _fix_same_padding(segmenter: Segmenter) -> None:
    for parent in list(segmenter.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, Conv2dSame):
                setattr(parent, name, _fixed(layer))


def _fixed(layer: Conv2dSame) -> nn.Module:
    """Return the layer with the padding that it has where both sides are multiples of its stride."""
    pads: list[int] = []
    for size, step, gap in zip(layer.kernel_size, layer.stride, layer.dilation, strict=True):
        total = max((size - 1) * gap + 1 - step, 0)
        pads = [total // 2, total - total // 2, *pads]  # of the last axis first
    plain = nn.Conv2d(
        layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride, 0, layer.dilation, layer.groups,
        bias=layer.bias is not None,
    )  # fmt: skip
    plain.weight, plain.bias = layer.weight, layer.bias
    return nn.Sequential(nn.ZeroPad2d((pads[0], pads[1], pads[2], pads[3])), plain)
