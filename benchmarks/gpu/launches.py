"""What calls put on a stream: kernels of normcore's own, and those of CuPy and of PyTorch.

Counted on the emulated device, or of normcore's own on a real one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import NamedTuple

import cupy
import numpy as np

import normcore as nc
from benchmarks.gpu import common

__all__ = [
    "Counted",
    "Launch",
    "Recorder",
    "counted_launches",
    "functional_calls",
    "tensors_on_device",
]


class Launch(NamedTuple):
    """A kernel of normcore's own, with the text and the macros that it was compiled from."""

    kernel: str
    text: str
    defines: tuple[str, ...]
    num_threads: int


class Counted(NamedTuple):
    """What one call puts on a stream."""

    #: Kernels of normcore's own, in the order of their launches.
    own: tuple[Launch, ...]
    #: Operations on arrays of CuPy, each a kernel of its own.
    operations: int
    #: PyTorch's operators, but for views and allocations.
    operators: tuple[str, ...]
    #: Copies between host and device.
    copies: int

    @property
    def total(self) -> int:
        return len(self.own) + self.operations + len(self.operators)


class Recorder:
    """Counts on an emulated device; where it does not execute, results are anything."""

    def __init__(self, fake: ModuleType, *, execute: bool) -> None:
        from cuda_host.fake_nvrtc import unpacked

        self._fake, self._launched = fake, []
        load = fake.RawModule

        def recording(*, path: str, **options: bool) -> object:
            text, defines = unpacked(path)
            get_function = load(path=path, **options).get_function

            def named(name: str) -> Callable[..., None]:
                function = get_function(name)

                def launch(grid: Sequence[int], block: Sequence[int], args: object) -> None:
                    threads = int(np.prod(block))
                    self._launched.append(Launch(name, text, tuple(defines), threads))
                    if execute:
                        function(grid, block, args)
                    else:
                        fake.order.work(fake.stream)

                launch.kernel = function.kernel  # type: ignore[attr-defined]
                return launch

            return type("Module", (), {"get_function": staticmethod(named)})

        fake.RawModule = recording

    def count(self, call: Callable[[], object]) -> Counted:
        """Count the second of two calls: the first compiles and fills caches."""
        call()
        self._launched.clear()
        before = len(self._fake.order.timeline)
        with _operators() as operators:
            call()
        engines = Counter(each.engine for each in self._fake.order.timeline[before:])
        operations = engines.pop("kernel", 0) - len(self._launched)
        copies = sum(engines.values())
        return Counted(tuple(self._launched), operations, tuple(operators), copies)


#: Allocations, and tensors over memory that is there.
_NO_KERNEL = ("aten::empty", "aten::new_empty", "aten::set_", "normcore::")


@contextmanager
def _operators() -> Iterator[list[str]]:
    """Write down PyTorch's operators that launch a kernel; views and allocations do not."""
    seen: list[str] = []
    if common.optional("torch") is None:
        yield seen
        return
    from torch.utils._python_dispatch import TorchDispatchMode

    class Mode(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore
            name = function.name()
            is_view = any(
                each.alias_info is not None and not each.alias_info.is_write
                for each in function._schema.returns
            )
            if not (is_view or name.startswith(_NO_KERNEL)):
                seen.append(name)
            return function(*args, **(kwargs or {}))

    with Mode():
        yield seen


@contextmanager
def tensors_on_device(fake: ModuleType) -> Iterator[None]:
    """Let PyTorch's tensors pose as the device's; they lie where its arrays do."""
    import pytest
    from cuda_host.fake_torch import posing

    from normcore.torch import (
        batch_operators,
        batchnorm,
        operators,
        row_operators,
        running_statistics,
    )  # fmt: skip

    def lent(tensor: object) -> object:
        return None if tensor is None else tensor.detach()

    with pytest.MonkeyPatch.context() as patch, posing(patch, fake):
        for module in (batch_operators, row_operators):
            patch.setattr(module, "to_core", lent)
        for module in (batchnorm, operators, running_statistics):
            # The mode that counts would have what is eager go through the dispatcher.
            patch.setattr(module, "is_plain", lambda *arguments: True)
        yield


def functional_calls(x: object, rows: object) -> dict[str, Callable[[], object]]:
    """Return calls of the functions, on images (N, C, H, W) and on rows (N, C) in float32."""
    f = nc.functional
    channels, columns = x.shape[1], rows.shape[1]
    gamma, beta = cupy.ones(channels), cupy.zeros(channels)
    out = cupy.empty_like(x)
    scale, shift = cupy.ones(columns), cupy.zeros(columns)
    y, moments = f.batch_norm(x, gamma, beta)
    # Fitted on the host: an emulated kernel may not run.
    scaler = nc.StandardScaler().fit(np.arange(3.0 * columns).reshape(3, columns))
    _, of_rows = f.layer_norm(rows, scale, shift)
    mask = cupy.asarray(np.ones((x.shape[0], *x.shape[2:]), bool))
    layer, evaluated = nc.BatchNorm(channels), nc.BatchNorm(channels).eval()
    return {
        "StandardScaler.transform": lambda: scaler.transform(rows),
        "StandardScaler.inverse_transform": lambda: scaler.inverse_transform(rows),
        "moments": lambda: f.moments(x, channel_axis=1),
        "extrema": lambda: f.extrema(x, channel_axis=1),
        "batch_norm": lambda: f.batch_norm(x, gamma, beta, out=out),
        "batch_norm_backward": lambda: f.batch_norm_backward(y, x, moments, gamma, out=out),
        "batch_norm_inference": lambda: f.batch_norm_inference(x, beta, gamma, gamma, beta),
        "batch_norm, relu": lambda: f.batch_norm(x, gamma, beta, activation="relu"),
        "batch_norm_backward, relu": lambda: f.batch_norm_backward(
            y, x, moments, gamma, beta, activation="relu"
        ),
        "batch_norm, mask": lambda: f.batch_norm(x, gamma, beta, mask=mask),
        "batch_norm_backward, mask": lambda: f.batch_norm_backward(y, x, moments, gamma, mask=mask),
        "BatchNorm": lambda: layer(x),
        "BatchNorm, backward": lambda: layer.backward(y),
        "BatchNorm, evaluation": lambda: evaluated(x),
        "layer_norm": lambda: f.layer_norm(rows, scale, shift),
        "layer_norm_backward": lambda: f.layer_norm_backward(rows, rows, of_rows, scale),
        "group_norm": lambda: f.group_norm(x, channels // 2, gamma, beta),
    }


def counted_launches() -> Iterator[tuple[str, int]]:
    """Yield the number of normcore's own kernels in each call, on whatever device there is."""
    backend = common.backend()
    device = backend.device
    x = cupy.ones((8, 4, 1), dtype=cupy.float32)
    long = cupy.asarray(np.random.default_rng(0).random((200_000, 1, 1), dtype=np.float32))
    affine = nc.Affine(scale=2.0)
    moments = backend.moments(x)
    calls = {
        "moments": lambda: backend.moments(x),
        "extrema": lambda: backend.extrema(x),
        "rescale": lambda: backend.rescale(x, affine),
        "forward": lambda: backend.normalize(x, 1.0, 0.0, 1e-5),
        "backward": lambda: backend.normalize_backward(x, x, moments, 1.0, 0.0, 1e-5),
        "quartiles": lambda: backend.quantiles(long, [0.25, 0.5, 0.75], skipna=True),
    }
    launch = device.launch
    for job, call in calls.items():
        number: list[int] = []
        device.launch = lambda *arguments, number=number: (number.append(1), launch(*arguments))
        try:
            call()
        finally:
            device.launch = launch
        yield job, len(number)
