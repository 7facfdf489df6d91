"""PyTorch whose tensors pose as a device's: they lie on the host, as the emulated device's do."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cuda_host.arrays import DeviceArray, unwrap
from cuda_host.fake_cupy import FakeCupy
from cuda_host.fake_memory import UnownedMemory, lend

__all__ = ["FakeTorch", "posing"]


class FakeTorch:
    """PyTorch's streams, and what it is asked about them.

    Attributes
    ----------
    stream : int
        The current one.
    initialized, capturing : bool
    allocations_left : int or None
        Allocations that succeed before all others fail; None: all succeed.
    """

    def __init__(self, cupy: FakeCupy) -> None:
        self.torch: Any = pytest.importorskip("torch")
        self.cupy = cupy
        self.stream, self.initialized = 7, True
        self.allocations_left: int | None = None
        self._kept: list[Any] = []  # so that no address is used again

    @property
    def capturing(self) -> bool:
        return self.stream in self.cupy.capturing

    def uses(self, tensor: Any, *, writes: bool) -> None:
        """Note work of PyTorch's on a tensor, on its current stream."""
        self.cupy.order.work(self.stream)
        self.cupy.order.use(unwrap(self.view(tensor)), self.stream, writes=writes)

    def lent(self, tensor: Any) -> DeviceArray:
        """Return a tensor as an array of CuPy's, by DLPack, which orders their streams."""
        self.cupy.log.append(f"DLPack on {self.cupy.stream}")
        self.cupy.exchange(self.stream)
        return self.view(tensor)

    def view(self, tensor: Any) -> DeviceArray:
        """Return the memory of a tensor as an array of CuPy's."""
        torch = self.torch
        if tensor.dtype == torch.bfloat16:
            import ml_dtypes

            array = tensor.detach().view(torch.uint16).numpy().view(ml_dtypes.bfloat16)
        else:
            array = tensor.detach().numpy()
        # One array stands for each storage, as one block of memory does.
        storage = tensor.untyped_storage()
        lent = lend(self.cupy, array, storage.data_ptr(), storage.nbytes(), UnownedMemory)
        self._kept.append((lent, tensor))
        return lent

    def from_dlpack(self, array: Any) -> Any:
        return self.torch.from_numpy(np.asarray(unwrap(array)))


@contextmanager
def posing(monkeypatch: Any, cupy: FakeCupy) -> Iterator[FakeTorch]:
    """Let tensors pose as those of a device, beside a fake CuPy."""
    fake = FakeTorch(cupy)
    torch = fake.torch

    def kept(allocate: Any) -> Any:
        def limited(*arguments: Any, **options: Any) -> Any:
            tensor = allocate(*arguments, **options)
            if fake.allocations_left is not None and tensor.numel():
                if fake.allocations_left == 0:
                    raise torch.OutOfMemoryError("CUDA out of memory")
                fake.allocations_left -= 1
            fake._kept.append(tensor)
            return tensor

        return limited

    for name in ("empty", "empty_like"):
        monkeypatch.setattr(torch, name, kept(getattr(torch, name)))
    monkeypatch.setattr(torch.Tensor, "is_cuda", True, raising=False)
    monkeypatch.setattr(torch.Tensor, "is_cpu", False, raising=False)
    monkeypatch.setattr(torch.Tensor, "__dlpack_device__", lambda self: (2, 0))
    monkeypatch.setattr(torch, "from_dlpack", fake.from_dlpack)
    monkeypatch.setattr(
        torch.Tensor,
        "record_stream",
        lambda self, stream: cupy.order.keep_for(self.data_ptr(), stream.cuda_stream),
    )
    # Those on the host say -1.
    monkeypatch.setattr(torch.Tensor, "get_device", lambda self: 0)
    monkeypatch.setattr(cupy, "lent_by", fake.view)
    theirs = cupy.from_dlpack
    monkeypatch.setattr(
        cupy,
        "from_dlpack",
        lambda array: fake.lent(array) if isinstance(array, torch.Tensor) else theirs(array),
        raising=False,
    )
    cuda = {
        "is_initialized": lambda: fake.initialized,
        "current_stream": lambda device=None: SimpleNamespace(cuda_stream=fake.stream),
        "is_current_stream_capturing": lambda: fake.capturing,
        "ExternalStream": lambda ptr, device=None: SimpleNamespace(cuda_stream=ptr),
        "memory_reserved": lambda device=None: 0,
    }
    for name, value in cuda.items():
        monkeypatch.setattr(torch.cuda, name, value)
    assert sys.modules["torch"] is torch
    yield fake
