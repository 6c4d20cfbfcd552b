"""Check a data set: read everything once, say what is wrong with it, and what to type.

Training looks at every file too (segkit/datasets/survey.py), but stops at what it can't train on; this looks for
whatever makes a model bad or a figure worthless. Not here: the repaired copy (fix), the page (page).
"""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from segkit.config.reading import load_config, override_config
from segkit.config.schema import DataConfig, RunConfig
from segkit.datasets.layouts import Item, has_class_file, resolve_classes
from segkit.datasets.listing import Inventory, describe_folder, splits_there, take_inventory
from segkit.datasets.masks import build_mask_reader
from segkit.doctor.examination import Examined, Finding
from segkit.doctor.findings.splits import list_findings
from segkit.doctor.guess_classes import guess_classes
from segkit.doctor.measure import count_unknown, gather_facts
from segkit.doctor.page import MARK, check_page
from segkit.errors import DataError, RunFolderError
from segkit.formats.recognize import recognize
from segkit.imaging.letterbox import LetterBox
from segkit.imaging.overlay import panel, sheet
from segkit.imaging.resize import resize_image, resize_mask
from segkit.loading.augment.pipeline import build_augment
from segkit.runtime.files import write_bytes_durably

CLEAN, WARNED, WRONG = 0, 1, 2  # exit codes
NUM_AUGMENTATIONS = 16
AUGMENTED_HW = (140, 140)  # what each fits into


@dataclass(frozen=True)
class Checked:
    """What a check found. `config` is the run's, or the defaults around a folder's data section."""

    config: RunConfig
    examined: Examined
    findings: list[Finding]

    @property
    def exit_code(self) -> int:
        """0: clean; 1: warnings; 2: errors."""
        found = {finding.severity for finding in self.findings}
        return WRONG if "error" in found else WARNED if "warning" in found else CLEAN


def check(source: Path, overrides: Sequence[str] = ()) -> Checked:
    """Look at every file of a data set: that of a config, or of a folder in the voc or folders layout.

    Of a config data.train, data.val and a test split are looked at, if there is one; of a folder the usual splits that
    it has, or all of it.

    Raises:
        ConfigError: the config, or an override, is wrong.
        DataError: the folder or a split is missing or empty.
    """
    config, is_folder = _config_of(source, overrides)
    data = config.data
    named = splits_there(data) if is_folder else None
    inventory = take_inventory(data, named, seed=config.train.seed)
    if not inventory.items:
        raise DataError(f"{data.root}: no images in it, expected images with their labels; see the README")
    if is_folder and named and data.train not in named:
        data = replace(data, train=named[0])
    if is_folder and named and data.val not in named:
        data = replace(data, val=next((split for split in ("valid", "validation") if split in named), data.val))
    examined = _examine(data, inventory, may_guess=is_folder)
    return Checked(replace(config, data=examined.data), examined, list_findings(examined))


def _config_of(source: Path, overrides: Sequence[str]) -> tuple[RunConfig, bool]:
    if source.is_dir():
        try:
            config = RunConfig(data=describe_folder(source))
        except DataError as error:
            if (looks := recognize(source)) is None:
                raise
            raise DataError(
                f"{error}. It looks like {looks}: segkit convert {shlex.quote(str(source))} --from {looks} --to voc OUT"
            ) from error
        return override_config(config, overrides, where="the settings"), True
    if source.suffix not in (".yaml", ".yml"):
        found = "a file that is no config" if source.exists() else "nothing there"
        raise DataError(f"{source}: found {found}, expected a data set's folder, or the config of a run (.yaml)")
    return load_config(source, overrides), False


def _examine(data: DataConfig, inventory: Inventory, *, may_guess: bool) -> Examined:
    reader, guessed = None, ""
    named = data.classes is not None or has_class_file(data)
    if named or (data.layout == "voc" and not may_guess):
        reader = build_mask_reader(data, resolve_classes(data))
    facts = gather_facts(inventory.items, reader)
    if reader is None:
        data, guessed = guess_classes(data, facts)
        reader = build_mask_reader(data, resolve_classes(data))
        count_unknown(facts, reader)
    hint = _label_hint(data, inventory)
    return Examined(data, inventory, facts, reader.classes, reader, guessed, hint)


def _label_hint(data: DataConfig, inventory: Inventory) -> str:
    """Return how to come by labels that are there under other names than their images; '' if none are missing so."""
    if not inventory.spare_labels or all(item.mask for item in inventory.items if item.image):
        return ""
    looks = recognize(Path(data.root))
    if looks is None:
        return ""
    return (
        "labels are there under other names than their images (see 'labels without an image'); pair them: "
        f"segkit convert {shlex.quote(data.root)} --from {looks} --to voc OUT"
    )


# ---- the page


def refuse_page(path: Path) -> None:
    """Refuse to write a page over something that isn't one.

    Raises:
        RunFolderError: it isn't.
    """
    if path.exists() and (not path.is_file() or MARK.encode() not in path.read_bytes()[:400]):
        raise RunFolderError(f"{path}: found something that segkit check didn't write; name another file with --html")


def write_page(checked: Checked, path: Path, *, augment: bool = False) -> None:
    """Write check.html; with `augment`, also one image as training sees it, in 16 epochs.

    Raises:
        RunFolderError: something else has that name, or it can't be written.
    """
    refuse_page(path)
    augmented = _augmentations(checked) if augment else None
    page = check_page(checked.examined, checked.findings, seed=checked.config.train.seed, augmented=augmented)
    write_bytes_durably(path, page.encode(errors="backslashreplace"), elsewhere="--html FILE")


def _augmentations(checked: Checked) -> np.ndarray:
    """Return 16 epochs of the image that shows the most classes, with its mask: uint8 RGB [h, w, 3]."""
    from segkit.loading.training_set import TrainingSet  # torch, which nothing else here needs

    examined, config = checked.examined, checked.config
    if not examined.sound:
        raise DataError(f"{examined.data.root}: no label can be read, expected one to augment; repair the labels first")
    index = max(examined.sound, key=lambda index: (int(examined.presence[index].sum()), -index))
    item = examined.items[index]
    assert item.image is not None
    split = examined.split_of[index][0] if examined.split_of[index] else examined.data.train
    recipe = build_augment(
        config.augment,
        canvas_hw=config.data.canvas,
        ignore_index=examined.classes.ignore_index,
        class_pixels=tuple(examined.pixels(split).tolist()),
        labelled_crops=config.data.unlabeled == "ignore",
    )
    complete = Item(item.name, item.image, item.mask)
    scenes = TrainingSet([complete], examined.reader, recipe, seed=config.train.seed)
    panels = []
    for epoch in range(NUM_AUGMENTATIONS):
        image, mask = scenes.draw((epoch, 0))
        small_hw = LetterBox.fit(mask.shape, AUGMENTED_HW).inner_hw
        panels.append(panel(resize_image(image, small_hw), [resize_mask(mask, small_hw)], examined.classes))
    return sheet(panels, columns=4)
