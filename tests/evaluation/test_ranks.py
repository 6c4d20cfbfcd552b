"""Every figure of a set is the same by two real processes as by one."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

SCORE = """
import json, sys
from pathlib import Path
from segkit.datasets.layouts import list_items
from segkit.eval_miou import score
from segkit.evaluation.families import build_families
from segkit.evaluation.measurement import Measurement
from segkit.models.checkpoint import Checkpoint
from segkit.runtime.ranks import process_group

checkpoint = Checkpoint.load(Path(sys.argv[1]))
items = list_items(checkpoint.config.data, "val")[:7]  # an odd number, so that one rank has more of them
with process_group("cpu", timeout_minutes=2) as ranks:
    families = build_families(len(checkpoint.classes), None, probabilities=True)
    measurement = Measurement(checkpoint.classes, families, ("letterbox", "crop"))
    scores = score([checkpoint], items, checkpoint.config, title="", ranks=ranks, measurement=measurement)
print(json.dumps([measurement.measured(scores).to_dict(), scores.counts.tolist()]))
"""


@pytest.mark.slow
def test_two_ranks_give_every_figure_of_one_to_the_last_bit(varied: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    group = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "GLOO_SOCKET_IFNAME": "lo"}
    jobs = [{}, {**group, "RANK": "0", "LOCAL_RANK": "0"}, {**group, "RANK": "1", "LOCAL_RANK": "1"}]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", SCORE, str(varied)],
            env={**os.environ, "OMP_NUM_THREADS": "1", **job},
            stdout=subprocess.PIPE,
            text=True,
        )
        for job in jobs
    ]
    alone, first, second = (process.communicate(timeout=300)[0].splitlines()[-1] for process in processes)
    assert first == second == alone
    figures, _ = json.loads(alone)
    assert figures["mean_boundary_iou"] > 0
    assert figures["mean_object_ap"] is not None
