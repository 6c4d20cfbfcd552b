"""Two machines for real: two network namespaces with addresses of their own, joined by a cable that can be cut.

Each runs torchrun's elastic launcher as a cluster does. Needs root and `ip netns`; skipped elsewhere.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from segkit.config.reading import dump_config
from segkit.config.schema import RunConfig
from segkit.models.checkpoint import Checkpoint

ROOT = Path(__file__).parents[2]
MakeConfig = Callable[..., RunConfig]
NODES = (0, 1)
SETTINGS = ("train.epochs=12", "train.checkpoint_every_steps=1", "train.timeout_minutes=0.2", "eval.every=6")


def ip(*words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["ip", *words], capture_output=True, text=True, check=check)


def namespace(node: int) -> str:
    return f"segkit-test-{os.getpid()}-{node}"


@pytest.fixture
def cable() -> Iterator[Callable[[str], None]]:
    """Two namespaces and a veth pair between them; call with down or up to cut it and to repair it."""
    try:
        made = ip("netns", "add", namespace(0), check=False)
    except OSError:
        pytest.skip("needs the program ip (iproute2)")
    if made.returncode:
        pytest.skip(f"needs root and network namespaces: {made.stderr.strip()}")
    try:
        ip("netns", "add", namespace(1))
        ends = [f"sk{os.getpid() % 10**6}n{node}" for node in NODES]
        ip("link", "add", ends[0], "type", "veth", "peer", "name", ends[1])
        for node in NODES:
            ip("link", "set", ends[node], "netns", namespace(node))
            inside = ("-n", namespace(node))
            ip(*inside, "link", "set", ends[node], "name", "cable")
            ip(*inside, "addr", "add", f"10.77.0.{node + 1}/24", "dev", "cable")
            for device in ("cable", "lo"):
                ip(*inside, "link", "set", device, "up")

        def set_cable(state: str) -> None:
            ip("-n", namespace(1), "link", "set", "cable", state)

        yield set_cable
    finally:
        for node in NODES:
            ip("netns", "delete", namespace(node), check=False)


def start(node: int, config: Path, run: Path) -> subprocess.Popen[str]:
    command = [
        "ip", "netns", "exec", namespace(node), sys.executable, "-m", "torch.distributed.run", "--nnodes=2",
        "--nproc-per-node=1", "--max-restarts=5", "--rdzv-backend=c10d", "--rdzv-endpoint=10.77.0.1:29400",
        "--rdzv-id=test", f"--rdzv-conf=is_host={int(node == 0)}", f"--local-addr=10.77.0.{node + 1}",
        str(ROOT / "tools" / "train.py"), str(config), f"run={run}", "--auto-resume",
    ]  # fmt: skip
    # without the second, a node that comes back waits for an address that the others published in an earlier round
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": "cable", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    with (run.parent / f"{run.name}_{node}.log").open("a") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, text=True, env=environment)


def pull_the_plug(node: int) -> None:
    """Kill every process of a node: torchrun gives its processes sessions of their own."""
    for pid in ip("netns", "pids", namespace(node)).stdout.split():
        os.kill(int(pid), signal.SIGKILL)


def wait_for_step(run: Path, step: int) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        last = run / "checkpoints" / "last.pt"
        if last.is_file() and Checkpoint.load(last).progress.step >= step:
            return
        time.sleep(0.1)
    raise AssertionError(f"{run}: step {step} was never reached")


def finish(nodes: list[subprocess.Popen[str]], run: Path) -> dict[str, torch.Tensor]:
    try:
        codes = [node.wait(180) for node in nodes]
    finally:
        for number, node in enumerate(nodes):
            pull_the_plug(number)
            node.wait()
    said = "\n".join((run.parent / f"{run.name}_{node}.log").read_text()[-3000:] for node in NODES)
    assert codes == [0, 0], said
    return Checkpoint.load(run / "checkpoints" / "last.pt").weights


@pytest.mark.slow
def test_two_machines_end_the_same_when_one_dies_and_when_the_cable_is_cut(
    cable: Callable[[str], None], make_config: MakeConfig, tmp_path: Path
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(dump_config(make_config(tmp_path / "unused", *SETTINGS)))
    weights = {}
    for name in ("undisturbed", "killed", "cut"):
        run = tmp_path / name
        nodes = [start(node, config, run) for node in NODES]
        if name != "undisturbed":
            wait_for_step(run, 4)
        if name == "killed":
            pull_the_plug(1)
            nodes[1].wait()
            nodes[1] = start(1, config, run)
        if name == "cut":
            cable("down")
            time.sleep(3)
            cable("up")
        weights[name] = finish(nodes, run)
    for name in ("killed", "cut"):
        assert all(torch.equal(weights["undisturbed"][key], weights[name][key]) for key in weights[name]), name
