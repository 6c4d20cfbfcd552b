"""Which learning rate: a range test on the run's own data, by the training loop, in a folder that is thrown away.

Not here: how the rate rises and what is made of the losses (segkit/training/range_test.py).
"""

import csv
import io
import logging
import math
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from segkit.config.schema import RunConfig
from segkit.errors import DeviceError, SegkitError, TrainingDiverged
from segkit.report.plots import range_test_png
from segkit.report.text_plot import text_plot
from segkit.runtime.files import write_bytes_durably
from segkit.runtime.logs import quiet
from segkit.runtime.machine import processes_here
from segkit.train import train
from segkit.training.range_test import RangeTest
from segkit.training.schedule import scale_lr


@dataclass(frozen=True)
class FoundRate:
    """What a range test came to. `optim_lr` is what to write as optim.lr, None where no rate lowered the loss."""

    test: RangeTest
    optim_lr: float | None


def find_lr(config: RunConfig, *, lowest: float = 1e-6, highest: float = 1.0, num_steps: int = 100) -> FoundRate:
    """Train for `num_steps` steps while the decoder's rate rises from `lowest` to `highest`; no folder is left.

    Model, data, augmentation, loss and optimizer are those of the run, and so are the factors between the rates of its
    parameter groups; its schedule isn't used. The test ends early where the loss explodes.

    Raises:
        SegkitError: as `train`; or the loss was non-finite from the first step on.
    """
    if processes_here() > 1:
        raise DeviceError("lr-find: found several processes, expected one; start it without torchrun")
    base = scale_lr(config.optim, config.train.fixed_batch_size)
    test = RangeTest(lowest=lowest, highest=highest, num_steps=num_steps, base_lr=base)
    with tempfile.TemporaryDirectory(prefix="segkit-lr-find-") as folder, quiet("segkit", level=logging.WARNING):
        # more epochs than steps: the last one, which validates in any case, is never reached
        settings = replace(config.train, epochs=num_steps + 1, on_nonfinite="stop", profile=False)
        rehearsal = replace(
            config, run=str(Path(folder) / "run"), train=settings, eval=replace(config.eval, every=num_steps + 1),
            report=replace(config.report, trackers=()),
        )  # fmt: skip
        try:
            result = train(rehearsal, max_steps=num_steps, range_test=test)
        except TrainingDiverged:  # a weight: the loss would have been next
            pass
        else:
            if result.stopped:
                raise KeyboardInterrupt
    if not test.losses:
        raise SegkitError(
            f"lr-find: the loss was non-finite at the lowest rate, {lowest:.3g}; expected a finite one; lower "
            "--lowest, or look at the data with segkit check"
        )
    suggestion = test.suggestion
    return FoundRate(test, None if suggestion is None else _two_digits(suggestion * config.optim.lr / base))


def describe_found_rate(found: FoundRate, *, width: int) -> str:
    """Return a plot of the smoothed loss, and the suggestion with its rule, as a user reads it."""
    test = found.test
    lines = [
        text_plot(
            test.rates, test.smoothed, width=width, x_name="learning rate (log), smoothed loss", from_zero=False,
            log_x=True,
        )
    ]  # fmt: skip
    lowest = f"{test.smoothed[test.lowest_at]:.4f} at lr {test.rates[test.lowest_at]:.2e}"
    if len(test.rates) < test.num_steps:
        lines.append(
            f"ended   at lr {test.rates[-1]:.2e}, after {len(test.rates)} of {test.num_steps} steps: it exploded"
        )
    if found.optim_lr is None:
        lines.append("none    no rate lowered the loss; try a lower --lowest or more --steps")
        return "\n".join(lines)
    lines.append(f"lowest  loss {lowest}")
    if test.still_falling:
        lines.append("        the loss was still falling at the highest rate: try a higher --highest")
    lines.append(f"suggest optim.lr={found.optim_lr:g}: a tenth of the rate at which the smoothed loss is lowest")
    return "\n".join(lines)


def write_found_rate(found: FoundRate, png: Path) -> list[Path]:
    """Write the curve as `png`, and as CSV beside it (step, lr, loss, smoothed loss); return both paths.

    Raises:
        RunFolderError: no space or no permission.
    """
    test = found.test
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("step", "lr", "loss", "smoothed"))
    rows.writerows(zip(range(1, len(test.rates) + 1), test.rates, test.losses, test.smoothed, strict=True))
    table = png.with_suffix(".csv")
    write_bytes_durably(
        png, range_test_png(test.rates, test.losses, test.smoothed, test.suggestion), elsewhere="--output"
    )
    write_bytes_durably(table, text.getvalue().encode(), elsewhere="--output")
    return [png, table]


def _two_digits(value: float) -> float:
    return round(value, 1 - math.floor(math.log10(value)))
