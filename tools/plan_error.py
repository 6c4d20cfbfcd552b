"""How far `segkit plan` is off: its seconds per epoch against those of the run that it foretells.

    python tools/plan_error.py [--runs 3]     # about a minute a run on 2 cores

A small network on a drawn data set; the first epoch, which warms up, is left out. Noise of the machine counts.
"""

import argparse
import statistics
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from segkit.config.reading import override_config
from segkit.config.schema import RunConfig
from segkit.datasets.shapes import draw_data_set
from segkit.plan import make_plan
from segkit.train import train

SETTINGS = (
    "model.encoder=resnet18", "model.pretrained=none", "data.canvas=[128, 128]", "train.epochs=6", "train.batch_size=2",
    "train.device=cpu",
)  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    runs = parser.parse_args().runs
    errors = []
    for number in range(runs):
        with tempfile.TemporaryDirectory() as folder:
            draw_data_set(Path(folder) / "data", num_train=12, num_val=6, size_hw=(64, 80))
            config = replace(RunConfig(), run=f"{folder}/run")
            config = override_config(config, [f"data.root={folder}/data", *SETTINGS], where="plan_error")
            plan = make_plan(config, num_steps=24)
            rows = (train(config).folder / "log.csv").read_text().splitlines()[2:]
            found = statistics.fmean(float(row.split(",")[4]) for row in rows)
        errors.append(plan.epoch / found - 1)
        print(f"run {number + 1}: planned {plan.epoch:.3f} s an epoch, took {found:.3f} s: {errors[-1]:+.1%}")
    print(f"median {statistics.median(errors):+.1%}, {min(errors):+.1%} to {max(errors):+.1%}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
