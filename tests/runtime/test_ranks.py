import json
import os
import socket
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import nn

from segkit.config.schema import ModelConfig
from segkit.errors import DataError, DeviceError
from segkit.models.table import build_model
from segkit.runtime.ranks import (
    VISIBLE_DEVICES,
    Ranks,
    data_parallel,
    gpu_of,
    process_group,
    synchronize_batch_norm,
    unused_parameters,
)

CPU = torch.device("cpu")


def test_one_process_alone_is_a_group_of_one() -> None:
    with process_group("cpu") as ranks:
        assert ranks == Ranks()
    values = torch.tensor([1.0, 2.0])
    assert torch.equal(ranks.sum(values), values)
    assert ranks.first(lambda: 7) == 7
    assert ranks.any([True, False], CPU) == [True, False]
    assert ranks.gather(3) == [3]


TWO_RANKS = """
import json, os, torch
from segkit.errors import DataError
from segkit.runtime.ranks import process_group

def fail():
    raise DataError(f"found by rank {os.environ['RANK']}")

with process_group("cpu", timeout_minutes=1) as ranks:
    values = torch.tensor([1.0, ranks.rank])
    norm = torch.nn.BatchNorm1d(1)
    norm.running_mean.fill_(2.0 * ranks.rank)
    ranks.average_buffers(norm)
    found = {
        "sum": ranks.sum(values).tolist(),
        "given": values.tolist(),
        "any": ranks.any([ranks.rank == 1, False], torch.device("cpu")),
        "gather": ranks.gather(f"rank {ranks.rank}"),
        "share": ranks.share(f"rank {ranks.rank}"),
        "first": ranks.first(lambda: f"rank {ranks.rank}"),
        "mean": norm.running_mean.item(),
    }
    try:
        ranks.first(fail)
    except DataError as error:
        found["error"] = str(error)
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def both() -> list[dict[str, Any]]:
    """What each of two real processes found in their group."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    about = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "GLOO_SOCKET_IFNAME": "lo"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", TWO_RANKS],
            env={**os.environ, **about, "RANK": rank, "LOCAL_RANK": rank},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in ("0", "1")
    ]
    return [json.loads(process.communicate(timeout=120)[0]) for process in processes]


def test_a_sum_is_over_ranks_and_leaves_its_input_alone(both: list[dict[str, Any]]) -> None:
    assert [found["sum"] for found in both] == [[2, 1], [2, 1]]
    assert [found["given"] for found in both] == [[1, 0], [1, 1]]


def test_a_flag_of_one_rank_is_seen_by_all(both: list[dict[str, Any]]) -> None:
    assert [found["any"] for found in both] == [[True, False], [True, False]]


def test_objects_are_gathered_in_order_and_those_of_the_first_rank_are_shared(both: list[dict[str, Any]]) -> None:
    for found in both:
        assert found["gather"] == ["rank 0", "rank 1"]
        assert found["share"] == found["first"] == "rank 0"


def test_buffers_are_averaged_over_ranks(both: list[dict[str, Any]]) -> None:
    assert [found["mean"] for found in both] == [1, 1]


def test_an_error_of_the_first_rank_is_raised_on_all(both: list[dict[str, Any]]) -> None:
    assert [found["error"] for found in both] == ["found by rank 0", "found by rank 0"]


def test_an_error_of_one_process_alone_is_raised() -> None:
    def fail() -> None:
        raise DataError("x")

    with pytest.raises(DataError, match="x"):
        Ranks().first(fail)


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("RANK", "7"), ("WORLD_SIZE", "9"), ("LOCAL_RANK", "7")):
        monkeypatch.setenv(name, value)
    with pytest.raises(DeviceError, match=r"lower --nproc-per-node"), process_group("cuda"):
        pass


def test_each_process_takes_the_gpu_of_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    assert [gpu_of(local_rank) for local_rank in range(4)] == [0, 1, 2, 3]


def test_a_process_that_is_shown_one_gpu_takes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    assert [gpu_of(local_rank) for local_rank in range(4)] == [0, 0, 0, 0]


@pytest.mark.parametrize(("num_gpus", "visible"), [(1, None), (2, "0,1"), (0, "")])
def test_a_gpu_is_not_shared(monkeypatch: pytest.MonkeyPatch, num_gpus: int, visible: str | None) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: num_gpus)
    for name in VISIBLE_DEVICES:
        monkeypatch.delenv(name, raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with pytest.raises(DeviceError, match=rf"process 2 of this machine found {num_gpus} GPUs"):
        gpu_of(2)


def test_one_process_alone_trains_the_module_itself() -> None:
    module = nn.Linear(2, 2)
    assert data_parallel(module, Ranks(), CPU, example=torch.ones(1, 2)) is module


def test_parameters_without_influence_are_named() -> None:
    module = nn.Sequential(nn.Linear(2, 2))
    module.register_parameter("idle", nn.Parameter(torch.zeros(1)))
    assert unused_parameters(module, torch.ones(1, 2)) == {"idle"}
    assert all(parameter.grad is None for parameter in module.parameters())


def test_synchronised_batch_norm_needs_gpus() -> None:
    module = nn.Sequential(nn.BatchNorm2d(2))
    converted = synchronize_batch_norm(module, torch.device("cuda"))
    assert isinstance(converted[0], nn.SyncBatchNorm)  # type: ignore[index]
    with pytest.raises(DeviceError, match=r"train\.sync_bn=false"):
        synchronize_batch_norm(module, CPU)


@pytest.mark.parametrize(
    ("name", "encoder"),
    [
        ("lite_unet", "tu-tf_efficientnet_lite0"),  # timm's BatchNormAct2d, which also activates
        ("unet", "timm-efficientnet-b0"),
        ("deeplabv3plus", "tu-regnety_002"),
        ("unet", "resnet34"),  # plain BatchNorm2d
    ],
)
def test_synchronised_batch_norm_computes_the_same_function(name: str, encoder: str) -> None:
    torch.manual_seed(0)
    model = build_model(ModelConfig(name, encoder, "none"), 3).eval()  # type: ignore[arg-type]
    images = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    with torch.inference_mode():
        expected = model(images)
        model.network = synchronize_batch_norm(model.network, torch.device("cuda"))
        assert torch.equal(model.eval()(images), expected)
    assert not any(type(layer) is nn.BatchNorm2d for layer in model.modules())


def test_one_gpu_for_several_processes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("RANK", "0"), ("WORLD_SIZE", "2"), ("LOCAL_RANK", "0")):
        monkeypatch.setenv(name, value)
    with pytest.raises(DeviceError, match="each takes a GPU of"), process_group("cuda:1"):
        pass
