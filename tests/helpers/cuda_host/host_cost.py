"""What a call costs the host: normcore's own Python, without that of the fakes, and what is asked
of CuPy.

    python -m cuda_host.host_cost

prints a line for each call. PYTHONPATH has the helpers of the tests, the sources and backends/.
"""

from __future__ import annotations

import gc
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest

from cuda_host import arrays, fake_memory, fake_streams
from cuda_host.fake_cupy import FakeCupy, installed

__all__ = ["Cost", "calls", "cost", "main", "measured"]


_FUNCTIONS = (
    "moments", "extrema", "batch_norm", "batch_norm_backward", "batch_norm_inference", "layer_norm",
)  # fmt: skip


class Cost(NamedTuple):
    """Microseconds of the host, the number of launches, and what was asked of CuPy how often."""

    microseconds: float
    launches: int
    asked: Counter[str]

    @property
    def operations(self) -> int:
        """How many arrays CuPy made, or computed with."""
        looks = (".", "cuda.", "launch", "DeviceArray.data", "DeviceArray.__array_namespace__")
        return sum(number for name, number in self.asked.items() if not name.startswith(looks))


class _Clock:
    """Time outside of the fakes."""

    def __init__(self) -> None:
        self.inside, self.excluded, self.asked = False, 0.0, Counter[str]()

    def own_cost(self) -> float:
        """Return the seconds that it takes itself, at each call of a fake, outside of it."""
        nothing = self.wrapped("nothing", lambda: None)
        best = np.inf
        for _ in range(300):
            self.excluded = 0.0
            start = time.perf_counter()
            for _ in range(10):
                nothing()
            best = min(best, (time.perf_counter() - start - self.excluded) / 10)
        del self.asked["nothing"]
        return best

    def wrapped(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any, **options: Any) -> Any:
            if self.inside:
                return function(*arguments, **options)
            start = time.perf_counter()
            self.inside = True
            try:
                return function(*arguments, **options)
            finally:
                self.inside = False
                self.asked[name] += 1
                self.excluded += time.perf_counter() - start

        return timed


@contextmanager
def _timed(patch: pytest.MonkeyPatch, cupy: FakeCupy) -> Iterator[_Clock]:
    clock = _Clock()
    cupy.emulated.run = lambda *arguments: None  # type: ignore[method-assign]
    cupy.order.at = lambda addresses: []  # type: ignore[method-assign]
    for kind in (arrays.DeviceArray, fake_streams.Stream, fake_memory.MemoryPointer, FakeCupy):
        for name, value in list(vars(kind).items()):
            if name in ("__init__", "__new__", "__class__", "__doc__", "__dict__", "__weakref__"):
                continue
            label = "." if name == "__getattr__" else f"{kind.__name__}.{name}"
            if isinstance(value, property) and value.fget is not None:
                patch.setattr(kind, name, property(clock.wrapped(label, value.fget)))
            elif callable(value) and not isinstance(value, type | staticmethod | classmethod):
                patch.setattr(kind, name, clock.wrapped(label, value))
    for space in (cupy.cuda, cupy.cuda.runtime):
        for name, value in list(vars(space).items()):
            if callable(value) and not isinstance(value, type) and not name.startswith("_"):
                patch.setattr(space, name, clock.wrapped(f"cuda.{name}", value), raising=False)
    yield clock


def cost(clock: Any, cupy: FakeCupy, call: Callable[[], Any], repeats: int = 300) -> Cost:
    """Measure a call: the least time of many, of those that plan nothing."""
    costs = []
    for _ in range(40):  # ways in which what calls allocate may be aligned
        clock.asked.clear()
        cupy.launched.clear()
        call()
        costs.append(Cost(0.0, len(cupy.launched), Counter(clock.asked)))
    _, launches, asked = min(costs, key=lambda each: each.asked.total())
    best = np.inf
    gc.disable()  # the fakes' objects are many
    try:
        for _ in range(repeats):
            clock.excluded = 0.0
            start = time.perf_counter()
            call()
            best = min(best, time.perf_counter() - start - clock.excluded)
    finally:
        gc.enable()
    return Cost((best - sum(asked.values()) * clock.own_cost()) * 1e6, launches, asked)


def calls(cupy: FakeCupy, backend: Any) -> dict[str, Callable[[], Any]]:
    """Return what is measured, by name: arrays of the device alone, NCHW in float32."""
    import normcore as nc

    x = cupy.asarray(np.random.default_rng(0).random((8, 64, 4, 4), np.float32))
    table = cupy.asarray(np.random.default_rng(0).random((512, 64), np.float32))
    gamma, beta, mean, var = cupy.asarray(np.ones((4, 64)))
    out, out_table = cupy.empty(x.shape, x.dtype), cupy.empty(table.shape, table.dtype)
    scaler = nc.StandardScaler(backend=backend).fit(table)
    layer, frozen = (nc.BatchNorm(64, backend=backend) for _ in range(2))
    frozen.eval()
    functional: Any = SimpleNamespace(
        **{name: partial(getattr(nc.functional, name), backend=backend) for name in _FUNCTIONS}
    )
    moments = functional.batch_norm(x, gamma, beta)[1]
    return {
        "moments": lambda: functional.moments(x, channel_axis=1),
        "extrema": lambda: functional.extrema(x, channel_axis=1),
        "batch_norm": lambda: functional.batch_norm(x, gamma, beta),
        "batch_norm, out=": lambda: functional.batch_norm(x, gamma, beta, out=out),
        "batch_norm_backward": lambda: functional.batch_norm_backward(x, x, moments, gamma),
        "batch_norm_inference": lambda: functional.batch_norm_inference(x, mean, var, gamma, beta),
        "layer_norm": lambda: functional.layer_norm(table, gamma, beta),
        "BatchNorm, training": lambda: layer(x),
        "BatchNorm, backward": lambda: layer.backward(x),
        "BatchNorm, evaluation": lambda: frozen(x),
        "transform": lambda: scaler.transform(table),
        "transform, out=": lambda: scaler.transform(table, out=out_table),
    }


def measured(repeats: int = 300) -> dict[str, Cost]:
    """Return what each call costs."""
    from normcore_cupy.backend import CupyBackend

    with pytest.MonkeyPatch.context() as patch, installed(patch) as cupy:
        backend = CupyBackend()
        found = calls(cupy, backend)
        for call in found.values():
            call()  # builds kernels
            call()
        with _timed(patch, cupy) as clock:
            kernels = backend.device._kernels
            for key, each in list(kernels.items()):
                kernels[key] = clock.wrapped("launch", each)
                kernels[key].kernel = each.kernel  # type: ignore[attr-defined]
            return {name: cost(clock, cupy, call, repeats) for name, call in found.items()}


def main() -> None:
    """Print a line for each call."""
    for name, each in measured().items():
        print(f"{name:24}{each.microseconds:8.1f} us{each.launches:4} launches")
        print(f"    {dict(each.asked.most_common(12))}")


if __name__ == "__main__":
    main()
