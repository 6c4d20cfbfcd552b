"""Look inside a network: the feature maps of any layer, and where in an image it looks for a class."""

import difflib
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import nn

from segkit.errors import ConfigError
from segkit.imaging.letterbox import LetterBox
from segkit.models.checkpoint import Checkpoint
from segkit.models.segmenter import Segmenter
from segkit.runtime.files import write_bytes_durably

SEPARATOR = 2  # white pixels between tiles
SMALLEST_TILE = 48  # pixels of a tile's longer side; smaller feature maps are enlarged
MOST_PIXELS = 4096  # of the picture's side


@dataclass(frozen=True)
class Layer:
    """A module of the network, its kind, and the shape of its output for one image."""

    name: str
    kind: str
    shape: tuple[int, ...]


def draw_features(
    checkpoint: Checkpoint, image: np.ndarray, output: Path, *, layer: str | None = None, class_name: str | None = None
) -> str:
    """Write a PNG of a layer's maps for an image, uint8 RGB [h, w, 3], or of where it argues for a class; return what
    it shows, in words. Without a layer, the encoder's last one with maps argues.

    Raises:
        ConfigError: no such layer or class, or as `feature_maps` and `class_activation`.
    """
    segmenter = checkpoint.build().eval()
    box = LetterBox.fit(image.shape[:2], checkpoint.config.data.canvas)
    canvas = box.apply(image)
    if class_name is None:
        assert layer is not None
        maps = feature_maps(segmenter, layer, canvas)
        picture, shows = tile(maps), f"{len(maps)} maps of {maps.shape[2]}x{maps.shape[1]}"
    else:
        names = checkpoint.classes.names
        if class_name not in names:
            near = difflib.get_close_matches(class_name, names, n=1) or names[:1]
            raise ConfigError(
                f"--cam: found {class_name!r}, expected one of {', '.join(names)}; give one, such as --cam {near[0]}"
            )
        layer = layer or last_map_of_encoder(list_layers(segmenter, canvas))
        cam = class_activation(segmenter, layer, names.index(class_name), box, canvas, class_name=class_name)
        shown = heat(image, cam, box, stride=segmenter.stride)
        picture, shows = cv2.cvtColor(shown, cv2.COLOR_RGB2BGR), f"{class_name} by {layer}"
    done, encoded = cv2.imencode(".png", picture)
    assert done
    write_bytes_durably(output, encoded.tobytes(), elsewhere="--output FILE")
    return shows


def layers_of(checkpoint: Checkpoint) -> list[Layer]:
    """Return the layers of a checkpoint's network, with the shapes that they give for an image on its canvas."""
    return list_layers(checkpoint.build().eval(), np.zeros((*checkpoint.config.data.canvas, 3), np.uint8))


def last_map_of_encoder(layers: Sequence[Layer]) -> str:
    """Return the encoder's last layer that gives maps.

    Raises:
        ConfigError: the encoder has none.
    """
    encoders = ("encoder.", "vgg.", "resnet.")  # the latter are unet_classic's
    names = [layer.name for layer in layers if any(e in layer.name for e in encoders) and len(layer.shape) == 4]
    if not names:
        raise ConfigError(
            "--layer: the encoder has no layer with maps [B, C, H, W]; name one of those that --list shows"
        )
    return names[-1]


def list_layers(segmenter: Segmenter, canvas: np.ndarray) -> list[Layer]:
    """Return every layer that gives one tensor for an image on the canvas, uint8 RGB [H, W, 3], in calling order."""
    found: dict[str, Layer] = {}

    def hook(name: str, module: nn.Module, output: Any) -> None:
        if isinstance(output, torch.Tensor):
            found[name] = Layer(name, type(module).__name__, tuple(output.shape))

    with _hooked(segmenter, hook), torch.inference_mode():
        segmenter(_as_batch(segmenter, canvas))
    return list(found.values())


def feature_maps(segmenter: Segmenter, layer: str, canvas: np.ndarray) -> np.ndarray:
    """Return a layer's output float32 [C, H', W'] for an image on the canvas, uint8 RGB [H, W, 3].

    Raises:
        ConfigError: no such layer, or one whose output is no map.
    """
    outputs: list[Any] = []
    with _hooked(segmenter, _keep_in(outputs), only=layer), torch.inference_mode():
        segmenter(_as_batch(segmenter, canvas))
    return _as_map(layer, outputs)[0].float().cpu().numpy()


def class_activation(
    segmenter: Segmenter,
    layer: str,
    class_id: int,
    box: LetterBox,
    canvas: np.ndarray,
    *,
    class_name: str | None = None,
) -> np.ndarray:
    """Return where a layer argues for a class, float32 [H', W'] in 0..1: Grad-CAM for segmentation.

    Vinogradova et al. 2020, "Towards Interpretable Semantic Segmentation via Gradient-weighted Class Activation
    Mapping", AAAI: the gradient of the class's logits, added up over the pixels that are predicted as it, with respect
    to the layer's output; its mean over the map weighs the channels, and what is below 0 is left out.

    Raises:
        ConfigError: no such layer, one whose output is no map, or the class is predicted nowhere.
    """
    outputs: list[Any] = []
    with _hooked(segmenter, _keep_in(outputs), only=layer), torch.enable_grad():
        images = _as_batch(segmenter, canvas).float().requires_grad_()  # so that frozen layers have gradients too
        logits = segmenter(images)[0]
        activation = _as_map(layer, outputs)
        inside = torch.zeros(logits.shape[1:], dtype=torch.bool, device=logits.device)
        inside[box.inner] = True
        mine = (logits.argmax(dim=0) == class_id) & inside
        if not mine.any():
            raise ConfigError(
                f"--cam: {class_name or f'class {class_id}'} is predicted nowhere in this image, expected a class that "
                "is; choose another class or another image"
            )
        (gradient,) = torch.autograd.grad(logits[class_id][mine].sum(), activation, allow_unused=True)
    if gradient is None:
        raise ConfigError(f"--layer {layer}: the class's scores don't depend on it; choose another with --list")
    weights = gradient[0].mean(dim=(1, 2), keepdim=True)
    cam = (weights * activation[0]).sum(dim=0).relu().detach().float().cpu().numpy()
    highest = float(cam.max())
    return cam / highest if highest > 0 else cam


def tile(maps: np.ndarray) -> np.ndarray:
    """Return maps [C, h, w] as one picture, uint8 grey: a near-square grid with white separators.

    Each channel is stretched from its least to its largest value; one that is the same everywhere is mid-grey.
    """
    channels, height, width = maps.shape
    columns = math.ceil(math.sqrt(channels))
    rows = math.ceil(channels / columns)
    scale = max(1, min(SMALLEST_TILE // max(height, width), MOST_PIXELS // (columns * width)))
    height, width = height * scale, width * scale
    picture = np.full(
        (rows * (height + SEPARATOR) + SEPARATOR, columns * (width + SEPARATOR) + SEPARATOR), 255, np.uint8
    )
    for k, channel in enumerate(maps):
        top = SEPARATOR + (k // columns) * (height + SEPARATOR)
        left = SEPARATOR + (k % columns) * (width + SEPARATOR)
        picture[top : top + height, left : left + width] = np.kron(
            stretched(channel), np.ones((scale, scale), np.uint8)
        )
    return picture


def stretched(channel: np.ndarray) -> np.ndarray:
    """Return a map as uint8, its least value 0 and its largest 255; 128 where all are the same."""
    low, high = float(channel.min()), float(channel.max())
    if high == low:
        return np.full(channel.shape, 128, np.uint8)
    return np.round((channel.astype(np.float64) - low) * (255 / (high - low))).astype(np.uint8)


def heat(image: np.ndarray, cam: np.ndarray, box: LetterBox, *, stride: int = 1) -> np.ndarray:
    """Return an image uint8 RGB [h, w, 3] under a heat map of its canvas, float32 [H', W'] in 0..1.

    The map covers the canvas as the segmenter pads it, below and to the right, to a multiple of `stride`.
    """
    height, width = (side + -side % stride for side in box.canvas_hw)
    on_canvas = cv2.resize(cam, (width, height), interpolation=cv2.INTER_LINEAR)
    shown = cv2.resize(on_canvas[box.inner], (image.shape[1], image.shape[0]), interpolation=cv2.INTER_LINEAR)
    colors = cv2.applyColorMap(np.round(shown * 255).astype(np.uint8), cv2.COLORMAP_VIRIDIS)
    return cv2.addWeighted(image, 0.45, cv2.cvtColor(colors, cv2.COLOR_BGR2RGB), 0.55, 0)


@contextmanager
def _hooked(segmenter: Segmenter, hook: Any, *, only: str | None = None) -> Iterator[None]:
    """Call `hook` with name, module and output of every layer, or of one. Raises ConfigError if there is none such."""
    layers = {name: module for name, module in segmenter.named_modules() if name}
    if only is not None:
        if only not in layers:
            near = difflib.get_close_matches(only, layers, n=3, cutoff=0.3) or [*layers][:3]
            raise ConfigError(f"--layer: found {only!r}, expected a layer, such as {', '.join(near)}; --list shows all")
        layers = {only: layers[only]}
    handles = [
        module.register_forward_hook(lambda module, _, output, name=name: hook(name, module, output))
        for name, module in layers.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _keep_in(outputs: list[Any]) -> Callable[[str, nn.Module, Any], torch.Tensor | None]:
    """Return a hook that keeps a layer's output and passes a copy on: the next layer may overwrite its input."""

    def hook(_: str, __: nn.Module, output: Any) -> torch.Tensor | None:
        outputs.append(output)
        return output.clone() if isinstance(output, torch.Tensor) else None

    return hook


def _as_map(layer: str, outputs: list[Any]) -> torch.Tensor:
    """Return the last output of a layer, [1, C, H', W']."""
    if not outputs:
        raise ConfigError(f"--layer {layer}: isn't called for an image; choose another with --list")
    output = outputs[-1]
    if not isinstance(output, torch.Tensor) or output.ndim != 4:
        shape = tuple(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
        raise ConfigError(f"--layer {layer}: gives {shape}, expected maps [B, C, H, W]; choose another with --list")
    return output


def _as_batch(segmenter: Segmenter, canvas: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(canvas.transpose(2, 0, 1)))[None].to(segmenter.device)
