"""The same bits for any number of threads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import pytest

import normcore as nc


def arrays(value: object) -> Iterator[np.ndarray]:
    """Yield the arrays that make up a result."""
    if isinstance(value, tuple):
        for each in value:
            yield from arrays(each)
    elif isinstance(value, nc.Moments):
        yield value.parts
    elif isinstance(value, nc.Extrema):
        yield from (value.min, value.max)
    elif isinstance(value, nc.Quantiles):
        yield value.values
    elif isinstance(value, nc.AffineScaler):
        for name, attribute in sorted(vars(value).items()):
            if name.endswith("_") and isinstance(attribute, np.ndarray):
                yield attribute
    else:
        yield np.asarray(value)


def bits(value: object) -> bytes:
    # Memory order is part of a result, so an array is read as it lies.
    return b"".join(each.tobytes("A") for each in arrays(value))


def same_for_any_number(
    compute: Callable[[], object], numbers: Iterable[int] = range(1, 17)
) -> None:
    results = []
    for number in numbers:
        with nc.use_num_threads(number):
            results.append(bits(compute()))
    assert len(results[0]) > 0
    assert len(set(results)) == 1


def data(shape: tuple[int, ...], dtype: type, order: str, nans: bool = False) -> np.ndarray:
    rng = np.random.default_rng(sum(shape))
    x = rng.normal(1.0, 3.0, size=shape)
    if nans:
        x[rng.random(shape) < 0.01] = np.nan
    return np.asarray(x.astype(dtype), order=order)  # type: ignore[call-overload]


MATRICES = pytest.mark.parametrize("shape", [(60_007, 5), (3001, 71), (262_147, 1), (101, 2003)])
BATCHES = pytest.mark.parametrize("shape", [(4099, 67), (701, 7, 53), (13, 96, 17, 11)])
ORDERS = pytest.mark.parametrize("order", ["C", "F"])
DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])


@MATRICES
@ORDERS
@DTYPES
@pytest.mark.parametrize("kind", [nc.StandardScaler, nc.MinMaxScaler, nc.RobustScaler])
def test_scalers(
    kind: type[nc.AffineScaler], shape: tuple[int, ...], order: str, dtype: type
) -> None:
    x = data(shape, dtype, order, nans=True)

    def compute() -> object:
        scaler = kind().fit(x)
        y = scaler.transform(x)
        return scaler, y, scaler.inverse_transform(y)

    same_for_any_number(compute)


@BATCHES
@ORDERS
@DTYPES
def test_batch_norm(shape: tuple[int, ...], order: str, dtype: type) -> None:
    x, dy = data(shape, dtype, order), data(shape, dtype, order)[::-1]
    gamma, beta = np.linspace(0.5, 2.0, shape[1]), np.linspace(-1.0, 1.0, shape[1])

    def compute() -> object:
        y, moments = nc.functional.batch_norm(x, gamma, beta)
        back = nc.functional.batch_norm_backward(dy, x, moments, gamma, beta)
        inference = nc.functional.batch_norm_inference(x, moments.mean, moments.var(), gamma, beta)
        return y, moments, back, inference

    same_for_any_number(compute)


@BATCHES
@ORDERS
@pytest.mark.parametrize("skipna", [False, True])
def test_statistics(shape: tuple[int, ...], order: str, skipna: bool) -> None:
    x = data(shape, np.float32, order, nans=skipna)

    def compute() -> object:
        return (
            nc.functional.moments(x, channel_axis=1, skipna=skipna),
            nc.functional.extrema(x, channel_axis=1, skipna=skipna),
            nc.functional.quantiles(x, [0.1, 0.5, 0.99], channel_axis=1, skipna=skipna),
        )

    same_for_any_number(compute)


@pytest.mark.parametrize("shape", [(300_007, 7), (29, 64, 1201)])
def test_enough_for_sixteen_threads(shape: tuple[int, ...]) -> None:
    x = data(shape, np.float32, "C")

    def compute() -> object:
        y, moments = nc.functional.batch_norm(x)
        extrema = nc.functional.extrema(x, channel_axis=1)
        return y, moments, nc.functional.batch_norm_backward(x, x, moments), extrema

    same_for_any_number(compute, (1, 2, 3, 5, 8, 13, 16))
