"""Measure segkit beside what people use instead: python tools/benchmark.py [PART]

All in one run: each round times every variant once, in rotation, so that noise disturbs them alike. A table shows
medians with min..max, and the ratio of the first row's median, the usual implementation, to each. What should be equal
is compared before anything is timed. The parts are in tools/benchmark_parts/, the others' implementations in
tools/peers.py; libraries are used as they install: uv run --group benchmark python tools/benchmark.py
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import torch
from benchmark_parts.data import data_part
from benchmark_parts.prediction import evaluate_part, metric_part, predict_part
from benchmark_parts.start import start_part
from benchmark_parts.timing import Comparison, interleave, table
from benchmark_parts.training import loss_part, train_part
from benchmark_parts.video import video_part

from segkit.runtime.device import describe_environment, select_device

PARTS: dict[str, Callable[[torch.device, Path], list[Comparison]]] = {
    "data": data_part,
    "loss": loss_part,
    "metric": metric_part,
    "predict": predict_part,
    "evaluate": evaluate_part,
    "train": train_part,
    "start": start_part,
    "video": video_part,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="?", default="all", choices=[*PARTS, "all"])
    parser.add_argument("--rounds", type=int, help="how often each variant is timed (default: what a part needs)")
    parser.add_argument("--output", type=Path, default=Path("benchmark.json"), help="JSON file (default: %(default)s)")
    arguments = parser.parse_args()
    device = select_device("auto")
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="segkit-benchmark-") as folder:
        for part in PARTS if arguments.part == "all" else []:
            results.update(run_alone(part, arguments, Path(folder)))
        for comparison in PARTS[arguments.part](device, Path(folder)) if arguments.part != "all" else []:
            times = interleave(comparison.variants, rounds=arguments.rounds or comparison.rounds, device=device)
            print(f"\n{comparison.title}\n{table(times)}", *(f"\n  {line}" for line in comparison.remarks), flush=True)
            results[comparison.title] = {
                "milliseconds": {name: sorted(1e3 * t for t in values) for name, values in times.items()},
                "remarks": list(comparison.remarks),
            }
    content = {"environment": describe_environment(device), "results": results}
    arguments.output.write_text(json.dumps(content, indent=2) + "\n")
    print(f"\n{device}, {torch.get_num_threads()} threads; written: {arguments.output}")
    return 0


def run_alone(part: str, arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Measure a part in a process of its own, so that no part's threads and memory settings reach another."""
    output = folder / f"{part}.json"
    rounds = ["--rounds", str(arguments.rounds)] if arguments.rounds else []
    subprocess.run([sys.executable, __file__, part, *rounds, "--output", str(output)], check=True)
    results: dict[str, Any] = json.loads(output.read_text())["results"]
    return results


if __name__ == "__main__":
    cv2.setNumThreads(0)
    sys.exit(main())
