"""`segkit predict --engine ray` on a Ray of two cores: what is killed or broken changes nothing of the rest."""

import contextlib
import csv
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segkit.inference.predictor import Predictor
from segkit.models.checkpoint import Checkpoint

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs Ray: pip install 'segkit[ray]'"),
    pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc"),
]

ROOT = Path(__file__).parents[2]
NUM_IMAGES = 150
TIMEOUT = 400  # seconds; a Ray that starts on busy cores takes up to a minute

# An output that ends its process at one image, as a crash in a decoder would.
DEADLY_JOB = """
import functools, os, sys
from pathlib import Path
from segkit.inference.predictor import Predictor
from segkit.predict import predict_by
from segkit.prediction.job import prepare
from segkit.prediction.fleet import Fleet
from segkit.prediction.table import build_outputs

class Deadly:
    def write(self, prediction):
        if prediction.name == "040":
            os._exit(1)

    def finish(self, done):
        print("finished", *(name for name, _ in done))

checkpoint, source, output = sys.argv[1:]
job = prepare(source, Path(output))
load = functools.partial(Predictor.load, checkpoint, device="cpu")
classes = load().classes
outputs = [Deadly(), *build_outputs(job.output, classes)]
rows = predict_by(Fleet(load, outputs, job.output, 10**6), classes, job, outputs)
print("errors", sum(bool(row.error) for row in rows))
"""


# ---- a model, images, and what one process makes of them


@pytest.fixture(scope="module")
def model(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint whose random weights see every class somewhere: no class is likelier than another on average."""
    changed = Checkpoint.load(checkpoint)
    name = [name for name, value in changed.weights.items() if value.shape == (3,)][-1]
    noise = np.random.default_rng(1).integers(0, 255, (64, 64, 3), np.uint8)
    changed.weights[name] -= Predictor.load(checkpoint, device="cpu").logits(noise).mean(dim=(1, 2))
    path = tmp_path_factory.mktemp("fleet") / "best.pt"
    changed.save(path)
    return path


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of noise, of which one is broken."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for k in range(NUM_IMAGES):
        Image.fromarray(rng.integers(0, 255, (50 + k % 20, 70, 3), np.uint8)).save(folder / f"{k:03d}.jpg")
    (folder / "007.jpg").write_bytes((folder / "007.jpg").read_bytes()[:300])
    return folder


@pytest.fixture(scope="module")
def straight(model: Path, images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process writes."""
    output = tmp_path_factory.mktemp("straight") / "out"
    assert run(predict(model, images, output)).returncode == 1  # one image is broken
    found = {color for path in (output / "masks").iterdir() for color in np.unique(np.array(Image.open(path)))}
    assert found == {0, 1, 2}, "masks of one class would be equal whatever a fleet does"
    return output


def predict(model: Path, images: Path, output: Path, *words: str) -> list[str]:
    start = [sys.executable, str(ROOT / "tools" / "predict.py"), str(model), str(images), "--output", str(output)]
    return [*start, "--device", "cpu", *words]


def environment(**variables: str) -> dict[str, str]:
    # one thread each: the order of additions, and so the last bits, are those of the fleet's processes
    fixed = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "RAY_AUTH_MODE": "disabled"}
    return {**os.environ, **fixed, **variables}


def run(command: list[str], **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, env=environment(**variables), capture_output=True, text=True, timeout=TIMEOUT, check=False
    )


def files_of(output: Path) -> dict[str, bytes]:
    """Return every file but predictions.csv, which holds times."""
    paths = [path for path in output.rglob("*") if path.is_file() and path.suffix != ".csv"]
    return {path.relative_to(output).as_posix(): path.read_bytes() for path in paths}


def untimed(output: Path) -> list[dict[str, str]]:
    with (output / "predictions.csv").open(encoding="utf-8", newline="") as file:
        return [{name: cell for name, cell in row.items() if name != "seconds"} for row in csv.DictReader(file)]


def masks_in(output: Path) -> list[Path]:
    return [path for path in (output / "masks").glob("*.png") if not path.name.startswith(".")]


# ---- a cluster, as `ray start` makes it


@dataclass(frozen=True)
class Cluster:
    """A Ray that the test started: its address, and its session of processes."""

    address: str
    session: int

    def processes(self) -> list[int]:
        """Return what belongs to this Ray, and to no other."""
        found = []
        for pid in (int(folder.name) for folder in Path("/proc").glob("[0-9]*")):
            with contextlib.suppress(ProcessLookupError):  # it has ended
                found += [pid] if os.getsid(pid) == self.session else []
        return found

    def actors(self) -> list[int]:
        """Return those that predict."""
        found = []
        for pid in self.processes():
            with contextlib.suppress(OSError):
                found += [pid] if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"ray::MapWorker") else []
        return found


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A Ray of two cores that listens on loopback."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    words = ["--head", "--block", "--num-cpus=2", f"--object-store-memory={128 * 2**20}", "--include-dashboard=false"]
    words += ["--disable-usage-stats", "--node-ip-address=127.0.0.1", f"--port={port}"]
    with subprocess.Popen(
        [sys.executable, "-m", "ray.scripts.scripts", "start", *words],
        env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    ) as ray:  # fmt: skip
        started = Cluster(f"127.0.0.1:{port}", ray.pid)
        try:
            deadline = time.monotonic() + TIMEOUT
            while not answers(started.address) and ray.poll() is None and time.monotonic() < deadline:
                time.sleep(0.5)
            assert ray.poll() is None
            yield started
        finally:
            for pid in started.processes():
                os.kill(pid, signal.SIGKILL)


def answers(address: str) -> bool:
    with socket.socket() as tried:
        host, _, port = address.partition(":")
        return tried.connect_ex((host, int(port))) == 0


def wait_for(condition: Callable[[], object], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not condition() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert process.poll() is None, process.communicate()


# ---- the same files, whatever happens


def test_a_fleet_writes_what_one_process_writes(model: Path, images: Path, straight: Path, tmp_path: Path) -> None:
    done = run(predict(model, images, tmp_path / "out", "--engine", "ray", "--workers", "2"))
    assert done.returncode == 1, done.stderr[-2000:]
    assert "fleet: 2 x 1 core" in done.stderr + done.stdout
    assert f"{NUM_IMAGES - 1} of {NUM_IMAGES} images predicted" in done.stdout
    assert files_of(tmp_path / "out") == files_of(straight)
    assert untimed(tmp_path / "out") == untimed(straight)
    assert "007.jpg" in untimed(tmp_path / "out")[7]["error"]


def test_an_actor_that_is_killed_is_replaced(
    model: Path, images: Path, straight: Path, tmp_path: Path, cluster: Cluster
) -> None:
    command = predict(model, images, tmp_path / "out", "--engine", "ray")
    with subprocess.Popen(
        command, env=environment(RAY_ADDRESS=cluster.address), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as driver:
        wait_for(lambda: len(masks_in(tmp_path / "out")) > 10, driver)
        os.kill(cluster.actors()[0], signal.SIGKILL)
        assert len(masks_in(tmp_path / "out")) < NUM_IMAGES - 1
        said, errors = driver.communicate(timeout=TIMEOUT)
    assert driver.returncode == 1, errors[-2000:]
    assert f"{NUM_IMAGES - 1} of {NUM_IMAGES} images predicted" in said
    assert files_of(tmp_path / "out") == files_of(straight)
    assert untimed(tmp_path / "out") == untimed(straight)


def test_an_image_that_kills_its_process_is_one_row_with_its_error(
    model: Path, images: Path, straight: Path, tmp_path: Path, cluster: Cluster
) -> None:
    script = tmp_path / "deadly.py"
    script.write_text(DEADLY_JOB)
    command = [sys.executable, str(script), str(model), str(images), str(tmp_path / "out")]
    done = run(command, RAY_ADDRESS=cluster.address)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "errors 2" in done.stdout  # and the broken one
    rows, expected = untimed(tmp_path / "out"), untimed(straight)
    assert "040.jpg: the process that predicted it died" in rows[40]["error"]
    assert rows[:40] + rows[41:] == expected[:40] + expected[41:]
    rest = {name: content for name, content in files_of(straight).items() if "/040." not in name}
    assert files_of(tmp_path / "out") == rest
    assert "finished 000 " in done.stdout


def test_a_driver_that_is_killed_continues_where_it_was(
    model: Path, images: Path, straight: Path, tmp_path: Path, cluster: Cluster
) -> None:
    command = predict(model, images, tmp_path / "out", "--engine", "ray")
    variables = {"RAY_ADDRESS": cluster.address}
    with subprocess.Popen(
        command, env=environment(**variables), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as driver:
        wait_for(lambda: len(masks_in(tmp_path / "out")) > 10, driver)
        driver.kill()
        driver.communicate()
    deadline = time.monotonic() + TIMEOUT
    while cluster.actors() and time.monotonic() < deadline:
        time.sleep(0.1)
    before = {path: path.stat().st_mtime_ns for path in masks_in(tmp_path / "out")}
    assert 10 < len(before) < NUM_IMAGES - 1
    done = run([*command, "--skip-existing"], **variables)
    assert done.returncode == 1, done.stderr[-2000:]
    assert {path: path.stat().st_mtime_ns for path in before} == before  # not predicted again
    assert files_of(tmp_path / "out") == files_of(straight)
    assert untimed(tmp_path / "out") == untimed(straight)


def test_a_cluster_that_does_not_answer_is_told(model: Path, images: Path, tmp_path: Path) -> None:
    done = run(predict(model, images, tmp_path / "out", "--engine", "ray"), RAY_ADDRESS="127.0.0.1:1")
    assert done.returncode == 2
    assert "RAY_ADDRESS=127.0.0.1:1: no Ray answers there" in done.stderr
    assert "Traceback" not in done.stderr
