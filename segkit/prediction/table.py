"""Everything that can be written of a prediction.

To add an output, write a class with `write` and `finish` (see segkit/prediction/outputs.py), a line in `OUTPUTS`, and a
flag in segkit/commands/predict.py.
"""

from collections.abc import Callable, Collection
from pathlib import Path

from segkit.classes import Classes
from segkit.prediction import joined_outputs, pixel_outputs, vector_outputs
from segkit.prediction.outputs import Output, Style

# In the order in which they are written; masks last, since an image's mask says that the image is done.
OUTPUTS: dict[str, Callable[[Path, Classes, Style], Output]] = {
    "overlays": pixel_outputs.Overlays,
    "color": pixel_outputs.Colors,
    "side_by_side": pixel_outputs.SideBySide,
    "probabilities_npz": pixel_outputs.ProbabilityArrays,
    "probabilities_png": pixel_outputs.ProbabilityImages,
    "uncertainty": pixel_outputs.Uncertainty,
    "labelme": vector_outputs.Labelme,
    "geojson": vector_outputs.GeoJson,
    "coco_polygons": joined_outputs.CocoPolygons,
    "coco_runs": joined_outputs.CocoRuns,
    "areas": joined_outputs.Areas,
    "masks": pixel_outputs.Masks,
}


def build_outputs(
    folder: Path, classes: Classes, kinds: Collection[str] = ("overlays",), *, style: Style | None = None
) -> list[Output]:
    """Return the outputs of these kinds, and masks, which every job has, below a folder.

    Raises:
        ValueError: no output of that name.
    """
    if unknown := [kind for kind in kinds if kind not in OUTPUTS]:
        raise ValueError(f"{', '.join(unknown)}: no such output; expected some of {', '.join(OUTPUTS)}")
    chosen = [name for name in OUTPUTS if name in kinds or name == "masks"]
    return [OUTPUTS[name](folder, classes, style or Style()) for name in chosen]
