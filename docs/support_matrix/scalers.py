"""Scalers: every kind of input in every dtype on every backend, and what they do with each kind."""

import pickle
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

import normcore as nc
from support_matrix.inputs import DTYPES, KINDS, VALUES, arrays, dense

__all__ = ["FEATURES", "NO", "SCALERS", "YES", "scaler_dtypes", "scaler_features"]

YES, NO, NONE = "yes", "no", ""
BACKENDS = ("cpu", "reference")

#: Parameters with which a scaler keeps zeros, for sparse matrices.
SCALERS: dict[str, dict[str, object]] = {
    "StandardScaler": {"with_mean": False},
    "MinMaxScaler": {},
    "MaxAbsScaler": {},
    "RobustScaler": {"with_centering": False},
    "PercentileScaler": {},
    "QuantileTransformer": {"n_quantiles": 8},
    "PowerTransformer": {},
    "Normalizer": {},
    "ColumnScaler": {},
}
#: Libraries whose arrays are hidden by masks of their own.
FOREIGN = ("PyTorch, on the host", "array_api_strict")
ALWAYS: dict[str, dict[str, object]] = {"QuantileTransformer": {"n_quantiles": 8}}

#: Ways of saying that something is not there; anything else is a fault, and ends the run.
REFUSALS = (TypeError, ValueError, NotImplementedError)


def make(name: str, kind: str, **params: object) -> object:
    """Return a scaler, with the parameters that sparse matrices ask for."""
    if name == "ColumnScaler":
        return column_scaler(kind, **params)
    sparse = SCALERS[name] if kind.startswith("SciPy") else ALWAYS.get(name, {})
    return getattr(nc, name)(**{**sparse, **params})


def column_scaler(kind: str, **params: object) -> object:
    """Return two scalers that have columns of their own."""
    first, second = (make("StandardScaler", kind, **params) for _ in range(2))
    return nc.ColumnScaler([("first", first, [0, 2]), ("second", second, [1])])


def expected(name: str, kind: str, dtype: str) -> np.ndarray:
    """Return the result in float64 of NumPy's arrays, for the same numbers."""
    table = (VALUES > 4).astype(float) if dtype == "bool" else VALUES
    return np.asarray(make(name, kind).fit_transform(table), float)


def check(found: np.ndarray, right: np.ndarray, where: str) -> None:
    """Raise an error for a result that is not right to its dtype."""
    loose = {"float16": 2e-3, "bfloat16": 2e-2, "float32": 1e-6}.get(found.dtype.name, 1e-12)
    if not np.allclose(found.astype(float), right, rtol=loose, atol=loose):
        raise AssertionError(f"wrong numbers: {where}")


def dtype_of(result: Callable[[str], object], right: np.ndarray, where: str) -> str:
    """Return the dtype of what is computed on each backend, or that there is nothing."""
    found = set()
    for backend in BACKENDS:
        try:
            array = dense(result(backend))
        except REFUSALS:
            found.add(NO)
            continue
        check(array, right, f"{where}, {backend}")
        found.add(array.dtype.name)
    if len(found) > 1:
        raise AssertionError(f"backends differ: {where}: {sorted(found)}")
    return found.pop()


def scaler_dtype(name: str, kind: str, dtype: str) -> str:
    """Return the dtype of results, or that there are none, for one cell of the page."""
    if dtype not in KINDS[kind][1]:
        return NONE

    def result(backend: str) -> object:
        scaler = make(name, kind, backend=backend).fit(arrays(kind, dtype))
        return scaler.transform(arrays(kind, dtype))

    return dtype_of(result, expected(name, kind, dtype), f"{name}, {kind}, {dtype}")


def scaler_dtypes(name: str) -> dict[str, list[str]]:
    """Return the rows of one scaler's table: for each kind, the dtype of results for each dtype."""
    return {kind: [scaler_dtype(name, kind, dtype) for dtype in DTYPES] for kind in KINDS}


def part(x: object, rows: slice) -> object:
    """Return some rows of an input of any kind."""
    if hasattr(x, "iloc"):
        return x.iloc[rows] if not hasattr(x, "npartitions") else x.partitions[rows.start // 4]
    if hasattr(x, "slice"):  # polars and Arrow
        return x.slice(rows.start, rows.stop - rows.start)
    return x[rows] if isinstance(x, list) else x[rows, :]


def half(x: object, which: int) -> object:
    """Return the first or the second half of the rows."""
    return part(x, slice(4 * which, 4 * which + 4))


def partial_fit(name: str, kind: str, x: object) -> object:
    scaler = make(name, kind)
    scaler.partial_fit(half(x, 0))
    scaler.partial_fit(half(x, 1))
    return scaler.transform(x)


def merge(name: str, kind: str, x: object) -> object:
    scaler = make(name, kind).fit(half(x, 0))
    return scaler.merge(make(name, kind).fit(half(x, 1))).transform(x)


def sketched(name: str, kind: str, x: object) -> object:
    scaler = make(name, kind, quantiles="sketch")
    scaler.partial_fit(half(x, 0))
    return scaler.merge(make(name, kind, quantiles="sketch").fit(half(x, 1))).transform(x)


def weights(name: str, kind: str, x: object) -> object:
    return make(name, kind).fit(x, sample_weight=np.ones(len(VALUES))).transform(x)


def where(name: str, kind: str, x: object) -> object:
    everything = np.ones(VALUES.shape, dtype=bool)
    mask = KINDS[kind][0](everything) if kind in FOREIGN else everything
    return make(name, kind).fit(x, where=mask).transform(x, where=mask)


def inverse(name: str, kind: str, x: object) -> object:
    scaler = make(name, kind).fit(x)
    back = scaler.inverse_transform(scaler.transform(x))
    check(dense(back), VALUES, f"{name}, {kind}, inverse")
    return scaler.transform(x)


def saved(name: str, kind: str, x: object) -> object:
    scaler = pickle.loads(pickle.dumps(make(name, kind).fit(x)))
    with tempfile.TemporaryDirectory() as folder:
        scaler.save(Path(folder) / "scaler.json")
        return nc.load(Path(folder) / "scaler.json").transform(x)


def pandas_out(name: str, kind: str, x: object) -> object:
    import pandas as pd

    result = make(name, kind).set_output(transform="pandas").fit(x).transform(x)
    if hasattr(result, "compute"):
        result = result.compute()
    if not isinstance(result, pd.DataFrame):
        raise TypeError("not a frame")
    return result


def one_statistic(name: str, kind: str, x: object) -> object:
    params = {"axis": None}
    right = make(name, kind, **params).fit_transform(VALUES)
    check(dense(make(name, kind, **params).fit(x).transform(x)), right, f"{name}, {kind}, axis")
    return make(name, kind).fit(x).transform(x)


def missing(name: str, kind: str, x: object) -> object:
    holed = np.where(VALUES == 9, np.nan, VALUES)
    right = make(name, kind).fit(holed).transform(holed)
    y = KINDS[kind][0](holed)
    found = dense(make(name, kind).fit(y).transform(y))
    if not np.array_equal(np.isnan(found), np.isnan(holed)):
        raise AssertionError(f"{name}, {kind}: NaN does not stay where it is")
    check(np.nan_to_num(found), np.nan_to_num(right), f"{name}, {kind}, NaN")
    return make(name, kind).fit(x).transform(x)


def out(name: str, kind: str, x: object) -> object:
    scaler = make(name, kind).fit(x)
    target = scaler.transform(x)
    result = scaler.transform(x, out=target)
    if result is not target:
        raise AssertionError(f"{name}, {kind}: out= is not what is returned")
    return result


#: What is tried with each kind of input in float64; a result is right if it is that of `fit`.
FEATURES: dict[str, Callable[[str, str, object], object]] = {
    "`partial_fit`": partial_fit,
    "`merge`": merge,
    "sketch, merged": sketched,
    "`sample_weight=`": weights,
    "`where=`": where,
    "`axis=None`": one_statistic,
    "NaN": missing,
    "`inverse_transform`": inverse,
    "`out=`": out,
    "`save`, pickle": saved,
    '`set_output("pandas")`': pandas_out,
}


def scaler_feature(name: str, kind: str, feature: str) -> str:
    """Return whether a scaler does something with one kind of input, having compared results."""
    try:
        result = FEATURES[feature](name, kind, arrays(kind, "float64"))
    except (*REFUSALS, AttributeError):
        return NO
    check(dense(result), expected(name, kind, "float64"), f"{name}, {kind}, {feature}")
    return YES


def scaler_features(name: str) -> dict[str, list[str]]:
    """Return the rows of one scaler's table: for each kind, what it does."""
    return {kind: [scaler_feature(name, kind, each) for each in FEATURES] for kind in KINDS}
