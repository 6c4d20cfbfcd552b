"""A ring of batches in memory that forked processes share, and how copies from it to a GPU don't wait."""

import logging
import mmap

import torch

from segkit.loading.batch_plan import Key
from segkit.loading.training_set import TrainingSet

log = logging.getLogger(__name__)


class Ring:
    """A fixed number of batches, used over and over, in memory that forked processes share."""

    def __init__(self, *, num_slots: int, batch_size: int, canvas_hw: tuple[int, int], pinned: bool) -> None:
        height, width = canvas_hw
        pixels = num_slots * batch_size * height * width
        # An anonymous map, not /dev/shm, which is small in containers and kills who fills it.
        memory = torch.frombuffer(mmap.mmap(-1, 4 * pixels), dtype=torch.uint8)
        self.images = memory[: 3 * pixels].view(num_slots, batch_size, height, width, 3)
        self.masks = memory[3 * pixels :].view(num_slots, batch_size, height, width)
        self.num_slots = num_slots
        self._pinned = memory if pinned and _pin(memory) else None

    def unpin(self) -> None:
        """Hand pinned memory back; every copy from it must be over.

        An error of the GPU is logged, not raised: this is called while another exception, its cause, may be on its
        way, and CUDA repeats an error that matters at its next call.
        """
        memory, self._pinned = self._pinned, None
        if memory is not None:
            try:
                torch.cuda.synchronize()
                torch.cuda.cudart().cudaHostUnregister(memory.data_ptr())
            except RuntimeError as error:
                log.warning("warning: the memory of batches could not be unpinned (%s)", error)

    def batch(self, slot: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the images uint8 [B, 3, H, W], channels_last, and masks uint8 [B, H, W] of a slot."""
        return self.images[slot].permute(0, 3, 1, 2), self.masks[slot]

    def write(self, slot: int, dataset: TrainingSet, position: int, key: Key) -> str:
        """Put a sample at its position of a slot's batch; return its name."""
        dataset.draw(key, out=(self.images[slot, position].numpy(), self.masks[slot, position].numpy()))
        return dataset.item(key).name


def _pin(memory: torch.Tensor) -> bool:
    """Lock memory for copies to the GPU that don't make the host wait. Returns whether that worked."""
    try:
        code = int(torch.cuda.cudart().cudaHostRegister(memory.data_ptr(), memory.numel(), 0))
        reason = f"CUDA error {code}"
    except RuntimeError as error:
        code, reason = -1, str(error)
    if code == 0:
        return True
    _clear_cuda_error()
    log.warning(
        "warning: %d MiB of memory for batches could not be pinned (%s); copies to the GPU will wait",
        memory.numel() >> 20,
        reason,
    )
    return False


def _clear_cuda_error() -> None:
    """Take CUDA's last error out of its slot, or the next kernel would raise it, far from its cause.

    torch binds no cudaGetLastError; the check after launching a kernel is what reads the slot and resets it.
    """
    try:
        torch.zeros(1, device="cuda").add_(1)
    except RuntimeError as error:
        log.debug("cleared: %s", error)
