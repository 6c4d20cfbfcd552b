import logging
from collections.abc import Callable

import pytest
import torch

from segkit.loading.ring import Ring

CANVAS = (32, 40)


def test_a_slot_holds_uint8_pixels_and_ids_and_nothing_more() -> None:
    ring = Ring(num_slots=3, batch_size=4, canvas_hw=CANVAS, pinned=False)
    images, masks = ring.batch(2)
    assert images.shape == (4, 3, *CANVAS)
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert images.nbytes + masks.nbytes == 4 * 4 * CANVAS[0] * CANVAS[1]  # uint8: 3 colours and an id


# ---- pinning, with a driver that is missing


class Driver:
    """What torch binds of CUDA's runtime, and its last-error slot, which the launch of a kernel reads and resets."""

    def __init__(self, *, registers: bool = True, broken: bool = False) -> None:
        self.registers, self.broken = registers, broken
        self.last_error = 0
        self.registered: set[int] = set()

    def cudaHostRegister(self, address: int, num_bytes: int, flags: int) -> int:
        if not self.registers:
            self.last_error = 2
            return 2
        self.registered.add(address)
        return 0

    def cudaHostUnregister(self, address: int) -> int:
        self.registered.remove(address)
        return 0

    def synchronize(self) -> None:
        if self.broken:
            raise RuntimeError("CUDA error: device-side assert triggered")

    def launch(self) -> None:
        error, self.last_error = self.last_error, 0
        if error:
            raise RuntimeError(f"CUDA error {error}")


@pytest.fixture
def drive(monkeypatch: pytest.MonkeyPatch) -> Callable[[Driver], Driver]:
    def use(driver: Driver) -> Driver:
        zeros = torch.zeros

        def launching(*size: int, device: str | None = None) -> torch.Tensor:
            if device == "cuda":
                driver.launch()
            return zeros(*size)

        monkeypatch.setattr(torch.cuda, "cudart", lambda: driver)
        monkeypatch.setattr(torch.cuda, "synchronize", driver.synchronize)
        monkeypatch.setattr(torch, "zeros", launching)
        return driver

    return use


def pinned_ring() -> Ring:
    return Ring(num_slots=2, batch_size=1, canvas_hw=CANVAS, pinned=True)


def test_pinned_memory_is_handed_back_once(drive: Callable[[Driver], Driver]) -> None:
    driver, ring = drive(Driver()), pinned_ring()
    assert len(driver.registered) == 1
    ring.unpin()
    ring.unpin()
    assert not driver.registered


def test_memory_that_cannot_be_pinned_leaves_no_error_for_the_next_kernel(
    drive: Callable[[Driver], Driver], caplog: pytest.LogCaptureFixture
) -> None:
    driver = drive(Driver(registers=False))
    with caplog.at_level(logging.WARNING):
        ring = pinned_ring()
    driver.launch()  # raises what is left
    assert [record.message for record in caplog.records] == [
        "warning: 0 MiB of memory for batches could not be pinned (CUDA error 2); copies to the GPU will wait"
    ]
    ring.unpin()


def test_a_gpu_that_broke_does_not_hide_the_exception_that_tells_why(drive: Callable[[Driver], Driver]) -> None:
    drive(Driver(broken=True))
    ring = pinned_ring()

    def fail() -> None:
        try:
            raise ValueError("the cause")
        finally:
            ring.unpin()

    with pytest.raises(ValueError, match="the cause") as caught:
        fail()
    assert caught.value.__context__ is None
