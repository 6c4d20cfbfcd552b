"""Show post-processing where it helps: python tools/drawn_postprocess.py FOLDER

Trains the demo's model for a moment, draws images with salt-and-pepper noise on 4 % of their pixels, tunes rules on 80
of them and scores 80 others, with the rules and without.
"""

import argparse
import dataclasses
from pathlib import Path

import numpy as np
from PIL import Image

from segkit.commands.demo import demo_config
from segkit.datasets.shapes import draw_data_set
from segkit.eval_miou import eval_miou
from segkit.postprocess import tune_postprocessing
from segkit.report.rules_table import rules_table
from segkit.train import train

NOISE = 0.04


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="new folder for data and run")
    folder = parser.parse_args().folder
    draw_data_set(folder / "dataset", num_train=60, num_val=80)
    config = demo_config(folder, pretrained=True)
    training = dataclasses.replace(config.train, epochs=8, precision="fp32")
    best = train(dataclasses.replace(config, train=training, eval=dataclasses.replace(config.eval, every=8))).best
    for name, seed in (("tuned_on", 11), ("others", 12)):
        draw_noisy(folder / name, seed)
    tuned = tune_postprocessing(best, [f"data.root={folder / 'tuned_on'}"])
    print(rules_table(tuned.tuning, tuned.classes))
    for postprocess in (False, True):
        output = folder / f"scores_{postprocess}"
        result = eval_miou(best, [f"data.root={folder / 'others'}"], output=output, postprocess=postprocess)
        print(f"{result.protocol}: mIoU {result.scores.miou:.2%}")


def draw_noisy(root: Path, seed: int) -> None:
    """Draw 80 images to validate on, and set pixels of theirs to black or white."""
    draw_data_set(root, num_train=1, num_val=80, seed=seed)
    rng = np.random.default_rng(seed)
    for path in sorted((root / "JPEGImages").iterdir()):
        with Image.open(path) as file:
            image = np.array(file)
        hit = rng.random(image.shape[:2]) < NOISE
        image[hit] = rng.choice([0, 255], (hit.sum(), 1))
        Image.fromarray(image).save(path, quality=92)


if __name__ == "__main__":
    main()
