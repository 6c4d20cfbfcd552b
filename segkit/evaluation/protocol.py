"""How a score was made, as it is printed and written beside it: scores compare where these agree."""

from dataclasses import dataclass
from typing import Any

from segkit.config.schema import View
from segkit.errors import count
from segkit.evaluation.confusion import Absent
from segkit.inference.postprocess import Postprocess

ABSENT: dict[Absent, str] = {"ignore": "left out of means", "zero": "count 0", "one": "count 1"}


@dataclass(frozen=True)
class EvaluationProtocol:
    """What was scored, and how: each image at its own size, by a model that saw it on a canvas (height, width)."""

    split: str
    num_images: int
    canvas_hw: tuple[int, int]
    precision: str  # fp32, bf16, fp16 or int8
    tta: tuple[View, ...] = ()
    postprocess: Postprocess | None = None
    runtime: str = "pytorch"  # what computed
    absent: Absent = "ignore"
    weights: tuple[str, ...] = ()  # digests of the models' files
    data: str = ""  # digest of the images' names and of their label maps
    temperature: float | None = None  # what scores were divided by

    def to_dict(self) -> dict[str, Any]:
        """Return what metrics.json holds of it: plain values under stable names."""
        return {
            "split": self.split,
            "num_images": self.num_images,
            "canvas": list(self.canvas_hw),
            "tta": list(self.tta),
            "postprocess": self.postprocess.to_dict() if self.postprocess else None,
            "temperature": self.temperature,
            "precision": self.precision,
            "runtime": self.runtime,
            "resolution": "each image at its own size; logits are resized, label maps never",
            "window": None,  # each image is scored as one, letterboxed to the canvas
            "ignored_pixels": "count nowhere, whatever is predicted there",
            "absent_classes": self.absent,
            "weights": list(self.weights),
            "data": self.data or None,
        }

    def __str__(self) -> str:
        """Return one line; the canvas is given as width x height."""
        views = ", ".join(f"{view:g}" if isinstance(view, float) else str(view) for view in self.tta) or "none"
        rules = "none"
        if self.postprocess and self.postprocess.rules:
            number = len(self.postprocess.rules)
            rules = f"of {number} {'class' if number == 1 else 'classes'} (tuned on {self.postprocess.tuned_on})"
        by = "" if self.runtime == "pytorch" else f" by {self.runtime}"
        return (
            f"split {self.split}: {count(self.num_images, 'image')} at their own size, canvas "
            f"{self.canvas_hw[1]}x{self.canvas_hw[0]}, tta {views}, post-processing {rules}, "
            + (f"temperature {self.temperature:.3f}, " if self.temperature else "")
            + "ignored pixels count "
            f"nowhere, absent classes {ABSENT[self.absent]}, {self.precision}{by}"
            + (f", weights {'+'.join(self.weights)}" if self.weights else "")
            + (f", data {self.data}" if self.data else "")
        )


@dataclass(frozen=True)
class MaskProtocol:
    """How masks of any origin were scored."""

    predictions: str
    truth: str
    num_images: int
    absent: Absent
    data: str  # digest of the masks' names and of the label maps

    def to_dict(self) -> dict[str, Any]:
        """Return what metrics.json holds of it: plain values under stable names."""
        return {
            "predictions": self.predictions,
            "truth": self.truth,
            "num_images": self.num_images,
            "resolution": "each mask at its own size",
            "ignored_pixels": "count nowhere, whatever is predicted there",
            "predictions_of_no_class": "are misses",
            "absent_classes": self.absent,
            "data": self.data,
        }

    def __str__(self) -> str:
        """Return one line."""
        return (
            f"{self.predictions} against {self.truth}: {count(self.num_images, 'mask')} at their own size, ignored "
            f"pixels count nowhere, predictions that are no class are misses, absent classes {ABSENT[self.absent]}, "
            f"data {self.data}"
        )
