"""Show that a refactor changed nothing: record what the program produces, and compare two records.

    python tools/same_results.py record OUT [--tree DIR] [--resume-from OLD]   # about 4 minutes on 2 cores
    python tools/same_results.py compare OLD NEW [--numbers]

A record trains (the demo; two ranks; accumulation, moving average and a frozen encoder; tar shards; a resumed run),
evaluates, predicts, checks the data sets in ../shared/data and converts two of them to every format. It keeps a hash
of every tensor of last.pt, of every row of log.csv without its times, of metrics.json, of every predicted mask and of
every converted file, and what `check` prints. `--tree` records another checkout with this one's environment, and
`--resume-from` continues the run that another record left half done: a run of yesterday must resume today.

`--numbers` compares only words that hold a digit in printed text, for changes that reword messages.
"""

import argparse
import csv
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

HERE = Path(__file__).resolve().parents[1]
SHARED = HERE.parent / "shared" / "data"
TIMES = ("seconds", "images_per_second")
TARGETS = ("voc", "folders", "webdataset", "labelme", "coco", "yolo")
CHECKED = ("camvid_tiny", "camvid", "drive", "leaf_black_rot", "voc2012_sample", "weizmann_horses")


def main() -> int:
    """Record or compare, by the command line; return 1 where two records differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("record")
    command.add_argument("out", type=Path)
    command.add_argument("--tree", type=Path, default=HERE, help="the checkout to run (default: this one)")
    command.add_argument("--resume-from", type=Path, help="record whose half-done run is resumed")
    command = commands.add_parser("compare")
    command.add_argument("old", type=Path)
    command.add_argument("new", type=Path)
    command.add_argument("--numbers", action="store_true", help="of printed text, compare only words with a digit")
    arguments = parser.parse_args()
    if arguments.command == "compare":
        return compare(arguments.old, arguments.new, numbers=arguments.numbers)
    record(arguments.out.resolve(), arguments.tree.resolve(), resume_from=arguments.resume_from)
    return 0


def record(out: Path, tree: Path, *, resume_from: Path | None) -> None:
    """Run everything in an empty folder `out`, and write `out/record.json`: a name for each fact, and the fact."""
    out.mkdir(parents=True)
    facts: dict[str, str] = {}

    def run(*words: object, launcher: tuple[str, ...] = (), codes: tuple[int, ...] = (0,)) -> str:
        environment = os.environ | {"PYTHONPATH": str(tree), "COLUMNS": "120"}
        command = [sys.executable, *launcher, *map(str, words)]
        print("+", *map(str, words), flush=True)
        done = subprocess.run(command, cwd=out, env=environment, capture_output=True, text=True)
        if done.returncode not in codes:
            raise SystemExit(f"exit code {done.returncode}: {' '.join(command)}\n{done.stdout}\n{done.stderr}")
        return done.stdout

    def train(name: str, *overrides: str, launcher: tuple[str, ...] = (), record: bool = True) -> None:
        config = tree / "configs" / "demo.yaml"
        settings = (f"run={name}", "data.root=segkit_demo/dataset", "train.workers=1", *overrides)
        run(tree / "tools" / "train.py", config, *settings, launcher=launcher)
        if record:
            facts.update(facts_of_run(out / name, name))

    cli = ("-m", "segkit.cli")
    run(*cli, "demo", "--output", "segkit_demo")
    facts.update(facts_of_run(out / "segkit_demo" / "run", "demo"))
    facts.update(facts_of_files(out / "segkit_demo" / "dataset", "demo/dataset"))
    facts.update(facts_of_files(out / "segkit_demo" / "predictions" / "masks", "demo/masks"))
    facts.update(facts_of_files(out / "segkit_demo" / "predictions" / "overlays", "demo/overlays"))

    checkpoint = out / "segkit_demo" / "run" / "checkpoints" / "best.pt"
    run(tree / "tools" / "eval_miou.py", checkpoint, "data.root=segkit_demo/dataset", "--output", "eval")
    facts.update(facts_of_files(out / "eval", "eval"))
    run(tree / "tools" / "predict.py", checkpoint, SHARED / "camvid_tiny" / "JPEGImages", "--output", "predicted")
    facts.update(facts_of_files(out / "predicted" / "masks", "predict/masks"))

    ranks = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    train("two_ranks", "train.epochs=2", "eval.every=1", launcher=ranks)
    train("accumulate", "train.epochs=3", "train.accumulate=2", "train.ema=0.9", "train.freeze_epochs=1")
    train("weighted", "train.epochs=2", "loss.focal=0.5", "loss.class_weights=log", "augment.rare_crops=0.5",
          "data.sampler=repeat_factor", "data.repeat_threshold=0.9")  # fmt: skip
    settings = ("data.root=segkit_demo/dataset", "--splits", "train", "val")
    run(*cli, "convert", tree / "configs" / "demo.yaml", *settings, "--to", "webdataset", "shards")
    train("webdataset", "train.epochs=2", "data.root=shards", "data.layout=webdataset")

    half = (resume_from.resolve() if resume_from else out) / "half"
    if not resume_from:
        train("half", "train.epochs=2", "train.ema=0.9", record=False)  # what counts is the run that resumes from it
    shutil.copytree(half, out / "resumed")
    train("resumed", "train.epochs=3", "train.ema=0.9", "--resume")

    for name in CHECKED:
        if (SHARED / name).is_dir():
            text = run(*cli, "check", SHARED / name, "--html", out / f"{name}.html", codes=(0, 1, 2))
            facts[f"check/{name}/text"] = text.replace(str(out), "OUT").replace(str(tree), "TREE")
    for name in ("camvid_tiny", "voc2012_sample"):
        for target in TARGETS:
            folder = f"{name}.{target}"
            run(*cli, "convert", SHARED / name, "--from", "voc", "--to", target, folder)
            facts.update(facts_of_files(out / folder, f"convert/{folder}"))
    (out / "record.json").write_text(json.dumps(facts, indent=0, sort_keys=True))
    print(f"{len(facts)} facts: {out / 'record.json'}")


def facts_of_run(folder: Path, name: str) -> dict[str, str]:
    """Return a hash of each tensor of last.pt, its progress, each row of log.csv without times, and metrics.json."""
    checkpoint = torch.load(folder / "checkpoints" / "last.pt", weights_only=True, map_location="cpu")
    facts = {}
    for key, value in _flat(checkpoint, ""):
        if isinstance(value, torch.Tensor):
            facts[f"{name}/last.pt{key}"] = hash_of(value.contiguous().flatten().view(torch.uint8).numpy().tobytes())
        elif key.startswith("/progress/") and "seconds" not in key:
            facts[f"{name}/last.pt{key}"] = repr(value)
    with (folder / "log.csv").open(newline="") as file:
        for k, row in enumerate(csv.DictReader(file)):
            facts[f"{name}/log.csv/{k}"] = json.dumps({key: row[key] for key in row if key not in TIMES})
    facts[f"{name}/metrics.json"] = hash_of((folder / "metrics.json").read_bytes())
    return facts


def _flat(value: Any, key: str) -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        return [pair for k, part in value.items() for pair in _flat(part, f"{key}/{k}")]
    if isinstance(value, list | tuple):
        return [pair for k, part in enumerate(value) for pair in _flat(part, f"{key}/{k}")]
    return [(key, value)]


def facts_of_files(folder: Path, name: str) -> dict[str, str]:
    """Return a hash of every file below a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {f"{name}/{path.relative_to(folder).as_posix()}": hash_of(path.read_bytes()) for path in files}


def hash_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]


def compare(old: Path, new: Path, *, numbers: bool) -> int:
    """Print what differs between two records; return 1 if anything does."""
    before, after = (json.loads((folder / "record.json").read_text()) for folder in (old, new))
    if numbers:
        for facts in (before, after):
            facts.update({key: _numbers(text) for key, text in facts.items() if key.endswith("/text")})
    different = [key for key in sorted(before) if before[key] != after.get(key)]
    for key in different[:40]:
        print(f"{key}\n  old {before.get(key)}\n  new {after.get(key)}")
    added = after.keys() - before.keys()
    print(f"{len(before)} facts before: {len(different)} differ, {len(added)} are new{': ' if added else ''}", end="")
    print(*sorted(added)[:5], sep=", ")
    return 1 if different else 0


def _numbers(text: str) -> str:
    return " ".join(word.strip(".,:;()") for word in text.split() if any(letter.isdigit() for letter in word))


if __name__ == "__main__":
    sys.exit(main())
