"""This process among its peers: the few torch.distributed calls, each a no-op for one process alone.

Not here: a launcher. `torchrun` starts the processes.
"""

import contextlib
import datetime
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from segkit.errors import DeviceError, SegkitError

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """This process among its peers. One process alone is rank 0 of 1."""

    rank: int = 0
    local_rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """True on the one process that writes files and prints."""
        return self.rank == 0

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """Return the element-wise sum of `values` over all ranks; the input is left alone."""
        if self.size == 1:
            return values
        total = values.clone()
        dist.all_reduce(total)
        return total

    def any(self, flag: bool, device: torch.device) -> bool:
        """True on every rank if `flag` is true on any of them."""
        if self.size == 1:
            return flag
        return bool(self.sum(torch.tensor(float(flag), device=device)) > 0)

    def average_buffers(self, module: torch.nn.Module) -> None:
        """Set every floating-point buffer (BatchNorm statistics) to its mean over all ranks, in one exchange."""
        buffers = [buffer for buffer in module.buffers() if buffer.is_floating_point()]
        if self.size == 1 or not buffers:
            return
        flat = torch.cat([buffer.flatten() for buffer in buffers])
        dist.all_reduce(flat)
        for buffer, mean in zip(buffers, (flat / self.size).split([b.numel() for b in buffers]), strict=True):
            buffer.copy_(mean.view_as(buffer))

    def share(self, value: Any) -> Any:
        """Return the first rank's `value` on every rank."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box)
        return box[0]

    def first(self, function: Callable[[], T]) -> T:
        """Call `function` on the first rank only, and return its result on every rank; its SegkitError as well."""
        result: T | None = None
        problem: SegkitError | None = None
        if self.is_first:
            try:
                result = function()
            except SegkitError as error:
                problem = error
                if self.size == 1:
                    raise
        result, problem = self.share((result, problem))
        if problem is not None:
            problem.shared = True
            raise problem
        return cast(T, result)


@contextlib.contextmanager
def process_group(device: str) -> Iterator[Ranks]:
    """Join the group that torchrun describes in the environment, and leave it at the end.

    NCCL where every rank has a GPU of its own, gloo on CPUs.

    Raises:
        DeviceError: torchrun's variables are incomplete, or there are more ranks than GPUs on this machine.
    """
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        yield Ranks()
        return
    ranks = Ranks(int(os.environ["RANK"]), int(os.environ.get("LOCAL_RANK", 0)), int(os.environ["WORLD_SIZE"]))
    on_gpu = device.startswith("cuda") or (device == "auto" and torch.cuda.is_available())
    if ranks.size > 1 and ":" in device:
        raise DeviceError(
            f"train.device: found '{device}' for {ranks.size} processes, expected auto or cuda: each takes a GPU of "
            "its own"
        )
    if on_gpu and ranks.local_rank >= torch.cuda.device_count():
        raise DeviceError(
            f"torchrun: process {ranks.local_rank} of this machine found {torch.cuda.device_count()} GPUs, expected "
            "one per process; lower --nproc-per-node, or set train.device=cpu"
        )
    if on_gpu:
        torch.cuda.set_device(ranks.local_rank)
    dist.init_process_group("nccl" if on_gpu else "gloo", timeout=datetime.timedelta(minutes=30))
    try:
        yield ranks
    finally:
        dist.destroy_process_group()


def data_parallel(module: nn.Module, ranks: Ranks, device: torch.device) -> nn.Module:
    """Return a module whose backward averages gradients over the ranks; `module` itself for one process alone."""
    if ranks.size == 1:
        return module
    # Buffers are averaged after each step (Ranks.average_buffers) instead of copied from the first rank.
    return DistributedDataParallel(
        module, device_ids=[device.index] if device.type == "cuda" else None, broadcast_buffers=False
    )


def unused_parameters(module: nn.Module, example: torch.Tensor) -> set[str]:
    """Name the parameters that the output doesn't depend on; DistributedDataParallel would wait for their gradients."""
    module.eval()
    module(example).sum().backward()
    unused = {name for name, parameter in module.named_parameters() if parameter.grad is None}
    module.zero_grad(set_to_none=True)
    return unused


def synchronize_batch_norm(module: nn.Module, device: torch.device) -> nn.Module:
    """Return the module with BatchNorm statistics taken over all ranks.

    Raises:
        DeviceError: several ranks on CPUs, for which PyTorch has no synchronised BatchNorm.
    """
    if device.type != "cuda":
        raise DeviceError(
            "train.sync_bn: PyTorch has synchronised BatchNorm on GPUs only, found ranks on the CPU; set "
            "train.sync_bn=false"
        )
    converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(module)
    return converted
