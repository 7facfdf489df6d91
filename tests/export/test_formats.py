"""Every format says what transform does: on real tables, with NaN and offsets of a million."""

import numpy as np
import pytest
from exported import DATASETS, FORMATS, Halves, dataset, run, same_bits

import normcore as nc

pytest.importorskip("sklearn")


SCALERS = {
    "standard": nc.StandardScaler(),
    "scale alone": nc.StandardScaler(with_mean=False),
    "minmax": nc.MinMaxScaler(),
    "odd range": nc.MinMaxScaler((-1.1, 1.3), clip=True),
    "robust": nc.RobustScaler(unit_variance=True),
    "maxabs": nc.MaxAbsScaler(clip=True),
    "percentile": nc.PercentileScaler((10, 90), clip="hard"),
    "plugin": Halves(),
    "clipped plugin": Halves(clip=True),
}
each_scaler = pytest.mark.parametrize("name", SCALERS)
each_format = pytest.mark.parametrize("format", FORMATS)


def fitted(name, X):
    scaler = SCALERS[name]
    scaler = type(scaler)(**scaler.get_params(deep=False))
    return scaler.fit(X[: len(X) // 2])  # so that the rest lies outside the range, too


@each_format
@each_scaler
@pytest.mark.parametrize("table", DATASETS)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_bits_are_those_of_transform(format, name, table, dtype):
    X = dataset(table, dtype)
    scaler = fitted(name, X)
    same_bits(run(format, scaler, X), scaler.transform(X))


@each_format
@each_scaler
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_the_inverse_too(format, name, dtype):
    scaler = fitted(name, dataset("wine", dtype))
    Y = scaler.transform(dataset("wine", dtype))
    same_bits(run(format, scaler, Y, inverse=True), scaler.inverse_transform(Y))


@each_format
def test_extreme_coefficients(format):
    tiny = 5e-324
    scaler = nc.RobustScaler.from_statistics(
        center=[0.0, -0.0, tiny, 1e290, -1e291, np.nan, 1e6],
        scale=[1.0, tiny, 2.3e-308, 1e307, 1e-17, np.nan, 1e-300],
    )
    X = np.array([[-0.0, tiny, 1e-310, -1e300, 1.1, 1.0, 1e6 + 1e-9], [-1.0] * 7, [0.0] * 7])
    X[1, 1:3] = 3 * tiny, -tiny
    with np.errstate(all="ignore"):
        expected = scaler.transform(X)
    assert np.signbit(expected).any()
    same_bits(run(format, scaler, X), expected)


@each_format
def test_results_of_negative_zero_are_those_of_transform(format):
    scaler = nc.StandardScaler.from_statistics(mean=[0.0, 1.0], std=[1.0, 2.0])
    X = np.array([[-0.0, -0.0], [0.0, 1.0], [-5e-324, 1.0]])
    same_bits(run(format, scaler, X), scaler.transform(X))


@each_format
def test_a_column_without_values_stays_without(format):
    X = np.array([[1.0, np.nan], [2.0, np.nan]])
    for scaler in (nc.MinMaxScaler(clip=True), nc.StandardScaler()):
        same_bits(run(format, scaler.fit(X), X), scaler.transform(X))


@each_format
def test_infinities_are_computed_with(format):
    scaler = nc.StandardScaler.from_statistics(mean=[1.0], std=[2.0])
    infinite = np.array([[np.inf], [-np.inf]])
    same_bits(run(format, scaler, infinite), infinite)
    scaler = nc.MinMaxScaler.from_statistics(min=[1.0], max=[2.0], clip=True)
    same_bits(run(format, scaler, infinite), np.array([[1.0], [0.0]]))


@each_format
def test_assigned_attributes_are_exported(format):
    X = dataset("iris")
    scaler = nc.StandardScaler().fit(X)
    before = run(format, scaler, X)
    scaler.mean_ = scaler.mean_ + 1
    after = run(format, scaler, X)
    assert not np.array_equal(before, after, equal_nan=True)
    same_bits(after, scaler.transform(X))
