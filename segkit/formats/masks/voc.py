"""PASCAL VOC and what tools export in its form: JPEGImages/, SegmentationClass/, ImageSets/Segmentation/<split>.txt.

A label file holds ids (grey, or a palette, whose index is the id) or RGB colours; a set may hold both. Names come from
labelmap.txt (`name:r,g,b::`, with colours; ids count its lines), else from classes.txt,
class_names.txt or labels.txt in id order with VOC's palette as colours; else they are VOC's own 21. A first line
__ignore__ is id -1 and no class. 255 and VOC's cream (224, 224, 192) are borders, and ignored. Every other pixel has a
label; those of classes that options.classes don't name become background.
"""

from pathlib import Path

from segkit.classes import RGB, VOC_NAMES, voc_color
from segkit.datasets.masks import code_of
from segkit.datasets.split_folders import voc_root
from segkit.errors import DataError
from segkit.formats.masks.color_table import read_color_table
from segkit.formats.masks.pairing import find_pairs
from segkit.formats.options import ReadOptions
from segkit.formats.sample import SampleSet
from segkit.formats.values import EitherTable, LabelTable
from segkit.formats.vocabulary import CLASS_FILES, Vocabulary, read_class_file

CREAM = (224, 224, 192)
BORDER = 255


def read(source: Path, options: ReadOptions) -> SampleSet:
    """Read a VOC folder (or VOCdevkit, or what holds it).

    Raises:
        DataError: as `find_pairs`, or a list of names or colours that can't be read.
        ConfigError: the options' classes can't be.
    """
    root = voc_root(source)
    colors, notes = read_names(root)
    if options.labels is None and (root / "SegmentationClass").is_dir():
        options = _with_folders(root, options)
    pairing = find_pairs(root, options)
    vocabulary = Vocabulary.of_colors(source, colors, options)
    ignored = vocabulary.classes.ignore_index
    by_color = {code_of(color): vocabulary.ids.get(name, ignored) for color, name in colors.items()}
    by_id = {k: vocabulary.ids.get(name, ignored) for k, name in enumerate(colors.values())}
    remedy = f"write the classes in id order to {root / 'class_names.txt'}, or their colours to {root / 'labelmap.txt'}"
    table = EitherTable(
        LabelTable({BORDER: ignored, **by_id}, remedy=remedy),
        LabelTable({code_of(CREAM): ignored, **by_color}, by_color=True, remedy=remedy),
    )
    return SampleSet(pairing.samples(table), vocabulary.classes, (*notes, *vocabulary.notes, *pairing.notes))


def read_names(root: Path) -> tuple[dict[RGB, str], list[str]]:
    """Return the name of each colour in id order, and notes.

    Raises:
        DataError: the file of names can't be read, or lists a name twice.
    """
    if (root / "labelmap.txt").is_file():
        return read_color_table(root / "labelmap.txt"), []
    file, names = read_class_file(root) or (None, list(VOC_NAMES))
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise DataError(f"{file}: {', '.join(twice)} is listed more than once, expected one name per class; rename one")
    notes = [] if file else [f"{root} names no classes ({', '.join(CLASS_FILES)}): PASCAL VOC's 21 are taken"]
    return {voc_color(k): name for k, name in enumerate(names)}, notes


def _with_folders(root: Path, options: ReadOptions) -> ReadOptions:
    """Name VOC's own folders; SegmentationObject and Annotations beside them hold other things."""
    images = options.images or (root / "JPEGImages" if (root / "JPEGImages").is_dir() else None)
    return ReadOptions(options.classes, options.unlabeled, images, root / "SegmentationClass")
