"""Models that don't fit on one device: parameters, gradients and optimizer state sharded over the ranks.

The engine is PyTorch's `fully_shard` (FSDP2; Zhao et al. 2023, PyTorch FSDP). Checkpoints hold whole tensors, so a run
may resume with another number of ranks, sharded or not. Not here: when to exchange gradients (segkit/runtime/ranks.py).
"""

import copy
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from segkit.runtime.ranks import Ranks

Model = TypeVar("Model", bound=nn.Module)

_UNITS = 16  # a unit holds at most this fraction of the parameters, so that few are whole at the same time


def shard(module: nn.Module, ranks: Ranks, device: torch.device, *, example: torch.Tensor) -> None:
    """Spread the parameters of a module over all ranks, in units that are made whole one after the other.

    `example` is one input, to see which parts of the module are called as modules.
    """
    for parameter in module.parameters():  # channels_last weights can't be spread; activations keep their order
        parameter.data = parameter.data.contiguous()
    mesh = init_device_mesh(device.type, (ranks.size,))
    limit = sum(parameter.numel() for parameter in module.parameters()) // _UNITS
    for unit in list(_units(module, _called_once(module, example), limit)):
        fully_shard(unit, mesh=mesh)
    fully_shard(module, mesh=mesh)


def local(tensors: Iterable[torch.Tensor]) -> list[torch.Tensor]:
    """Return this rank's part of each tensor; tensors that aren't spread as they are."""
    return [tensor.to_local() if isinstance(tensor, DTensor) else tensor for tensor in tensors]


def whole(value: Any, *, keep: bool = True) -> Any:
    """Return nested dicts and lists with every spread tensor whole, in host memory. Every rank must call this.

    One tensor at a time is whole on the device. With `keep` false, a rank takes part and gets None for each of them.
    """
    if isinstance(value, DTensor):
        tensor = value.full_tensor()
        return tensor.cpu() if keep else None
    if isinstance(value, dict):
        return {key: whole(inner, keep=keep) for key, inner in value.items()}
    return [whole(inner, keep=keep) for inner in value] if isinstance(value, list) else value


def gathered(module: nn.Module, plain: Model) -> Model:
    """Return a copy of `plain`, an unspread model of the same kind, with the weights of `module`, which is spread."""
    filled = copy.deepcopy(plain)
    filled.load_state_dict(whole(module.state_dict()))
    return filled


def fit_state(state: dict[str, Any], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Return an optimizer's state of whole tensors, spread and laid out in memory as the parameters of `optimizer` are.

    Fused optimizers walk through parameter and state side by side, so both must have the same order in memory.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]

    def fit(tensor: Any, parameter: torch.Tensor) -> Any:
        if not isinstance(tensor, torch.Tensor) or tensor.shape != parameter.shape:
            return tensor
        if isinstance(parameter, DTensor):
            return distribute_tensor(tensor.contiguous(), parameter.device_mesh, parameter.placements)
        return torch.empty_like(parameter, dtype=tensor.dtype).copy_(tensor)

    fitted = {
        index: {name: fit(tensor, parameters[index]) for name, tensor in values.items()}
        for index, values in state.get("state", {}).items()
    }
    return {**state, "state": fitted}


def _called_once(module: nn.Module, example: torch.Tensor) -> set[nn.Module]:
    """Return the modules whose forward runs once for an input: containers that are iterated over aren't among them."""
    calls: dict[nn.Module, int] = {}

    def count(called: nn.Module, *_: Any) -> None:
        calls[called] = calls.get(called, 0) + 1

    hooks = [inner.register_forward_pre_hook(count) for inner in module.modules()]
    training = module.training
    with torch.no_grad():
        module.eval()(example)
    module.train(training)
    for hook in hooks:
        hook.remove()
    return {called for called, number in calls.items() if number == 1}


def _units(module: nn.Module, called: set[nn.Module], limit: int) -> Iterator[nn.Module]:
    for child in module.children():
        size = sum(parameter.numel() for parameter in child.parameters())
        if child in called and 0 < size <= limit:
            yield child
        else:
            yield from _units(child, called, limit)
            if child in called and any(True for _ in child.parameters(recurse=False)):
                yield child  # one layer that is larger than a unit should be
