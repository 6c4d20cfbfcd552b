import pytest
import torch

from segkit.errors import DeviceError
from segkit.runtime.device import (
    autocast,
    count_workers,
    describe_environment,
    has_bf16,
    seed_step,
    select_device,
    select_precision,
)

CPU = torch.device("cpu")


def test_auto_takes_a_device_that_is_there() -> None:
    assert select_device("auto").type in ("cpu", "cuda", "mps")
    assert select_device("cpu") == CPU


@pytest.mark.parametrize(("name", "words"), [("gpu", "expected auto, cpu, cuda"), ("cuda:99", "isn't there")])
def test_a_device_that_is_not_there_is_refused(name: str, words: str) -> None:
    with pytest.raises(DeviceError, match=words):
        select_device(name)


def test_auto_precision_follows_the_hardware() -> None:
    assert select_precision("auto", CPU) == (torch.bfloat16 if has_bf16(CPU) else torch.float32)


@pytest.mark.parametrize(("flags", "expected"), [("avx2 avx512_bf16", True), ("avx2 avx512f", False)])
def test_bf16_on_a_cpu_needs_its_instructions(monkeypatch: pytest.MonkeyPatch, flags: str, expected: bool) -> None:
    monkeypatch.setattr("segkit.runtime.device.cpu_field", lambda name: flags)
    assert has_bf16(CPU) is expected


def test_fp16_is_refused_on_a_cpu() -> None:
    with pytest.raises(DeviceError, match="fp16 needs a GPU"):
        select_precision("fp16", CPU)


@pytest.mark.parametrize(("precision", "expected"), [(torch.bfloat16, torch.bfloat16), (torch.float32, torch.float32)])
def test_autocast_computes_in_the_precision(precision: torch.dtype, expected: torch.dtype) -> None:
    layer = torch.nn.Linear(4, 4)
    with autocast(CPU, precision):
        assert layer(torch.ones(1, 4)).dtype == expected


def test_a_step_draws_the_same_numbers_again_and_other_steps_and_ranks_draw_others() -> None:
    def draw(seed: int, step: int, rank: int) -> tuple[float, ...]:
        seed_step(seed, step, rank)
        return tuple(torch.rand(4).tolist())

    assert draw(1, 2, 3) == draw(1, 2, 3)
    draws = {draw(seed, step, rank) for seed in range(3) for step in range(5) for rank in range(4)}
    assert len(draws) == 60


@pytest.mark.parametrize(("setting", "device", "expected"), [(3, "cpu", 3), (0, "cuda", 0), ("auto", "cpu", 0)])
def test_workers_are_as_asked_or_fit_the_device(setting: int | str, device: str, expected: int) -> None:
    assert count_workers(setting, torch.device(device)) == expected


@pytest.mark.parametrize(
    ("setting", "start_method", "expected"),
    [("auto", "auto", 0), ("auto", "spawn", 5), (2, "auto", 2), (2, "spawn", 2)],
)
def test_without_fork_there_are_workers_only_where_they_are_asked_for(
    monkeypatch: pytest.MonkeyPatch, setting: int | str, start_method: str, expected: int
) -> None:
    monkeypatch.delattr("os.fork")
    monkeypatch.setattr("segkit.runtime.device.count_threads", lambda: 5)
    assert count_workers(setting, torch.device("cuda"), start_method=start_method) == expected


def test_the_environment_names_what_a_figure_depends_on() -> None:
    environment = describe_environment(CPU)
    for key in ("segkit", "torch", "segmentation-models-pytorch", "processor", "cores", "device", "date"):
        assert environment[key], key
