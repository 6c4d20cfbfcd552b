"""A model made ready for inference: the same figures from fewer and narrower operations.

Not here: torch.compile and other runtimes.
"""

import copy
import functools
import logging
import weakref

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_weights

from segkit.models.segmenter import Segmenter
from segkit.runtime.device import native_kernels, without_tf32

log = logging.getLogger(__name__)


@torch.inference_mode()
def for_inference(segmenter: Segmenter, *, canvas_hw: tuple[int, int], precision: torch.dtype) -> Segmenter:
    """Return a copy in eval mode whose BatchNorm is folded into convolutions, with weights in `precision`.

    BatchNorm in eval mode is a factor and a shift per channel, which the convolution before it can apply (Jacob et al.
    2018, section 3.2). Which convolution comes before is seen in a forward pass of one image; a second one checks that
    the logits stay the same, or nothing is folded. Both run without TF32, whose rounding on GPUs is as large as what is
    looked for. The image is small: a factor per channel is right or wrong at every pixel alike, and one of 360x480
    takes thirty times as long. A network that takes no other size (transformers) gets one of `canvas_hw`.

    The copy shares memory with what it was made of, except the weights that changed: it is valid until the model is
    trained further.
    """
    plain = _sharing_weights(segmenter).eval()
    with native_kernels(), without_tf32():
        folded = _folded(plain, canvas_hw) if any(isinstance(layer, _BatchNorm) for layer in plain.modules()) else plain
    if precision != torch.float32:
        for layer in folded.modules():  # autocast narrows them in each forward pass; once is enough
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
                layer.to(precision)
    return folded


def _sharing_weights(segmenter: Segmenter) -> Segmenter:
    """Return a copy with parameters and buffers of its own on the same memory, so that either can get other ones."""
    shared: dict[int, torch.Tensor] = {id(buffer): buffer.detach() for buffer in segmenter.buffers()}
    for parameter in segmenter.parameters():
        shared[id(parameter)] = nn.Parameter(parameter.detach(), requires_grad=False)
    return copy.deepcopy(segmenter, shared)


def _folded(plain: Segmenter, canvas_hw: tuple[int, int]) -> Segmenter:
    """Return a folded copy, or the model itself where nothing can be folded, or where the logits would change."""
    small_hw = min(canvas_hw[0], 2 * plain.stride), min(canvas_hw[1], 3 * plain.stride)
    image = _noise(small_hw, plain.device)
    try:
        pairs, expected = _find_pairs(plain, image)
    except (AssertionError, RuntimeError, ValueError):
        if small_hw == canvas_hw:
            raise
        image = _noise(canvas_hw, plain.device)
        pairs, expected = _find_pairs(plain, image)
    if not pairs:
        return plain
    folded = _fold(_sharing_weights(plain), pairs)
    if not torch.allclose(folded(image), expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max())):
        _warn(type(plain.network).__name__)
        return plain
    return folded


def _noise(size_hw: tuple[int, int], device: torch.device) -> torch.Tensor:
    """Return an image of random pixels, uint8 RGB [1, 3, H, W], the same ones each time."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (1, 3, *size_hw), dtype=torch.uint8, generator=generator).to(device)


@functools.cache  # once for each kind of network, not at every validation
def _warn(name: str) -> None:
    log.warning(
        "warning: BatchNorm of %s isn't folded for inference: the logits would change, so it does more between "
        "convolution and normalisation; results are right, and take longer",
        name,
    )


def _find_pairs(segmenter: Segmenter, image: torch.Tensor) -> tuple[list[tuple[str, str]], torch.Tensor]:
    """Return the names of (convolution, BatchNorm) of which one's output is the other's input, and the logits."""
    calls: dict[str, int] = {}
    made_by: dict[int, tuple[str, weakref.ref[torch.Tensor]]] = {}  # by the id of what came out
    pairs: list[tuple[str, str]] = []
    names = {layer: name for name, layer in segmenter.named_modules()}

    def see(layer: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        name = names[layer]
        calls[name] = calls.get(name, 0) + 1
        if isinstance(layer, nn.Conv2d):
            made_by[id(output)] = name, weakref.ref(output)
            return
        maker, made = made_by.get(id(inputs[0]), ("", lambda: None))
        if made() is inputs[0] and layer.running_mean is not None:  # the same tensor, not a later one of that id
            pairs.append((maker, name))

    watched = [layer for layer in segmenter.modules() if isinstance(layer, nn.Conv2d | _BatchNorm)]
    handles = [layer.register_forward_hook(see) for layer in watched]
    try:
        logits = segmenter(image)
    finally:
        for handle in handles:
            handle.remove()
    return [pair for pair in pairs if calls[pair[0]] == calls[pair[1]] == 1], logits


def _fold(segmenter: Segmenter, pairs: list[tuple[str, str]]) -> Segmenter:
    for conv_name, norm_name in pairs:
        conv, norm = segmenter.get_submodule(conv_name), segmenter.get_submodule(norm_name)
        assert isinstance(conv, nn.Conv2d), conv
        assert isinstance(norm, _BatchNorm), norm
        assert norm.running_mean is not None, norm
        assert norm.running_var is not None, norm
        weight, bias = fuse_conv_bn_weights(
            conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
        )
        memory_format = torch.channels_last if conv.weight.is_contiguous(memory_format=torch.channels_last) else None
        conv.weight, conv.bias = weight, bias
        if memory_format:
            conv.to(memory_format=memory_format)
        parent, _, leaf = norm_name.rpartition(".")
        setattr(segmenter.get_submodule(parent), leaf, _what_remains(norm))
    return segmenter


def _what_remains(norm: nn.Module) -> nn.Module:
    """Return what a normalisation does beyond normalising: timm's BatchNormAct2d activates too."""
    after = [getattr(norm, name) for name in ("drop", "act") if isinstance(getattr(norm, name, None), nn.Module)]
    return nn.Sequential(*after) if after else nn.Identity()
