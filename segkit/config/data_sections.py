"""The sections of the schema that say what a model sees: data and augment."""
# ruff: noqa: RUF009 (key returns a dataclass field)

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt

from segkit.config.fields import Fraction, Positive, key

RGBValue = tuple[int, int, int]
CacheName = Literal["none", "ram", "disk"]
LayoutName = Literal["voc", "folders", "webdataset"]
SamplerName = Literal["uniform", "class_balanced", "repeat_factor"]


@dataclass(frozen=True)
class DataConfig:
    root: str = key(
        "",
        "the data set's folder; webdataset: also https://, s3://, gs:// or pipe: COMMAND; required",
        resumable=True,
        evaluable=True,
    )
    layout: LayoutName = key(
        "voc",
        "voc: JPEGImages, SegmentationClass, ImageSets/Segmentation; folders: images, masks; webdataset: tar shards, "
        "as `segkit convert` writes them",
        evaluable=True,
    )
    train: str = key(
        "train",
        "split to train on: a split file (voc, folders), a subfolder (folders), an index or shards (webdataset: "
        "train.json, train-*.tar, or spelled out as 'train-{000000..000012}.tar')",
    )
    val: str = key("val", "split to validate on", evaluable=True)
    val_fraction: Annotated[float, Ge(0), Lt(1)] = key(
        0.0, "folders only: hold out this fraction, drawn by seed, instead of using splits; 0 is off", evaluable=True
    )
    classes: tuple[str, ...] | str | None = key(
        None,
        "names in id order, or a text file with one per line; null: classes.txt in the root, or VOC's",
        evaluable=True,
    )
    ignore_index: Annotated[int, Ge(2), Le(255)] = key(
        255, "the id of pixels without a label: they count in no loss and no metric"
    )
    mask_values: tuple[int, ...] | tuple[RGBValue, ...] | None = key(
        None,
        "the stored value of each class, in class order: [0, 255], or colours [[0, 0, 0], [255, 0, 0]]",
        evaluable=True,
    )
    ignore_values: tuple[int, ...] | tuple[RGBValue, ...] | Literal["rest"] = key(
        (), 'stored values or colours that mean "no label"; rest: all that mask_values doesn\'t list', evaluable=True
    )
    unlabeled: Literal["unexpected", "ignore"] = key(
        "unexpected",
        "pixels without a label: unexpected, or (scribbles, points) ignore: crops hold labelled pixels then, and masks "
        "without any are no fault for `segkit check`",
    )
    more_images: str = key(
        "",
        "voc, folders: a folder of images without masks, trained on beside the split, every pixel ignored; for "
        "distill.teachers, or the moving average (semi), which label them",
    )
    canvas: tuple[Annotated[int, Ge(8)], Annotated[int, Ge(8)]] = key(
        (512, 512), "height, width that the network sees; images are letterboxed onto it", evaluable=True
    )
    cache: CacheName = key(
        "none",
        "keep decoded training images for the next epochs: ram, disk (deleted when the run ends), or none",
        resumable=True,
    )
    cache_gib: Positive = key(
        4.0,
        "ram, disk: the most that data.cache may take, in GiB, over all processes of this machine; webdataset: "
        "separately, the most that fetched shards may take, with room for more than train.batch_size of them",
        resumable=True,
        evaluable=True,
    )
    sampler: SamplerName = key(
        "uniform",
        "how often an image is seen per epoch. uniform: once; class_balanced: so that each class is drawn equally "
        "often; repeat_factor: more often if it shows a rare class (LVIS)",
    )
    repeat_threshold: Annotated[float, Gt(0), Le(1)] = key(
        0.3,
        "repeat_factor: a class is rare if a smaller fraction f of the images shows it; those are seen "
        "sqrt(repeat_threshold / f) times, which makes epochs longer",
    )


@dataclass(frozen=True)
class AugmentConfig:
    crop: tuple[Annotated[int, Ge(8)], Annotated[int, Ge(8)]] | None = key(
        None, "height, width of training images; null: data.canvas"
    )
    scale: tuple[Positive, Positive] = key(
        (0.25, 2.0), "random size, relative to just fitting data.canvas; [1, 1] is off"
    )
    aspect: Annotated[float, Ge(0), Lt(1)] = key(
        0.3, "random stretch: width / height times (1 +- aspect) / (1 +- aspect); 0 is off"
    )
    flip: Fraction = key(0.5, "probability of mirroring left to right; 0 is off")
    rare_crops: Fraction = key(0.0, "probability of choosing a crop that holds a pixel of a rare class; 0 is off")
    hue: Fraction = key(0.1, "hue times 1 +- hue; 0 is off")
    saturation: Fraction = key(0.7, "saturation times 1 +- saturation; 0 is off")
    value: Fraction = key(0.3, "brightness times 1 +- value; 0 is off")
    vflip: Fraction = key(0.0, "probability of mirroring top to bottom, for images from above; 0 is off")
    quarter_turns: Fraction = key(0.0, "probability of turning by 90, 180 or 270 degrees; 0 is off")
    rotate: Annotated[float, Ge(0), Le(180)] = key(0.0, "degrees: turn by an angle in +- this; 0 is off")
    shear: Annotated[float, Ge(0), Le(45)] = key(0.0, "degrees: slant rows and columns by angles in +- this; 0 is off")
    perspective: Annotated[float, Ge(0), Le(0.25)] = key(
        0.0, "move each corner of the canvas by up to this share of its sides; 0 is off"
    )
    brightness: Fraction = key(0.0, "add a part of white in +- this to every pixel; 0 is off")
    contrast: Fraction = key(0.0, "stretch tones about the middle one by 1 +- contrast; 0 is off")
    gamma: Annotated[float, Ge(0), Le(2)] = key(0.0, "tones to the power of 2 to an exponent in +- this; 0 is off")
    clahe: Fraction = key(0.0, "probability of raising the contrast within tiles (CLAHE); 0 is off")
    grey: Fraction = key(0.0, "probability of losing all colour; 0 is off")
    channel_drop: Fraction = key(0.0, "probability of losing one of red, green and blue; 0 is off")
    blur: Fraction = key(0.0, "probability of a Gaussian blur, sigma 0.3 to 2 pixels; 0 is off")
    noise: Fraction = key(0.0, "probability of Gaussian noise, deviation 2 to 16 of 255; 0 is off")
    jpeg: Fraction = key(0.0, "probability of JPEG artefacts, quality 25 to 75; 0 is off")
    mosaic: Fraction = key(0.0, "probability of showing four images, one in each quarter; 0 is off")
    cutmix: Fraction = key(0.0, "probability of filling a rectangle with another image (CutMix); 0 is off")
    classmix: Fraction = key(0.0, "probability of pasting half of the classes of another image (ClassMix); 0 is off")
    copy_paste: Fraction = key(0.0, "probability of pasting a rare class of another image; 0 is off")
    cutout: Fraction = key(0.0, "probability of a grey rectangle whose pixels are ignored (CutOut); 0 is off")

    @property
    def partners(self) -> tuple[str, ...]:
        """The keys that are on of which a sample needs other images."""
        return tuple(name for name in ("mosaic", "cutmix", "classmix", "copy_paste") if getattr(self, name))
