"""Models with normcore's layers over processes, and the same in one process.

Each function returns arrays that are the same on every rank and alone: losses of the whole batch.
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import distributed, nn
from torch_examples import normal

import normcore.torch as nt

STEPS = 4


class Network(nn.Module):
    """Convolution, batch norm, group norm, layer norm, RMS norm."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Sequential(nn.Conv2d(2, 4, 3), nt.BatchNorm2d(4), nn.SiLU())
        self.second = nn.Sequential(nn.Conv2d(4, 4, 1), nt.GroupNorm(2, 4), nn.SiLU())
        self.head = nn.Sequential(nt.LayerNorm(4), nn.Linear(4, 4), nt.RMSNorm(4), nn.Linear(4, 1))
        self.double()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.second(self.first(x)).mean((2, 3)))


def batch(step: int) -> tuple[torch.Tensor, torch.Tensor]:
    return normal((8, 2, 5, 5), step) * 2 + 3, normal((8, 1), 100 + step)


def mine(tensor: torch.Tensor) -> torch.Tensor:
    """Return this rank's part of a batch; all of it where there is one process."""
    if not distributed.is_initialized():
        return tensor
    return tensor.chunk(distributed.get_world_size())[distributed.get_rank()]


def mean_over_ranks(value: torch.Tensor) -> float:
    value = value.detach().clone()
    if distributed.is_initialized():
        distributed.all_reduce(value)
        value /= distributed.get_world_size()
    return value.item()


def losses(model: nn.Module) -> np.ndarray:
    """Return the losses of some steps of training; ranks' gradients are averaged by the model."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    found = []
    for step in range(STEPS):
        x, target = (mine(each) for each in batch(step))
        loss = (model(x) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(mean_over_ranks(loss))
    return np.array(found)


def second_derivatives(bn: nn.Module) -> dict[str, np.ndarray]:
    """Return gradients of a penalty on gradients, of all samples."""
    x = mine(normal((6, 3, 2)) * 2 + 1).requires_grad_()
    dy = mine(normal((6, 3, 2), 1)).requires_grad_()
    (dx,) = torch.autograd.grad(bn(x), x, dy, create_graph=True)
    penalty = (dx.square() * mine(normal((6, 3, 2), 2))).sum()
    found = torch.autograd.grad(penalty, (x, dy, bn.weight), create_graph=True)
    third = torch.autograd.grad(found[0].square().sum(), (x, dy))
    names = "of x", "of dy", "of weight", "third, of x", "third, of dy"
    return {
        f"second derivative, {name}": gathered(each.detach(), "weight" in name)
        for name, each in zip(names, (*found, *third), strict=True)
    }


def gathered(part: torch.Tensor, is_sum: bool = False) -> np.ndarray:
    if not distributed.is_initialized():
        return part.numpy()
    if is_sum:
        part = part.clone()
        distributed.all_reduce(part)
        return part.numpy()
    parts = [torch.empty_like(part) for _ in range(distributed.get_world_size())]
    distributed.all_gather(parts, part.contiguous())
    return torch.cat(parts).numpy()


def layers() -> dict[str, nn.Module]:
    kinds = {
        "layer": nt.LayerNorm(4),
        "RMS": nt.RMSNorm(4),
        "group": nt.GroupNorm(1, 3),
        "batch": nt.BatchNorm1d(3),
        "batch, inference": nt.BatchNorm1d(3).eval(),
        "layer, plain": nt.LayerNorm(4, elementwise_affine=False),
    }
    return {name: each.double() for name, each in kinds.items()}


def whole_batch() -> dict[str, np.ndarray]:
    """Return what layers make of a batch."""
    found = {}
    for name, layer in layers().items():
        x = (normal((6, 3, 4)) + 1).requires_grad_()
        y = layer(x)
        y.backward(normal((6, 3, 4), 1))
        arrays = {"y": y.detach(), "dx": x.grad}
        arrays |= {key: each.grad for key, each in layer.named_parameters()}
        found |= {f"DTensor {name} {key}": each.numpy() for key, each in arrays.items()}
    return found


def sharded_batch() -> dict[str, np.ndarray]:
    """The same of a batch sharded over processes, beside replicated parameters."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Replicate, Shard, distribute_module, distribute_tensor

    mesh = init_device_mesh("cpu", (distributed.get_world_size(),))
    found = {}
    for name, layer in layers().items():
        layer = distribute_module(layer, mesh)
        x = distribute_tensor(normal((6, 3, 4)) + 1, mesh, [Shard(0)]).requires_grad_()
        y = layer(x)
        y.backward(distribute_tensor(normal((6, 3, 4), 1), mesh, [Shard(0)]))
        if name != "batch":  # whose statistics are those of all samples
            assert y.placements == x.grad.placements == (Shard(0),), (name, y.placements)
        arrays = {"y": y.detach(), "dx": x.grad}
        arrays |= {key: each.grad for key, each in layer.named_parameters()}
        for key, each in arrays.items():
            whole = each.redistribute(placements=[Replicate()]).to_local()
            found[f"DTensor {name} {key}"] = whole.numpy()
    return found


def alone() -> dict[str, np.ndarray]:
    """Return what one process gives."""
    plain = losses(Network())
    same = ("plain", "DDP", "FSDP 2", "FSDP 1")
    return (
        {f"losses, {name}": plain for name in same}
        | second_derivatives(synchronized())
        | whole_batch()
    )


def synchronized() -> nn.Module:
    bn = nt.SyncBatchNorm(3, dtype=torch.float64)
    with torch.no_grad():
        bn.weight.copy_(torch.tensor([0.5, -2.0, 1.5]))
    return bn


def run(communicator: nt.TorchCommunicator) -> dict[str, np.ndarray]:
    """Return the same from several processes."""
    from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
    from torch.nn.parallel import DistributedDataParallel

    network = nt.SyncBatchNorm.convert_sync_batchnorm(Network())
    found = {"losses, plain": losses(DistributedDataParallel(copy.deepcopy(network)))}
    found["losses, DDP"] = losses(
        DistributedDataParallel(copy.deepcopy(network), gradient_as_bucket_view=True)
    )
    second = copy.deepcopy(network)
    for each in (second.first, second.second, second.head):
        fully_shard(each)
    found["losses, FSDP 2"] = losses(fully_shard(second))
    first = FullyShardedDataParallel(
        copy.deepcopy(network), device_id=torch.device("cpu"), use_orig_params=True
    )
    found["losses, FSDP 1"] = losses(first)
    return found | second_derivatives(synchronized()) | sharded_batch()
