"""The layouts that segkit trains from: PASCAL VOC's folders, and images/ beside masks/.

Labels are palette PNGs of class ids, so that a config of the result needs no data.mask_values. classes.txt names the
classes. Where images of two splits share a name, every name gets its split in front. A source without splits gets no
split files: `segkit split` makes them.
"""

from pathlib import Path

from segkit.datasets.split_folders import voc_root
from segkit.formats.options import WriteOptions
from segkit.formats.sample import NO_SPLIT, Sample, SampleSet, make_names_unique
from segkit.formats.writing import copy_image, each_sample, encode_mask, read_mask, write_plainly, write_text


def write_voc(samples: SampleSet, output: Path, options: WriteOptions) -> list[str]:
    """Write JPEGImages/, SegmentationClass/, ImageSets/Segmentation/<split>.txt and classes.txt; return notes.

    No option has an effect here.

    Raises:
        DataError: an image or label can't be read.
        RunFolderError: the folder can't be written to.
    """
    assert voc_root(output) == output, output  # it is empty
    return _write(samples, output, "JPEGImages", "SegmentationClass", Path("ImageSets", "Segmentation"))


def write_folders(samples: SampleSet, output: Path, options: WriteOptions) -> list[str]:
    """Write images/, masks/, splits/<split>.txt and classes.txt; see `write_voc`."""
    return _write(samples, output, "images", "masks", Path("splits"))


def _write(samples: SampleSet, output: Path, images: str, masks: str, splits: Path) -> list[str]:
    written: set[str] = set()
    for split, members in make_names_unique(samples.splits).items():
        new = [sample for sample in members if sample.name not in written]
        written |= {sample.name for sample in members}

        def write(sample: Sample) -> None:
            copy_image(sample, output / images)
            encoded = encode_mask(read_mask(sample), samples.classes)
            write_plainly(output / masks / f"{sample.name}.png", encoded)

        for _ in each_sample(write, new, title=f"writing {split}"):
            pass
        if split != NO_SPLIT:
            write_text(output / splits / f"{split}.txt", "".join(f"{sample.name}\n" for sample in members))
    write_text(output / "classes.txt", samples.classes.lines())
    return []
