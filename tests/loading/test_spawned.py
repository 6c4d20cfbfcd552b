"""Loading by spawned processes: the same bytes and messages as by forked ones."""

import multiprocessing
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from segkit.config.schema import AugmentConfig, DataConfig
from segkit.datasets.layouts import list_items, resolve_classes
from segkit.datasets.masks import build_mask_reader
from segkit.errors import ConfigError, DataError
from segkit.loading.augment.pipeline import build_augment
from segkit.loading.batch_plan import BatchPlan
from segkit.loading.cache import PixelCache
from segkit.loading.collate import Batch
from segkit.loading.loader import chosen_start_method, training_batches
from segkit.loading.spawned import load_by_spawned
from segkit.loading.training_set import TrainingSet

PLAN = BatchPlan(12, 4, 0, accumulate=2)


def training_set(root: Path) -> TrainingSet:
    data = DataConfig(root=str(root))
    recipe = build_augment(
        AugmentConfig(rare_crops=0.5), canvas_hw=(32, 40), ignore_index=255, class_pixels=[100, 10, 20, 30]
    )
    return TrainingSet(list_items(data, "train"), build_mask_reader(data, resolve_classes(data)), recipe, seed=0)


def loaded(root: Path, *, workers: int, start_method: str) -> list[tuple[bytes, bytes, list[str]]]:
    stream = training_batches(
        training_set(root), PLAN, rank=0, first_step=1, num_steps=6, workers=workers,
        start_method=start_method,  # type: ignore[arg-type]
    )  # fmt: skip
    return [(batch.images.numpy().tobytes(), batch.masks.numpy().tobytes(), batch.names) for batch in stream]


def spawned(dataset: TrainingSet, *, num_steps: int = 6, timeout: float = 120) -> Iterator[Batch]:
    keys = PLAN.micro_batches(rank=0, first_step=0, num_steps=num_steps)
    return load_by_spawned(dataset, keys, workers=1, ahead=2, timeout=timeout, pinned=False)


def test_one_spawned_process_gives_the_bytes_of_a_forked_one_and_draws_nothing_of_the_model_s(shapes: Path) -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    assert loaded(shapes, workers=1, start_method="spawn") == loaded(shapes, workers=1, start_method="fork")
    assert torch.equal(torch.rand(3), expected)
    assert not multiprocessing.active_children()


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1, 3])
def test_start_methods_and_numbers_of_workers_change_no_byte(shapes: Path, workers: int) -> None:
    expected = loaded(shapes, workers=0, start_method="auto")
    for start_method in ("fork", "spawn"):
        assert loaded(shapes, workers=workers, start_method=start_method) == expected


@pytest.mark.slow
def test_an_error_for_users_arrives_as_it_was(shapes: Path, tmp_path: Path) -> None:
    dataset = training_set(shapes)
    broken = tmp_path / "broken.png"
    Image.fromarray(np.full((64, 80), 9, np.uint8)).save(broken)
    dataset.items = [item.__class__(item.name, item.image, broken) for item in dataset.items]
    stream = spawned(dataset)
    with pytest.raises(DataError, match=r"^\S*broken\.png: value 9 at \(0, 0\) is no class") as caught:
        next(stream)
    assert "Traceback" not in str(caught.value)
    assert not multiprocessing.active_children()


class Dying(TrainingSet):
    def draw(self, key: object, *, out: object = None) -> tuple[np.ndarray, np.ndarray]:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError


class Failing(TrainingSet):
    def draw(self, key: object, *, out: object = None) -> tuple[np.ndarray, np.ndarray]:
        raise ZeroDivisionError


class Hanging(TrainingSet):
    def draw(self, key: object, *, out: object = None) -> tuple[np.ndarray, np.ndarray]:
        signal.pause()
        raise AssertionError


def of_kind(kind: type[TrainingSet], root: Path) -> TrainingSet:
    plain = training_set(root)
    return kind(plain.items, plain.reader, plain.recipe, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "timeout", "error", "message"),
    [
        (Failing, 120, RuntimeError, r"(?s)^in a loading process:\n.*in draw.*ZeroDivisionError"),
        (Dying, 120, DataError, r"(?s)^loading: a loading process died .*lower train\.workers.*--resume$"),
        (Hanging, 20, DataError, r"(?s)^loading: no batch came .* for 20 s, .*check the disk.*--resume$"),
    ],
)
def test_a_process_that_fails_is_reported_and_none_is_left(
    shapes: Path, kind: type[TrainingSet], timeout: float, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        next(spawned(of_kind(kind, shapes), timeout=timeout))
    assert not multiprocessing.active_children()


# ---- which start method


def test_a_cache_cannot_be_shared_with_spawned_processes(shapes: Path) -> None:
    dataset = training_set(shapes)
    dataset.cache = PixelCache([(64, 80)] * 12)
    with pytest.raises(ConfigError, match=r"^data\.cache: found a cache, which spawned .*train\.workers: 0"):
        training_batches(dataset, PLAN, rank=0, first_step=0, num_steps=1, workers=1, start_method="spawn")
    stream = training_batches(dataset, PLAN, rank=0, first_step=0, num_steps=1, workers=0, start_method="spawn")
    assert len(list(stream)) == 2  # threads share it


@pytest.mark.parametrize(("setting", "expected"), [("auto", "fork"), ("fork", "fork"), ("spawn", "spawn")])
def test_processes_are_forked_unless_spawned_ones_are_asked_for(setting: str, expected: str) -> None:
    assert chosen_start_method(setting) == expected  # type: ignore[arg-type]


def test_without_fork_they_are_spawned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("os.fork")
    assert chosen_start_method("auto") == chosen_start_method("spawn") == "spawn"
    with pytest.raises(ConfigError, match=r"^train\.start_method: found fork, which this system doesn't have"):
        chosen_start_method("fork")
