"""Modules of normcore.torch on CUDA: eager, autocast, compiled, frozen, in a graph, beside NCCL."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest

import normcore as nc
from benchmarks.gpu import common

torch = pytest.importorskip("torch")
if not torch.cuda.is_available():
    pytest.skip("PyTorch sees no CUDA device", allow_module_level=True)

common.backend()
nt = pytest.importorskip("normcore.torch")
# Of results of order 1, against float64; bfloat16 has 8 bits.
TOLERANCE = {torch.float64: 1e-11, torch.float32: 5e-6, torch.float16: 4e-3, torch.bfloat16: 3e-2}
LAYERS = {
    "BatchNorm1d": ((128, 24), lambda library: library.BatchNorm1d(24)),
    "BatchNorm2d": ((16, 24, 14, 14), lambda library: library.BatchNorm2d(24)),
    "LayerNorm": ((64, 1024), lambda library: library.LayerNorm(1024)),
    "RMSNorm": ((64, 1000), lambda library: library.RMSNorm(1000, eps=1e-5)),
    "GroupNorm": ((8, 24, 9, 9), lambda library: library.GroupNorm(4, 24)),
}


def pair(name: str, dtype: torch.dtype) -> tuple[torch.nn.Module, torch.nn.Module, torch.Tensor]:
    """Return our layer, PyTorch's in float64 with the same state, and an input."""
    shape, make = LAYERS[name]
    generator = torch.Generator("cuda").manual_seed(0)
    ours, theirs = make(nt).cuda(), make(torch.nn).cuda().double()
    with torch.no_grad():
        for each in ours.parameters():
            each.copy_(torch.rand(each.shape, generator=generator, device="cuda") + 0.5)
    theirs.load_state_dict(ours.state_dict())
    if dtype == torch.float64:
        ours = ours.double()
    return ours, theirs, torch.randn(shape, generator=generator, device="cuda").to(dtype)


def agree(found: torch.Tensor, expected: torch.Tensor, dtype: torch.dtype) -> None:
    limit = TOLERANCE[dtype] * max(1.0, float(expected.detach().abs().max()))
    torch.testing.assert_close(found.double(), expected.double(), rtol=0, atol=limit)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("name", LAYERS)
def test_training_is_pytorchs(name: str, dtype: torch.dtype, channels_last: bool) -> None:
    ours, theirs, x = pair(name, dtype)
    if channels_last:
        if x.ndim != 4:
            pytest.skip("channels_last is for four dimensions")
        x = x.contiguous(memory_format=torch.channels_last)
    dy = torch.randn_like(x)
    leaf, wide = x.clone().requires_grad_(), x.double().requires_grad_()
    y, expected = ours(leaf), theirs(wide)
    assert (y.dtype, y.device, y.stride()) == (x.dtype, x.device, x.stride())
    y.backward(dy)
    expected.backward(dy.double())
    agree(y, expected, dtype)
    agree(leaf.grad, wide.grad, dtype)
    rest = zip(
        [each.grad for each in ours.parameters()] + list(ours.buffers()),
        [each.grad for each in theirs.parameters()] + list(theirs.buffers()),
        strict=True,
    )
    for one, other in rest:
        agree(one, other, torch.float64 if dtype == torch.float64 else torch.float32)
    ours.eval(), theirs.eval()
    agree(ours(x), theirs(x.double()), dtype)


@pytest.mark.parametrize("name", ["BatchNorm2d", "LayerNorm"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_autocast(name: str, dtype: torch.dtype) -> None:
    ours, theirs, x = pair(name, torch.float32)
    with torch.autocast("cuda", dtype=dtype):
        y = ours(x.to(dtype))
    agree(y, theirs(x.to(dtype).double()), dtype)


def test_a_frozen_layer_keeps_its_statistics() -> None:
    ours, theirs, x = pair("BatchNorm2d", torch.float32)
    before = copy.deepcopy(ours.state_dict())
    ours.freeze().train()
    agree(ours(x), theirs.eval()(x.double()), torch.float32)
    for name, each in ours.state_dict().items():
        assert torch.equal(each, before[name]), name


@pytest.mark.parametrize("name", ["BatchNorm2d", "LayerNorm"])
def test_compiled(name: str) -> None:
    ours, _, x = pair(name, torch.float32)
    other = copy.deepcopy(ours)
    compiled = torch.compile(other, fullgraph=True)
    leaf, again = x.clone().requires_grad_(), x.clone().requires_grad_()
    y, z = ours(leaf), compiled(again)
    y.square().sum().backward()
    z.square().sum().backward()
    assert torch.equal(y, z)
    torch.testing.assert_close(leaf.grad, again.grad)


@pytest.mark.own_process
@pytest.mark.parametrize("name", ["BatchNorm2d", "LayerNorm"])
def test_in_a_cuda_graph(name: str) -> None:
    ours, _, x = pair(name, torch.float32)
    data, other = x.clone().requires_grad_(), torch.randn_like(x)
    parameters = list(ours.parameters())

    def step() -> list[torch.Tensor]:
        y = ours(data)
        return [y, *torch.autograd.grad(y.square().sum(), [data, *parameters])]

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.synchronize()
    state = copy.deepcopy(ours.state_dict())
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        results = step()
    ours.load_state_dict(state)
    with torch.no_grad():
        data.copy_(other)
    graph.replay()
    torch.cuda.synchronize()
    found = [each.clone() for each in results] + [each.clone() for each in ours.buffers()]
    ours.load_state_dict(state)
    expected = [*step(), *ours.buffers()]
    for one, two in zip(found, expected, strict=True):
        assert torch.equal(one, two)


def test_synchronized_batch_norm_over_nccl(tmp_path: Path) -> None:
    """One rank, which is all a device has; the collectives are NCCL's."""
    distributed = torch.distributed
    if not distributed.is_nccl_available():
        pytest.skip("there is no NCCL")
    distributed.init_process_group(
        "nccl", init_method=f"file://{tmp_path}/store", rank=0, world_size=1
    )
    try:
        ours, theirs, x = pair("BatchNorm2d", torch.float32)
        synchronized = nt.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(ours))
        agree(synchronized(x), theirs(x.double()), torch.float32)
        y, _ = nc.functional.batch_norm(x, communicator=nt.TorchCommunicator())
        alone, _ = nc.functional.batch_norm(x)
        assert torch.equal(y, alone)
    finally:
        distributed.destroy_process_group()
