"""The layouts that segkit trains from: PASCAL VOC's folders, and images/ beside masks/.

Labels are palette PNGs of class ids, so that a config of the result needs no data.mask_values. classes.txt names the
classes. Where pictures of two splits share a name, all names get their split in front. A source without splits gets no
split files: `segkit split` makes them.
"""

from pathlib import Path

from segkit.datasets.split_folders import voc_root
from segkit.formats.sample import NO_SPLIT, Picture, PictureSet, tell_apart
from segkit.formats.writing import copy_image, each_picture, encode_mask, read_mask, write_plainly, write_text


def write_voc(pictures: PictureSet, output: Path) -> list[str]:
    """Write JPEGImages/, SegmentationClass/, ImageSets/Segmentation/<split>.txt and classes.txt; return notes.

    Raises:
        DataError: a picture or label can't be read.
        RunFolderError: the folder can't be written to.
    """
    assert voc_root(output) == output, output  # it is empty
    return _write(pictures, output, "JPEGImages", "SegmentationClass", Path("ImageSets", "Segmentation"))


def write_folders(pictures: PictureSet, output: Path) -> list[str]:
    """Write images/, masks/, splits/<split>.txt and classes.txt; see `write_voc`."""
    return _write(pictures, output, "images", "masks", Path("splits"))


def _write(pictures: PictureSet, output: Path, images: str, masks: str, splits: Path) -> list[str]:
    written: set[str] = set()
    for split, members in tell_apart(pictures.splits).items():
        new = [picture for picture in members if picture.name not in written]
        written |= {picture.name for picture in members}

        def write(picture: Picture) -> None:
            copy_image(picture, output / images)
            encoded = encode_mask(read_mask(picture), pictures.classes)
            write_plainly(output / masks / f"{picture.name}.png", encoded)

        for _ in each_picture(write, new, title=f"writing {split}"):
            pass
        if split != NO_SPLIT:
            write_text(output / splits / f"{split}.txt", "".join(f"{picture.name}\n" for picture in members))
    write_text(output / "classes.txt", pictures.classes.lines())
    return []
