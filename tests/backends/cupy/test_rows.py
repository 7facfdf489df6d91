"""Layer and RMS norm on the emulated device: every way of cutting rows, in every dtype."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import row_examples
from cuda_host.arrays import DeviceArray
from cuda_host.build import kernel_names, needs_compiler
from cuda_host.emulated import EmulatedBackend, EmulatedDevice
from cuda_host.launch import ORDERS
from normcore_cupy import row_programs
from normcore_cupy.device import C_TYPES, source
from row_examples import EPS, SHAPES, draw, run

from normcore.statistics import Moments
from normcore.testing.checks import check_moments

pytestmark = needs_compiler


class Counting(EmulatedDevice):
    """A device that keeps the names of launches in order."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def launch(self, kernel: str, *arguments: Any) -> None:
        self.names.append(kernel)
        super().launch(kernel, *arguments)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_rows_of_every_length(dtype: str, shape: tuple[int, int]) -> None:
    x, dy = draw(shape, dtype), draw(shape, dtype, 1)
    for centered in (True, False):
        results = run(EmulatedBackend(), x, dy, centered)
        row_examples.check(results, x, dy, centered)


@pytest.mark.parametrize("shape", [(7, 40), (5, 1030), (2, 20480)])
@pytest.mark.parametrize("dtype", C_TYPES)
def test_rows_of_every_dtype(dtype: str, shape: tuple[int, int]) -> None:
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    x = draw(shape, dtype)
    floating = np.dtype(dtype).kind not in "iub"
    dy = draw(shape, dtype if floating else "float64", 1)
    y, states, dx, *sums = run(EmulatedBackend(), x, dy)
    check_moments(Moments(states), x.astype(np.float64)[None])
    wide = run(EmulatedBackend(), x.astype(np.float64), dy.astype(np.float64))
    assert y.dtype == dx.dtype == (x.dtype if floating else np.float64)
    unit = 2.0**-7 if dtype == "bfloat16" else max(float(np.finfo(y.dtype).eps), 1e-12)
    for got, expected in ((y, wide[0]), (dx, wide[2])):
        size = np.abs(expected).max()
        np.testing.assert_allclose(got.astype(np.float64), expected, rtol=unit, atol=unit * size)
    for got, expected in zip(sums, wide[3:], strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-12 * np.abs(expected).max())


@pytest.mark.parametrize("shape", [(70, 7), (41, 64), (9, 1030), (4, 4096), (3, 9001)])
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_the_same_bits_in_every_order_of_threads(dtype: str, shape: tuple[int, int]) -> None:
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    x, dy = draw(shape, dtype), draw(shape, dtype, 1)
    first, *others = [
        run(EmulatedBackend(EmulatedDevice(orders=(order,))), x, dy) for order in ORDERS
    ]
    for order, other in zip(ORDERS[1:], others, strict=True):
        for one, another in zip(first, other, strict=True):
            assert one.tobytes() == another.tobytes(), f"{order} gives other bits"


@pytest.mark.parametrize("columns", [5, 64, 768, 1030, 4096, 9001])
def test_a_row_has_its_bits_whatever_stands_beside_it(columns: int) -> None:
    x, dy = draw((37, columns), "float32"), draw((37, columns), "float32", 1)
    y, states, dx, *_ = run(EmulatedBackend(), x, dy)
    for some in (slice(3, 4), slice(11, 30)):
        mine = run(EmulatedBackend(), x[some], dy[some])
        for one, whole in zip(mine, (y[some], states[:, some], dx[some]), strict=False):
            assert one.tobytes() == np.ascontiguousarray(whole).tobytes()


@pytest.mark.parametrize("columns", [40, 63, 4096])
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_strides_do_not_show(dtype: str, columns: int) -> None:
    x, dy = draw((9, columns), dtype), draw((9, columns), dtype, 1)
    expected = run(EmulatedBackend(), x, dy)
    for laid_out in (np.asfortranarray, _sliced, _unaligned):
        found = run(EmulatedBackend(), laid_out(x), laid_out(dy))
        for one, other in zip(found, expected, strict=True):
            assert one.tobytes() == other.tobytes()


def _sliced(x: np.ndarray) -> np.ndarray:
    wide = np.zeros((x.shape[0], 2 * x.shape[1]), x.dtype)
    wide[:, ::2] = x
    return wide[:, ::2]


def _unaligned(x: np.ndarray) -> np.ndarray:
    wide = np.zeros((x.shape[0], x.shape[1] + 3), x.dtype)
    wide[:, 1:-2] = x
    return wide[:, 1:-2]


@pytest.mark.parametrize("columns", [7, 1030, 9001])
def test_sums_of_columns_over_more_rows_than_are_summed_at_once(
    columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_programs, "_RANGES", 2)
    shape = (128 * 150 if columns == 7 else 151, columns)
    x, dy = draw(shape, "float32"), draw(shape, "float32", 1)
    *_, dgamma, dbeta = run(EmulatedBackend(), x, dy)
    wide = dy.astype(np.float64)
    assert np.all(np.abs(dbeta - wide.sum(axis=0)) <= 2.0**-48 * np.abs(wide).sum(axis=0))
    xhat = x.astype(np.float64) - x.mean(axis=1, dtype=np.float64, keepdims=True)
    xhat /= np.sqrt((xhat**2).mean(axis=1, keepdims=True) + EPS)
    terms = np.abs(dy * xhat).sum(axis=0)
    assert np.all(np.abs(dgamma - (dy * xhat).sum(axis=0)) <= 2.0**-48 * terms)


@pytest.mark.parametrize("scale", [1e200, 1e-170, 1e-320])
@pytest.mark.parametrize("columns", [40, 5000])
def test_rows_whose_squares_leave_float64(columns: int, scale: float) -> None:
    x = (np.random.default_rng(7).standard_normal((5, columns)) + 1.0) * scale
    x[2] /= scale
    x[3] = scale
    for _ in ORDERS:
        backend = EmulatedBackend()
        y, moments = backend.normalize_rows(backend.adopt(x), 1.0, 0.0, EPS)
        check_moments(moments.to_host(), x[None])
        assert np.isfinite(backend.device.to_host(y)).all()


@pytest.mark.parametrize("columns", [40, 129, 1030, 20480])
@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
def test_sums_that_cancel_and_constants(dtype: str, columns: int) -> None:
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    rng = np.random.default_rng(3)
    x = rng.standard_normal((6, columns))
    half = columns // 2
    x[0, half : 2 * half] = -x[0, :half]
    x[1] *= np.exp(rng.uniform(-60, 60, columns))  # units too far apart for a plain sum
    x[2] = x[2, 0]
    x[3] += 1e7
    x[4] = 0.0
    x = x.astype(dtype)
    backend = EmulatedBackend()
    _, moments = backend.normalize_rows(backend.adopt(x), 1.0, 0.0, EPS)
    check_moments(moments.to_host(), x.astype(np.float64)[None])


def test_launches() -> None:
    """One forward and two backward, and none of them waits."""
    device = Counting()
    backend = EmulatedBackend(device)
    x, gamma = (backend.adopt(draw(shape, "float32")) for shape in ((64, 4096), (1, 4096)))
    gamma = backend.adopt(np.ones(4096))
    waits = DeviceArray.waits
    _, moments = backend.normalize_rows(x, gamma, gamma, EPS)
    assert device.names == ["normalize_rows"]
    backend.normalize_rows_backward(x, x, moments, gamma, EPS)
    assert device.names[1:] == ["normalize_rows_backward", "merge_row_sums"]
    assert DeviceArray.waits == waits


def test_every_kernel_of_rows_is_launched_here() -> None:
    device = EmulatedDevice()
    for shape in ((5, 40), (5, 7), (2, 20480)):
        run(EmulatedBackend(device), draw(shape, "float32"), draw(shape, "float32", 1))
    assert {name for name, _ in device.launched} == {
        name for name in kernel_names(source()) if "row" in name
    }


def test_errors() -> None:
    backend = EmulatedBackend()
    x = backend.adopt(draw((4, 8), "float32"))
    with pytest.raises(ValueError, match=r"gamma has shape \(7,\), but rows have 8 values"):
        backend.normalize_rows(x, np.ones(7), 0.0, EPS)
    _, moments = backend.normalize_rows(x, 1.0, 0.0, EPS)
    with pytest.raises(ValueError, match="moments are of 4 rows, but x has 3"):
        backend.normalize_rows_backward(x[:3], x[:3], moments, 1.0, EPS)
