"""CamVid, in both forms that are in use.

The original: 701_StillsRaw_full/ and LabeledApproved_full/*_L.png in RGB, 32 classes by label_colors.txt (where it is
missing, by the table below; G. Brostow et al., Pattern Recognition Letters 2009). Void is black.
SegNet's: train/ and trainannot/, val/ and valannot/, test/ and testannot/ with ids of 11 classes; 11 and 255 are void.
The first label decides which it is; all others must be of the same kind. Void, and classes that options.classes don't
name, are ignored, or become background if options.unlabeled says so.
"""

from pathlib import Path

from segkit.classes import RGB
from segkit.datasets.masks import code_of, read_label_values
from segkit.formats.masks.color_table import find_color_table, read_color_table
from segkit.formats.masks.pairing import find_pairs
from segkit.formats.options import ReadOptions
from segkit.formats.sample import SampleSet
from segkit.formats.values import LabelTable
from segkit.formats.vocabulary import IGNORED, Vocabulary

COLORS: dict[RGB, str] = {
    (64, 128, 64): "Animal", (192, 0, 128): "Archway", (0, 128, 192): "Bicyclist", (0, 128, 64): "Bridge",
    (128, 0, 0): "Building", (64, 0, 128): "Car", (64, 0, 192): "CartLuggagePram", (192, 128, 64): "Child",
    (192, 192, 128): "Column_Pole", (64, 64, 128): "Fence", (128, 0, 192): "LaneMkgsDriv",
    (192, 0, 64): "LaneMkgsNonDriv", (128, 128, 64): "Misc_Text", (192, 0, 192): "MotorcycleScooter",
    (128, 64, 64): "OtherMoving", (64, 192, 128): "ParkingBlock", (64, 64, 0): "Pedestrian", (128, 64, 128): "Road",
    (128, 128, 192): "RoadShoulder", (0, 0, 192): "Sidewalk", (192, 128, 128): "SignSymbol", (128, 128, 128): "Sky",
    (64, 128, 192): "SUVPickupTruck", (0, 0, 64): "TrafficCone", (0, 64, 64): "TrafficLight", (192, 64, 128): "Train",
    (128, 128, 0): "Tree", (192, 128, 192): "Truck_Bus", (64, 0, 64): "Tunnel", (192, 192, 0): "VegetationMisc",
    (0, 0, 0): "Void", (64, 192, 0): "Wall",
}  # fmt: skip
# SegNet's order, each with the colour of the original class that gave it its name
ELEVEN: dict[str, RGB] = {
    "sky": (128, 128, 128), "building": (128, 0, 0), "pole": (192, 192, 128), "road": (128, 64, 128),
    "pavement": (0, 0, 192), "tree": (128, 128, 0), "signsymbol": (192, 128, 128), "fence": (64, 64, 128),
    "car": (64, 0, 128), "pedestrian": (64, 64, 0), "bicyclist": (0, 128, 192),
}  # fmt: skip
VOID = 11


def read(source: Path, options: ReadOptions) -> SampleSet:
    """Read a CamVid folder.

    Raises:
        DataError: as `find_pairs`, a list of colours that can't be read, or a first label that can't.
        ConfigError: the options' classes can't be.
    """
    pairing = find_pairs(source, options)
    by_color = read_label_values(pairing.labels[0]).ndim == 3
    if by_color:
        file = find_color_table(source)
        colors = read_color_table(file) if file else COLORS
        names = {color: name for color, name in colors.items() if name.lower() != "void" and name != IGNORED}
    else:
        names = {color: name for name, color in ELEVEN.items()}
    vocabulary = Vocabulary.build(
        source,
        list(names.values()),
        options,
        unlabeled="ignore",
        colors={name: color for color, name in names.items()},
    )
    if by_color:
        ids = {code_of(color): vocabulary.ids[names[color]] if color in names else vocabulary.rest for color in colors}
    else:
        ids = {
            VOID: vocabulary.rest,
            255: vocabulary.rest,
            **{k: vocabulary.ids[name] for k, name in enumerate(ELEVEN)},
        }
    table = LabelTable(ids, by_color, "for colours or classes of your own use --from color-masks or id-masks")
    return SampleSet(pairing.samples(table), vocabulary.classes, (*vocabulary.notes, *pairing.notes))
