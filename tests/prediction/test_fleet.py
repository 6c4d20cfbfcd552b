import errno
import functools
import os
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segkit.errors import CheckpointError, ConfigError, DeviceError, RunFolderError
from segkit.inference.predictor import Predictor
from segkit.predict import predict_files
from segkit.prediction.fleet import Actor, Fleet, Plan, Share, share_of
from segkit.prediction.outputs import Output, Prediction
from segkit.prediction.rows import Predicted
from segkit.prediction.table import build_outputs

CPU_NODE = {"Alive": True, "Resources": {"CPU": 8.0}}
GPU_NODE = {"Alive": True, "Resources": {"CPU": 32.0, "GPU": 4.0}}


# ---- how machines are shared


def test_each_core_gets_a_process_where_there_is_no_gpu() -> None:
    assert share_of([CPU_NODE, CPU_NODE], "auto", None) == Share(16, 1, 0)


def test_each_gpu_gets_a_process_and_its_part_of_the_cores() -> None:
    assert share_of([CPU_NODE, GPU_NODE], "auto", None) == Share(4, 8, 1)


def test_a_fleet_for_the_cpu_leaves_gpus_alone() -> None:
    assert share_of([GPU_NODE], "cpu", None) == Share(32, 1, 0)


def test_fewer_processes_have_more_cores_each_but_not_more_than_their_machine() -> None:
    assert share_of([CPU_NODE], "auto", 2) == Share(2, 4, 0)
    assert share_of([CPU_NODE, CPU_NODE], "auto", 1) == Share(1, 8, 0)
    assert share_of([CPU_NODE, CPU_NODE], "auto", 5) == Share(5, 2, 0)


def test_more_processes_than_cores_are_taken_as_they_are() -> None:
    assert share_of([CPU_NODE], "auto", 20) == Share(20, 1, 0)


def test_a_machine_that_is_gone_does_not_count() -> None:
    assert share_of([CPU_NODE, {**GPU_NODE, "Alive": False}], "auto", None) == Share(8, 1, 0)


def test_a_gpu_that_the_fleet_has_not_is_told() -> None:
    with pytest.raises(DeviceError, match="no GPU, only 8 cores"):
        share_of([CPU_NODE], "cuda", None)


def test_one_gpu_of_many_can_not_be_asked_for() -> None:
    with pytest.raises(ConfigError, match="expected --device cuda"):
        share_of([GPU_NODE], "cuda:1", None)


# ---- an actor, which is a plain object in any process


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    monkeypatch.chdir(tmp_path)  # back at the end: an actor goes where its driver is
    (tmp_path / "in").mkdir()
    paths = [tmp_path / "in" / f"{name}.png" for name in ("a", "b", "c")]
    for path in paths:
        Image.new("RGB", (20, 10), (90, 30, 200)).save(path)
    return paths


def plan(checkpoint: Path, output: Path, outputs: list[Output] | None = None) -> Plan:
    output.mkdir(exist_ok=True)
    (output / ".fleet.1").touch()
    if outputs is None:
        outputs = build_outputs(output, Predictor.load(checkpoint, device="cpu").classes)
    return Plan(
        functools.partial(Predictor.load, checkpoint, device="cpu"),
        outputs,
        10**6,
        None,
        1,
        output,
        output / ".fleet.1",
    )


def answers(actor: Actor, paths: list[Path]) -> dict[str, Predicted | BaseException]:
    names = [os.fsencode(path.stem) for path in paths]
    block = {"path": np.array([os.fsencode(path) for path in paths], object), "name": np.array(names, object)}
    (found,) = actor(block)
    rows = map(pickle.loads, found["row"])
    return dict(zip(map(os.fsdecode, found["name"]), rows, strict=True))


def test_an_actor_writes_files_and_returns_rows_as_one_process_does(
    checkpoint: Path, images: list[Path], tmp_path: Path
) -> None:
    images[1].write_bytes(b"no image")
    straight = predict_files(Predictor.load(checkpoint, device="cpu"), str(tmp_path / "in"), tmp_path / "straight")
    found = answers(Actor(plan(checkpoint, tmp_path / "out")), images)
    for path, expected in zip(images, straight, strict=True):
        row = found[path.stem]
        assert isinstance(row, Predicted)
        assert (row.name, row.hw, row.pixels, row.error) == (
            expected.name,
            expected.hw,
            expected.pixels,
            expected.error,
        )
    for file in ("masks/a.png", "overlays/c.jpg"):
        assert (tmp_path / "out" / file).read_bytes() == (tmp_path / "straight" / file).read_bytes()


def test_an_actor_that_does_not_see_the_output_folder_says_so(
    checkpoint: Path, images: list[Path], tmp_path: Path
) -> None:
    unseen = plan(checkpoint, tmp_path / "out")
    unseen.mark.unlink()
    error = answers(Actor(unseen), images)[""]
    assert isinstance(error, RunFolderError)
    assert "storage that all machines share" in str(error)


def test_what_ends_a_job_is_an_answer_of_its_own_kind(checkpoint: Path, images: list[Path], tmp_path: Path) -> None:
    class FullDisk:
        def write(self, prediction: Prediction) -> None:
            if prediction.name == "c":
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        def finish(self, done: object) -> None:
            pass

    found = answers(Actor(plan(checkpoint, tmp_path / "out", [FullDisk()])), images)
    assert list(found) == ["a", "b", ""]  # what was done is listed
    assert isinstance(found[""], OSError)
    assert found[""].errno == errno.ENOSPC
    assert isinstance(answers(Actor(plan(tmp_path / "none.pt", tmp_path / "out", [])), images)[""], CheckpointError)


def test_a_bug_is_an_answer_with_its_traceback(checkpoint: Path, images: list[Path], tmp_path: Path) -> None:
    class Buggy:
        def write(self, prediction: Prediction) -> None:
            raise ZeroDivisionError(lambda: "not to be pickled")

        def finish(self, done: object) -> None:
            pass

    error = answers(Actor(plan(checkpoint, tmp_path / "out", [Buggy()])), images)[""]
    assert isinstance(error, RuntimeError)
    assert "in write" in str(error)


# ---- without Ray


def test_without_ray_the_line_that_installs_it_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    fleet = Fleet(Predictor.load, [], tmp_path, 10**6)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"pip install 'segkit\[ray\]'"):
        next(fleet.run([(tmp_path / "a.png", "a")]))


def test_where_nothing_is_to_be_done_ray_is_not_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert list(Fleet(Predictor.load, [], tmp_path, 10**6).run([])) == []  # type: ignore[arg-type]
