"""This process among its peers: the few torch.distributed calls, each a no-op for one process alone.

Not here: a launcher. `torchrun` starts the processes.
"""

import contextlib
import datetime
import inspect
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks
from torch.distributed.fsdp import FSDPModule
from torch.nn.parallel import DistributedDataParallel

from segkit.errors import DeviceError, SegkitError, first_line

log = logging.getLogger(__name__)

T = TypeVar("T")

VISIBLE_DEVICES = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")


@dataclass(frozen=True)
class Ranks:
    """This process among its peers. One process alone is rank 0 of 1. On GPUs `local_rank` is the index of its own.

    Tensors are exchanged over the default group, which gives up on a silent peer after a while; Python objects over
    `objects`, a patient one: the first rank may look at a large data set while the others wait.
    """

    rank: int = 0
    local_rank: int = 0
    size: int = 1
    objects: Any = None

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

    def any(self, flags: Sequence[bool], device: torch.device) -> list[bool]:
        """Return for each flag whether it is true on any rank."""
        if self.size == 1:
            return list(flags)
        return [count > 0 for count in self.sum(torch.tensor([float(flag) for flag in flags], device=device)).tolist()]

    def gather(self, value: T) -> list[T]:
        """Return the `value` of every rank, in their order, on every rank."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value, group=self.objects)
        return values

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
        dist.broadcast_object_list(box, group=self.objects)
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
def process_group(device: str, *, timeout_minutes: float = 10) -> Iterator[Ranks]:
    """Join the group that torchrun describes in the environment, and leave it at the end.

    NCCL where every rank has a GPU of its own, gloo on CPUs.

    Raises:
        DeviceError: torchrun's variables are incomplete, there are more ranks than GPUs on this machine, or, later, a
            peer is gone or silent for `timeout_minutes`.
    """
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        yield Ranks()
        return
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    local_rank = int(os.environ.get("LOCAL_RANK", 0))
    on_gpu = device.startswith("cuda") or (device == "auto" and torch.cuda.is_available())
    if size > 1 and ":" in device:
        raise DeviceError(
            f"train.device: found '{device}' for {size} processes, expected auto or cuda: each takes a GPU of its own"
        )
    if on_gpu:
        local_rank = gpu_of(local_rank)
        torch.cuda.set_device(local_rank)
    dist.init_process_group(
        "nccl" if on_gpu else "gloo",
        store=_fresh_store(size),
        rank=rank,
        world_size=size,
        timeout=datetime.timedelta(minutes=timeout_minutes),
    )
    try:
        patient = dist.new_group(backend="gloo", timeout=datetime.timedelta(days=1)) if size > 1 else None
        yield Ranks(rank, local_rank, size, patient)
    except RuntimeError as error:
        if size > 1 and (isinstance(error, dist.DistError) or "gloo" in str(error)):
            raise DeviceError(
                f"process {rank} of {size}: another process of the run is gone or silent ({first_line(error)}); its "
                "own message says why. Under torchrun --max-restarts N, --auto-resume continues from last.pt"
            ) from error
        raise
    finally:
        dist.destroy_process_group()


def gpu_of(local_rank: int) -> int:
    """Return the index of this process's GPU among those that it can see: its own, if a launcher shows it only one.

    Such launchers are `srun --gpus-per-task=1` and scripts that set CUDA_VISIBLE_DEVICES per process. Unproven on GPUs.

    Raises:
        DeviceError: more processes on this machine than GPUs.
    """
    num_gpus = torch.cuda.device_count()
    if local_rank < num_gpus:
        return local_rank
    if num_gpus == 1 and any(name in os.environ for name in VISIBLE_DEVICES):
        return local_rank % num_gpus
    raise DeviceError(
        f"torchrun: process {local_rank} of this machine found {num_gpus} GPUs, expected one per process; lower "
        "--nproc-per-node, or set train.device=cpu"
    )


def _fresh_store(size: int) -> PrefixStore | None:
    """Return torchrun's store as this attempt alone sees it; None to let PyTorch find a store by itself.

    PyTorch 2.15 shares one store between the attempts of --max-restarts without keeping them apart, so that a restarted
    process finds the addresses of dead ones and hangs. On one machine the number of the attempt keeps them apart; on
    several, where it may differ, a setting of torchrun gives each attempt a store of its own.
    """
    shared = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    if shared and int(os.environ.get("LOCAL_WORLD_SIZE", 1)) == size:
        store = TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False)
        return PrefixStore(f"attempt {os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store)
    if shared and int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", 0)) > 0 and os.environ["RANK"] == "0":
        log.warning(
            "warning: torchrun can't restart a run on several machines like this; before it, on each of them: "
            "export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1"
        )
    return None


def data_parallel(
    module: nn.Module, ranks: Ranks, device: torch.device, *, example: torch.Tensor, compression: str = "none"
) -> nn.Module:
    """Return a module whose backward averages gradients over the ranks; `module` itself for one process alone.

    With `compression` fp16 or bf16, gradients travel in that precision: half the bytes, and rounded.

    `example` is one input. DistributedDataParallel lays out its buckets anew after its first backward pass, and with
    them the order in which gradients are added up. That pass is made here, so that a resumed run adds like a straight
    one.
    """
    if ranks.size == 1:
        return module
    # Buffers are averaged after each step (Ranks.average_buffers) instead of copied from the first rank.
    known = inspect.signature(DistributedDataParallel).parameters  # the option was renamed after torch 2.11
    own_buffers = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
    options: dict[str, Any] = {own_buffers: False}
    parallel = DistributedDataParallel(module, device_ids=[device.index] if device.type == "cuda" else None, **options)
    if compression != "none":
        hooks = {"fp16": default_hooks.fp16_compress_hook, "bf16": default_hooks.bf16_compress_hook}
        parallel.register_comm_hook(None, hooks[compression])
    modes = {inner: inner.training for inner in module.modules()}
    parallel.eval()  # no statistics, no dropout
    parallel(example).sum().backward()
    for inner, training in modes.items():
        inner.training = training
    module.zero_grad(set_to_none=True)
    return parallel.train(module.training)


@contextlib.contextmanager
def gradient_exchange(network: nn.Module, *, wanted: bool) -> Iterator[None]:
    """Let the backward passes of the block exchange gradients, or, with micro-batches to come, only add them up."""
    if isinstance(network, FSDPModule):
        network.set_requires_gradient_sync(wanted)
        yield
    elif not wanted and hasattr(network, "no_sync"):
        with cast(DistributedDataParallel, network).no_sync():
            yield
    else:
        yield


def unused_parameters(module: nn.Module, example: torch.Tensor) -> set[str]:
    """Name the parameters that the output doesn't depend on; DistributedDataParallel would wait for their gradients."""
    module.eval()
    module(example).sum().backward()
    unused = {name for name, parameter in module.named_parameters() if parameter.grad is None}
    module.zero_grad(set_to_none=True)
    return unused


def synchronize_batch_norm(module: nn.Module, device: torch.device) -> nn.Module:
    """Return the module with BatchNorm statistics taken over all ranks; in eval mode it computes what it did before.

    By timm's converter: PyTorch's would drop the activation of timm's BatchNormAct2d (EfficientNet, RegNet, ...).

    Raises:
        DeviceError: several ranks on CPUs, for which PyTorch has no synchronised BatchNorm.
    """
    if device.type != "cuda":
        raise DeviceError(
            "train.sync_bn: PyTorch has synchronised BatchNorm on GPUs only, found ranks on the CPU; set "
            "train.sync_bn=false"
        )
    from timm.layers import convert_sync_batchnorm  # here: importing timm takes a second, and few runs need it

    converted: nn.Module = convert_sync_batchnorm(module)
    return converted
