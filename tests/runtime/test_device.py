from collections.abc import Iterator

import pytest
import torch

from segkit.errors import DeviceError
from segkit.runtime.device import (
    autocast,
    choose_kernels,
    count_workers,
    describe_environment,
    has_bf16,
    native_kernels,
    seed_step,
    select_device,
    select_precision,
    without_tf32,
)

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"),
    [(True, False, "cuda:2"), (True, True, "cuda:2"), (False, True, "mps"), (False, False, "cpu")],
)
def test_auto_takes_the_fastest_device_that_exists(
    monkeypatch: pytest.MonkeyPatch, cuda: bool, mps: bool, expected: str
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: cuda)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: mps)
    assert select_device("auto", local_rank=2) == torch.device(expected)


def test_a_cpu_is_taken_where_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert select_device("cpu") == CPU


def test_each_rank_takes_its_own_gpu_unless_one_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    assert select_device("cuda", local_rank=3) == torch.device("cuda", 3)
    assert select_device("cuda:1", local_rank=3) == torch.device("cuda", 1)


@pytest.mark.parametrize(("name", "words"), [("gpu", "expected auto, cpu, cuda"), ("cuda:99", "doesn't exist")])
def test_a_device_that_does_not_exist_is_refused(name: str, words: str) -> None:
    with pytest.raises(DeviceError, match=words):
        select_device(name)


@pytest.mark.parametrize(("flags", "expected"), [("amx_bf16", torch.bfloat16), ("avx2", torch.float32)])
def test_auto_precision_follows_the_hardware(
    monkeypatch: pytest.MonkeyPatch, flags: str, expected: torch.dtype
) -> None:
    monkeypatch.setattr("segkit.runtime.device.cpu_field", lambda name: flags)
    assert select_precision("auto", CPU) == expected


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


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Leave the choice of kernels as it was."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    before = torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic
    yield
    torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = before
    torch.use_deterministic_algorithms(False)
    torch.utils.deterministic.fill_uninitialized_memory = True  # type: ignore[attr-defined]


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("deterministic", [True, False])
def test_a_gpu_is_either_deterministic_or_free_to_measure_its_kernels(deterministic: bool) -> None:
    choose_kernels(torch.device("cuda"), deterministic=deterministic)
    assert torch.are_deterministic_algorithms_enabled() is deterministic
    assert torch.backends.cudnn.benchmark is not deterministic


@pytest.mark.usefixtures("kernels")
def test_a_cpu_needs_no_choice_of_kernels() -> None:
    choose_kernels(CPU, deterministic=True)
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("warn_only", [True, False])
def test_native_kernels_are_those_of_the_block_also_where_it_fails(warn_only: bool) -> None:
    torch.use_deterministic_algorithms(True, warn_only=warn_only)
    inside = []

    def fail() -> None:
        inside.append(torch.are_deterministic_algorithms_enabled())
        raise KeyError

    with pytest.raises(KeyError), native_kernels():
        fail()
    assert inside == [False]
    assert torch.are_deterministic_algorithms_enabled()
    assert torch.is_deterministic_algorithms_warn_only_enabled() is warn_only


def test_tf32_is_off_in_the_block_alone() -> None:
    before = torch.backends.cudnn.allow_tf32
    with without_tf32():
        assert not torch.backends.cudnn.allow_tf32
    assert torch.backends.cudnn.allow_tf32 is before


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
    for key in (
        "segkit", "torch", "segmentation-models-pytorch", "processor", "cores", "usable_cores", "device", "date",
    ):  # fmt: skip
        assert environment[key], key
