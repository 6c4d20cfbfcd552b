"""Where pretrained weights come from, and under which licence: what checkpoints, exports and `segkit models` say.

Licences are named as their publishers name them: timm's settings, a wheel's metadata, and a short list for the encoders
of segmentation-models-pytorch. What isn't known is called unknown. Nothing here is legal advice.
"""

import re
from dataclasses import asdict, dataclass
from typing import Any

import segmentation_models_pytorch as smp
import timm

UNKNOWN = "unknown"

# Prefixes of smp's encoders whose weights don't come under a licence that timm names: github.com/NVlabs/SegFormer (its
# section 3.3), and as timm names it for the same MobileOne weights.
_SMP_LICENCES = {"mit_b": "nvidia-source-code-license-non-commercial", "mobileone_": "mobileone-license"}


@dataclass(frozen=True)
class Origin:
    """`source`: hub and repository, wheel and version, or file. `licence`: that of the weights, or unknown."""

    source: str
    licence: str = UNKNOWN

    @property
    def is_non_commercial(self) -> bool:
        """True if the licence's name says so: cc-by-nc-4.0, fair-noncommercial-research-license, ..."""
        return re.search(r"(^|[-_ ])nc([-_ ]|$)|non-?commercial", self.licence.lower()) is not None

    def to_dict(self) -> dict[str, str]:
        """Return plain values, as a checkpoint keeps them."""
        return asdict(self)

    @classmethod
    def from_dict(cls, plain: dict[str, Any] | None) -> "Origin | None":
        """Read what `to_dict` gave; None for weights that started at random, and for files from before it was noted."""
        return cls(str(plain["source"]), str(plain["licence"])) if plain else None

    def __str__(self) -> str:
        return f"{self.source}, licence {self.licence}"


def hub_origin(encoder: str) -> Origin | None:
    """Return where the hub's ImageNet weights of an encoder come from; None if it has none."""
    name = timm_name(encoder)
    if name is not None:
        known = timm.models.get_pretrained_cfg(name)
        if known is None or not (known.hf_hub_id or known.url):
            return None
        return Origin(f"hub {known.hf_hub_id}" if known.hf_hub_id else known.url, known.license or UNKNOWN)
    settings = smp.encoders.encoders.get(encoder, {}).get("pretrained_settings", {}).get("imagenet")
    if settings is None:
        return None
    licence = next((text for prefix, text in _SMP_LICENCES.items() if encoder.startswith(prefix)), UNKNOWN)
    return Origin(f"hub {settings['repo_id']}", licence)


def timm_name(encoder: str) -> str | None:
    """Return timm's name of an encoder that smp takes from timm (`tu-NAME`), None for smp's own."""
    return encoder[3:] if encoder.startswith("tu-") else None
