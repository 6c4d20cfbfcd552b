from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor

from segkit.runtime.sharding import _called_once, _units, fit_state, local, whole


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[DeviceMesh]:
    """A group of this process alone: its tensors are sharded all the same."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        yield init_device_mesh("cpu", (1,))
    finally:
        dist.destroy_process_group()


def test_sharded_tensors_are_collected_wherever_they_are_and_plain_ones_stay_themselves(mesh: DeviceMesh) -> None:
    full, plain = torch.arange(6.0), torch.ones(2)
    sharded = distribute_tensor(full, mesh, [Shard(0)])
    found = whole({"a": [sharded, 3], "b": {"c": plain}})
    assert type(found["a"][0]) is torch.Tensor
    assert torch.equal(found["a"][0], full)
    assert found["a"][1] == 3
    assert found["b"]["c"] is plain
    assert type(local([sharded])[0]) is torch.Tensor


def test_optimizer_state_gets_the_memory_order_of_its_parameter() -> None:
    def trained(contiguous_state: bool) -> torch.Tensor:
        torch.manual_seed(0)
        layer = nn.Conv2d(4, 4, 3).to(memory_format=torch.channels_last)
        optimizer = torch.optim.AdamW(layer.parameters(), fused=True)
        for step in range(3):
            layer(torch.randn(1, 4, 8, 8)).square().sum().backward()
            optimizer.step()
            if step == 1 and contiguous_state:
                state = optimizer.state_dict()
                for values in state["state"].values():
                    values.update({name: tensor.contiguous().clone() for name, tensor in values.items()})
                optimizer.load_state_dict(fit_state(state, optimizer))
        return layer.weight.detach()

    assert torch.equal(trained(contiguous_state=True), trained(contiguous_state=False))


def test_units_are_modules_that_are_called_and_hold_a_share_of_the_parameters() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stages = nn.ModuleList([nn.Linear(8, 8), nn.Linear(8, 8)])  # iterated over, never called
            self.again = nn.Linear(8, 8)  # called twice
            self.head = nn.Sequential(nn.Linear(8, 64), nn.ReLU())

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for stage in self.stages:
                x = stage(x)
            return self.head(self.again(self.again(x)))

    net = Net().train()
    units = list(_units(net, _called_once(net, torch.ones(1, 8)), limit=100))
    assert units == [*net.stages, net.head[0]]
    assert net.training
