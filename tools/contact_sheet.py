"""Show every render of some predictions in one PNG: python tools/contact_sheet.py CHECKPOINT IMAGE [IMAGE ...]

A row per image: the image, its renders in the order of `segkit predict --render`, and the uncertainty.
"""

import argparse
from pathlib import Path

import cv2
import numpy as np

from segkit.datasets.images import read_image
from segkit.imaging.codec import write_png
from segkit.imaging.overlay import RENDERS, on_white, render, sheet
from segkit.inference.predictor import Predictor
from segkit.prediction.pixel_outputs import normalized_entropy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("images", type=Path, nargs="+", metavar="IMAGE")
    parser.add_argument("--output", type=Path, default=Path("renders.png"), help="default: %(default)s")
    arguments = parser.parse_args()
    predictor = Predictor.load(arguments.checkpoint)
    cells: list[np.ndarray] = []
    for path in arguments.images:
        image = read_image(path)
        found = predictor.segment(image)
        entropy = np.rint(normalized_entropy(found.probabilities) * 255).astype(np.uint8)
        cells.append(image)
        cells += [on_white(render(image, found.mask, predictor.classes, kind=kind)) for kind in RENDERS]
        cells.append(cv2.cvtColor(entropy, cv2.COLOR_GRAY2RGB))
    write_png(arguments.output, sheet(cells, columns=2 + len(RENDERS)))


if __name__ == "__main__":
    main()
