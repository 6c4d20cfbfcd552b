"""`suspects.html`: regions of labels that are probably wrong, with what is around them."""

from collections.abc import Sequence

from segkit.classes import Classes
from segkit.evaluation.label_errors import Region
from segkit.report.gallery import Shown
from segkit.report.page import render


def suspects_page(regions: Sequence[Region], shown: Sequence[Shown], classes: Classes, *, num_images: int) -> str:
    """Return the page as HTML; `shown` are the regions' images, in the same order."""
    entries = []
    for rank, (region, image) in enumerate(zip(regions, shown, strict=True), start=1):
        top, left, height, width = region.box
        words = (
            f"{rank}. labelled {classes.names[region.label]}, looks like {classes.names[region.predicted]} "
            f"({100 * region.confidence:.0f} % sure), {region.pixels:,} pixels at x {left}, y {top}, {width}x{height}"
        )
        entries.append((image, words))
    return render("suspects.html.j2", entries=entries, num_images=num_images)
