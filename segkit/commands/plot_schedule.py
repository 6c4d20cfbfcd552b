"""Show the learning rate of a config over its run, in the terminal and as PNG; no data is needed."""

import argparse
from pathlib import Path

from segkit.commands.output import say
from segkit.config.reading import load_config
from segkit.errors import SegkitError
from segkit.runtime.process import importing


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", type=Path, help="YAML file, such as configs/demo.yaml")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings, as in optim.schedule=cosine")
    parser.add_argument("--output", type=Path, metavar="FILE.png", help="also draw it as a PNG file")
    parser.add_argument(
        "--steps-per-epoch", type=int, default=100, metavar="N",
        help="the curve hardly depends on it (default: %(default)s)",
    )  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    if arguments.steps_per_epoch < 1:
        raise SegkitError(f"--steps-per-epoch {arguments.steps_per_epoch}: expected a number from 1")
    if arguments.output and arguments.output.suffix != ".png":
        raise SegkitError(f"--output {arguments.output}: expected a name that ends in .png")
    config = load_config(arguments.config, arguments.overrides)
    with importing():
        from segkit.report.plots import schedule_png
        from segkit.report.text_plot import terminal_width, text_plot
        from segkit.runtime.files import write_bytes_durably
        from segkit.training.schedule import planned_rates

    epochs, rates = planned_rates(config, steps_per_epoch=arguments.steps_per_epoch)
    parts = ", ".join(f"{name} to {end:g}" for name, end in config.optim.chain)
    schedule = config.optim.schedule if isinstance(config.optim.schedule, str) else parts
    warmup = config.optim.warmup if config.optim.warms_up else 0
    say(
        f"optim   {config.optim.name}, schedule {schedule}, warm-up {warmup:g}",
        f"rate    first {rates[0]:.3g}, highest {max(rates):.3g}, last {rates[-1]:.3g}",
        text_plot(epochs, rates, width=terminal_width(), x_name="epochs"),
    )
    if config.optim.schedule == "plateau":
        say("note: drawn as if mIoU never got better after the first validation; a better one keeps the rate up")
    if arguments.output:
        curves = {"decoder": rates}
        if config.optim.encoder_lr != 1:
            curves["encoder"] = [rate * config.optim.encoder_lr for rate in rates]
        write_bytes_durably(arguments.output, schedule_png(epochs, curves), elsewhere="--output FILE.png")
        say(f"written: {arguments.output}")
    return 0
