"""Time this tree beside another one, an older checkout: python tools/before_after.py OLD_CHECKOUT PART [--rounds 12]

Both trees prepare the same part of tools/benchmark.py, each in a process of its own. Then each variant of segkit is
timed in the one and at once in the other, in changing order, so that noise disturbs both alike. A table shows medians,
and the median, least and largest of the rounds' ratios new / old. Both trees must have the part, with as many variants.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parents[1]


class Tree:
    """A process that has prepared the part in one checkout, and runs its variants when it is told to."""

    def __init__(self, checkout: Path, part: str) -> None:
        words = [sys.executable, __file__, str(checkout), part, "--serve"]
        self.process = subprocess.Popen(
            words, cwd=checkout, env={**os.environ, "PYTHONPATH": str(checkout), "GOMP_SPINCOUNT": "3000"},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.variants: list[str] = self._answer()

    def time(self, variant: int) -> float:
        """Run a variant; return its milliseconds."""
        assert self.process.stdin is not None
        print(variant, file=self.process.stdin, flush=True)
        return float(self._answer())

    def _answer(self) -> Any:
        assert self.process.stdout is not None
        while line := self.process.stdout.readline():  # what the part itself prints stands between
            if line.startswith("answer "):
                return json.loads(line.removeprefix("answer "))
        raise SystemExit("a tree ended; its message is above")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path, help="the older tree")
    parser.add_argument("part", help="of tools/benchmark.py: data, loss, metric, predict, evaluate, train")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.checkout, arguments.part)
        return 0
    old, new = Tree(arguments.checkout.resolve(), arguments.part), Tree(HERE, arguments.part)
    if len(old.variants) != len(new.variants):
        raise SystemExit(f"{arguments.part}: {len(old.variants)} variants there, {len(new.variants)} here")
    for k, name in enumerate(new.variants):
        times: dict[Tree, list[float]] = {old: [], new: []}
        for number in range(arguments.rounds + 1):
            for tree in (old, new) if number % 2 else (new, old):
                milliseconds = tree.time(k)
                if number:  # one round before does not count
                    times[tree].append(milliseconds)
        ratios = [mine / theirs for mine, theirs in zip(times[new], times[old], strict=True)]
        middle, least, most = statistics.median(ratios), min(ratios), max(ratios)
        print(
            f"{name:<90} {statistics.median(times[old]):10.3f} {statistics.median(times[new]):10.3f} ms "
            f"{middle:6.3f} [{least:.2f}..{most:.2f}]", flush=True,
        )  # fmt: skip
    return 0


def serve(checkout: Path, part: str) -> None:
    """Prepare the part as the checkout has it, say which variants there are, and time those that are asked for."""
    sys.path.insert(0, str(checkout / "tools"))
    import benchmark  # that of the checkout
    import cv2

    device = benchmark.select_device("auto")  # type: ignore[attr-defined]  # where it is from, differs
    cv2.setNumThreads(0)
    with tempfile.TemporaryDirectory(prefix="segkit-before-after-") as folder:
        comparisons = benchmark.PARTS[part](device, Path(folder))
        variants = [
            (f"{comparison.title}: {name}", variant)
            for comparison in comparisons
            for name, variant in comparison.variants.items()
            if name.startswith("segkit")
        ]
        print("answer", json.dumps([name for name, _ in variants]), flush=True)
        for line in sys.stdin:
            variant = variants[int(line)][1]
            variant.prepare()
            started = variant.clock()
            variant.run()
            print("answer", 1e3 * (variant.clock() - started) / variant.per, flush=True)


if __name__ == "__main__":
    sys.exit(main())
