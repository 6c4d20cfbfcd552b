"""Find labels that are probably wrong, by models that haven't seen them: a list, and a page to look at."""

import csv
import io
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2

from segkit.classes import Classes
from segkit.datasets.layouts import Item, list_items
from segkit.datasets.masks import MaskReader, build_mask_reader
from segkit.datasets.reading import read_pair
from segkit.errors import CheckpointError, DataError
from segkit.eval_miou import build_scoring
from segkit.evaluation.evaluate import segmentations
from segkit.evaluation.label_errors import ClassLevels, Region, doubted_regions
from segkit.evaluation.overrides import evaluation_config, sets
from segkit.inference.trained import open_models
from segkit.prediction.cells import neutral
from segkit.report.gallery import Shown, shown_masks
from segkit.report.suspects_page import suspects_page
from segkit.runtime.files import write_bytes_durably, writing

log = logging.getLogger(__name__)

MARGIN = 0.6  # of a region's longer side, shown around it
FRAME = (255, 140, 0)  # RGB


@dataclass(frozen=True)
class SuspectsResult:
    """The doubted regions, most evidence first, their items by name, and the number of images looked at."""

    regions: list[Region]
    items: dict[str, Item]
    classes: Classes
    num_images: int


def find_suspects(
    paths: Sequence[Path],
    overrides: Sequence[str] = (),
    *,
    split: str | None = None,
    top: int = 100,
    output: Path | None = None,
) -> SuspectsResult:
    """Rank label regions that contradict a sure model.

    Several checkpoints are those of folds: each looks at the images that it holds out (data.val), so that every image
    is judged by a model that wasn't trained on it. One checkpoint looks at `split`, by default its data.val.
    With `output`, suspects.csv and suspects.html are written there.

    Raises:
        CheckpointError: a file that can't be read, or models of different classes.
        ConfigError: an override without effect.
        DataError: an image or mask that can't be read, or one image held out by two of the models.
    """
    items: dict[str, Item] = {}
    regions: list[Region] = []
    classes: Classes | None = None
    reader: MaskReader | None = None
    for path in paths:
        (model,) = models = open_models([path])
        classes = classes or model.classes
        if model.classes.names != classes.names:
            raise CheckpointError(f"{path}: has other classes than {paths[0]}; give the checkpoints of one run's folds")
        config = evaluation_config(path, model, overrides)
        reader = build_mask_reader(config.data, classes)
        chosen = split or config.data.val
        mine = list_items(config.data, chosen, seed=config.train.seed, held_out=model.held_out)
        if twice := sorted({item.name for item in mine} & items.keys()):
            raise DataError(
                f"{path}: {twice[0]} is looked at by another model already; give checkpoints of folds, which hold out "
                "different images, and no --split"
            )
        if chosen in (config.data.train, "all"):
            log.warning("warning: %s was trained on these images, and may have learnt their wrong labels", path)
        items |= {item.name: item for item in mine}
        scoring = build_scoring(models, mine, config, precision_given=sets(overrides, "train.precision"))
        levels, found = ClassLevels(len(classes)), []
        with scoring.validation.batches(title=f"reading {chosen}") as batches:
            for labelled in segmentations(scoring.model, batches):
                probabilities = labelled.segmentation.probabilities
                levels.add(labelled.truth, probabilities)
                ignored = classes.ignore_index
                found += doubted_regions(labelled.name, labelled.truth, probabilities, ignore_index=ignored)
        regions += [region for region in found if levels.reached_by(region)]
    assert classes is not None
    assert reader is not None
    regions.sort(key=lambda region: (-region.evidence, region.image, region.box))
    result = SuspectsResult(regions[:top], items, classes, len(items))
    if output:
        with writing(output, remedy="choose another folder with --output"):
            output.mkdir(parents=True, exist_ok=True)
            write_bytes_durably(output / "suspects.csv", suspects_csv(result).encode())
            shown = list(_shown(result, reader))
            page = suspects_page(result.regions, shown, classes, num_images=result.num_images)
            write_bytes_durably(output / "suspects.html", page.encode(errors="replace"))
    return result


def suspects_csv(result: SuspectsResult) -> str:
    """Return a row per region as CSV: rank, image, label file, box in pixels, both classes, how sure the model is."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    head = ("rank", "image", "mask", "left", "top", "width", "height", "pixels", "label", "predicted")
    writer.writerow([*head, "confidence", "label_probability"])
    names = result.classes.names
    for rank, region in enumerate(result.regions, start=1):
        top, left, height, width = region.box
        about = (rank, neutral(region.image), neutral(str(result.items[region.image].mask)), left, top, width, height)
        sure = (f"{region.confidence:.6f}", f"{region.label_probability:.6f}")
        writer.writerow([*about, region.pixels, names[region.label], names[region.predicted], *sure])
    return text.getvalue()


def _shown(result: SuspectsResult, reader: MaskReader) -> Iterator[Shown]:
    """Yield each region, framed, with what is around it, and the label over it."""
    for number, region in enumerate(result.regions):
        image, truth = read_pair(result.items[region.image], reader)
        top, left, height, width = region.box
        around = round(MARGIN * max(height, width)) + 16
        framed = cv2.rectangle(image.copy(), (left - 2, top - 2), (left + width + 1, top + height + 1), FRAME, 2)
        rows = slice(max(0, top - around), top + height + around)
        part = rows, slice(max(0, left - around), left + width + around)
        yield shown_masks(f"region-{number}", region.image, framed[part], truth[part], {}, result.classes)
