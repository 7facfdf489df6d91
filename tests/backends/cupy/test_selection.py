"""Exact quantiles on the emulated device have the bits of those on the host."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cuda_host.arrays import DeviceArray
from cuda_host.build import needs_compiler
from cuda_host.emulated import EmulatedBackend, EmulatedDevice
from cuda_host.launch import ORDERS
from normcore_cupy import selection
from normcore_cupy.device import C_TYPES

from normcore.array_backend.reference import ReferenceBackend
from normcore.statistics import weighted_exact
from normcore.statistics.exact_quantiles import exact

pytestmark = needs_compiler

QUARTILES = [0.25, 0.5, 0.75]
#: More than are found at a time, in no order, and some twice.
MANY = [0.5, 0.0, 1.0, 0.5, *np.linspace(0.99, 0.01, 15)]
SHAPES = [(4001, 5, 1), (300, 40, 3), (1, 3, 5000), (7, 1, 1), (1, 1, 1), (17, 70, 2)]


def draw(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """Return values with ties, zeros of both signs, infinities and NaN where there are such."""
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    rng = np.random.default_rng(3)
    if np.dtype(dtype).kind in "iub":
        low = 0 if np.dtype(dtype).kind in "ub" else -100
        x = rng.integers(low, 2 if dtype == "bool" else 100, shape).astype(dtype)
        if np.dtype(dtype).itemsize == 8:
            x = x * dtype_unit(dtype)
        return x
    x = rng.standard_normal(shape) * np.exp(rng.uniform(-9, 9, (1, shape[1], 1)))
    x[rng.random(shape) < 0.3] = 0.0
    x[rng.random(shape) < 0.1] *= -0.0
    x[rng.random(shape) < 0.01] = np.inf
    x[rng.random(shape) < 0.01] = -np.inf
    if shape[1] > 3:
        x[:, 1][rng.random(x[:, 1].shape) < 0.2] = np.nan
        x[::2, 1][np.isnan(x[::2, 1])] = -np.nan  # with a sign
        x[:, 2] = np.nan
        x[:, 3] = np.round(x[:, 3])
    return x.astype(dtype)


def dtype_unit(dtype: str) -> Any:
    """Return a factor that takes integers of 64 bits beyond what float64 holds."""
    return np.array(2**55 + 1, dtype)


def check(backend: EmulatedBackend, x: np.ndarray, q: list[float]) -> None:
    with np.errstate(all="ignore"):
        wide = x.astype(np.float64)
    for skipna in (True, False):
        got = backend.quantiles(backend.adopt(x), q, skipna=skipna)
        expected = exact(ReferenceBackend(), wide, q, skipna=skipna)
        for name in ("values", "count", "infinite"):
            np.testing.assert_array_equal(getattr(got, name), getattr(expected, name), name)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", C_TYPES)
def test_the_bits_of_the_host(dtype: str, shape: tuple[int, int, int]) -> None:
    x = draw(shape, dtype)
    check(EmulatedBackend(), x, QUARTILES)
    check(EmulatedBackend(), x, MANY)


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_layouts(dtype: str) -> None:
    x = draw((200, 12, 3), dtype)
    for axes in ((0, 1, 2), (2, 1, 0), (1, 0, 2), (0, 2, 1)):
        laid_out = np.empty([x.shape[axis] for axis in axes], x.dtype)
        laid_out = laid_out.transpose(np.argsort(axes))
        laid_out[...] = x
        check(EmulatedBackend(), laid_out, QUARTILES)
    wide = np.zeros((400, 25, 3), x.dtype)
    wide[::2, 1::2] = x
    check(EmulatedBackend(), wide[::2, 1::2], QUARTILES)
    check(EmulatedBackend(), x[::-1], QUARTILES)


def test_few_channels_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "_MEMORY", 1 << 16)
    check(EmulatedBackend(), draw((50, 70, 1), "float32"), QUARTILES)


def test_the_same_in_every_order_of_threads() -> None:
    x = draw((3001, 9, 1), "float32")
    for order in ORDERS:
        check(EmulatedBackend(EmulatedDevice(orders=(order,))), x, QUARTILES)


@pytest.mark.parametrize(("dtype", "reads"), [("float32", 4), ("float64", 8), ("bfloat16", 2)])
def test_launches_and_waits(dtype: str, reads: int) -> None:
    names: list[str] = []

    class Counting(EmulatedDevice):
        def launch(self, kernel: str, *arguments: Any) -> None:
            names.append(kernel)
            super().launch(kernel, *arguments)

    backend = EmulatedBackend(Counting())
    x = backend.adopt(draw((500, 8, 1), dtype))
    waits = DeviceArray.waits
    backend.quantiles(x, QUARTILES)
    assert names == ["count_digits", "choose_digits"] * reads
    assert DeviceArray.waits == waits + 1


@pytest.mark.parametrize("q", [[1.5], [-0.1], [np.nan], []])
def test_quantiles_that_are_none(q: list[float]) -> None:
    backend = EmulatedBackend()
    with pytest.raises(ValueError, match="q must hold numbers in"):
        backend.quantiles(backend.adopt(draw((5, 1, 1), "float32")), q)


def test_weights_and_empty_arrays() -> None:
    backend = EmulatedBackend()
    x = draw((501, 4, 1), "float32")
    weights = np.random.default_rng(4).integers(0, 4, (501, 1)) * 1.0
    got = backend.quantiles(
        backend.adopt(x), QUARTILES, weights=backend.adopt(weights), skipna=True
    )
    expected = exact(ReferenceBackend(), x, QUARTILES, weights=weights, skipna=True)
    np.testing.assert_array_equal(got.values, expected.values)
    empty = backend.quantiles(backend.adopt(x[:0]), QUARTILES)
    assert np.isnan(empty.values).all()
    assert not empty.count.any()


class Shipping(EmulatedDevice):
    """Remembers what goes to the host."""

    def __init__(self) -> None:
        super().__init__()
        self.shipped: list[np.ndarray] = []

    def to_host(self, array: Any) -> np.ndarray:
        host = super().to_host(array)
        if isinstance(array, DeviceArray):
            self.shipped.append(host)
        return host


def check_weighted(backend: EmulatedBackend, x: np.ndarray, weights: np.ndarray) -> None:
    device = backend.adopt(x), backend.adopt(weights)
    for repeats in (False, True):
        got = exact(backend, device[0], QUARTILES, weights=device[1], repeats=repeats)
        expected = exact(ReferenceBackend(), x, QUARTILES, weights=weights, repeats=repeats)
        np.testing.assert_array_equal(got.values, expected.values)


def test_of_weighted_values_only_those_that_weigh_go_to_the_host() -> None:
    device, x = Shipping(), draw((40_000, 2, 1), "float32")
    weights = np.zeros((len(x), 1))
    weights[17::400] = 2.0
    check_weighted(EmulatedBackend(device), x, weights)
    values = [each for each in device.shipped if each.dtype == np.float32]
    assert values
    assert max(each.size for each in values) <= 2 * 100


def test_weighted_values_go_to_the_host_in_small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weighted_exact, "_CHUNK", 1 << 10)
    monkeypatch.setattr(weighted_exact, "_KEPT", 1 << 13)
    device = Shipping()
    x = np.random.default_rng(5).standard_normal((30_000, 3, 1)).astype(np.float32)
    weights = np.random.default_rng(6).integers(0, 3, (len(x), 1)) * 1.0
    check_weighted(EmulatedBackend(device), x, weights)
    kept = [each for each in device.shipped if each.ndim == 1]
    assert kept
    assert max(each.size for each in kept) <= 1 << 10
