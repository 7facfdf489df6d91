"""What each library does for a job: normcore's own calls, and those of the peers.

A contestant's `call` is what is timed; `read` turns what it returned into arrays that can be
compared with the oracle's. Everything a call needs but a user would have at hand already (fitted
scalers, tensors and frames that view the data) is made before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np

import normcore as nc

from .cases import Arrays

__all__ = ["FITTED", "OURS", "PEERS", "QUARTILES", "Contestant", "found", "scaler_contestants"]

OURS = "normcore"
#: Names as the report has them, and modules.
PEERS = {
    "scikit-learn": "sklearn",
    "scikit-learn-intelex": "sklearnex",
    "polars": "polars",
    "numbagg": "numbagg",
    "NumPy": "numpy",
    "PyTorch": "torch",
}
#: What a fit finds, as center and scale; the libraries without scalers compute just these.
FITTED = {
    "StandardScaler": ("mean_", "scale_"),
    "MinMaxScaler": ("data_min_", "data_range_"),
    "RobustScaler": ("center_", "scale_"),
}
#: What scikit-learn's transform needs beside them.
STATE = {"StandardScaler": ("var_",), "MinMaxScaler": ("scale_", "min_"), "RobustScaler": ()}
QUARTILES = (0.25, 0.5, 0.75)


def returned(result: Any) -> tuple[np.ndarray, ...]:
    """Read a call that returns an array, or arrays."""
    return tuple(map(np.asarray, result if isinstance(result, tuple) else (result,)))


class Contestant(NamedTuple):
    """A library's way to do a job."""

    name: str
    call: Callable[[], Any]
    read: Callable[[Any], tuple[np.ndarray, ...]] = returned
    #: Untimed, before each sample.
    before: Callable[[], Any] | None = None


@cache
def found(name: str) -> Any:
    """Return a peer's module, or None if it is not installed."""
    try:
        return import_module(PEERS[name])
    except ImportError:
        return None


def scaler_contestants(scaler: str, verb: str, arrays: Arrays) -> Iterator[Contestant]:
    """Yield normcore and every peer that is installed and has the job."""
    yield from _estimator(OURS, getattr(nc, scaler), scaler, verb, arrays)
    for name, contestants in _SCALERS.items():
        if found(name) is not None:
            yield from contestants(scaler, verb, arrays)


def _estimator(
    name: str, estimator: Any, scaler: str, verb: str, arrays: Arrays
) -> Iterator[Contestant]:
    """What a class with scikit-learn's protocol does."""
    x = arrays.x

    def fitted(result: Any) -> tuple[np.ndarray, ...]:
        return tuple(np.asarray(getattr(result, each)) for each in FITTED[scaler])

    if verb == "fit":
        yield Contestant(name, lambda: estimator().fit(x), fitted)
    elif verb == "partial_fit":
        one = estimator()  # the same batch again and again: its statistics stay what they are
        yield Contestant(name, lambda: one.partial_fit(x), fitted)
    elif verb == "fit_transform":
        yield Contestant(name, lambda: estimator().fit_transform(x))
    else:
        one = _fitted_as_ours(estimator, scaler, arrays)
        method = one.inverse_transform if verb.startswith("inverse") else one.transform
        if not verb.endswith("out="):
            yield Contestant(name, lambda: method(x))
        elif name == OURS:
            out = arrays.out
            yield Contestant(name, lambda: method(x, out=out))


def _fitted_as_ours(estimator: Any, scaler: str, arrays: Arrays) -> Any:
    """Fit on all rows, or on a few and then take over the statistics: peers can be slow."""
    ours = _ours_fitted(scaler, arrays)
    if estimator is getattr(nc, scaler):
        return ours
    theirs = estimator().fit(arrays.training[:100])
    for name in {*FITTED[scaler], *STATE[scaler]}:
        values = np.asarray(getattr(ours, name), np.asarray(getattr(theirs, name)).dtype)
        setattr(theirs, name, values)
    return theirs


def _ours_fitted(scaler: str, arrays: Arrays) -> Any:
    if scaler not in arrays.fitted:
        arrays.fitted[scaler] = getattr(nc, scaler)().fit(arrays.training)
    return arrays.fitted[scaler]


def _sklearn(scaler: str, verb: str, arrays: Arrays) -> Iterator[Contestant]:
    from sklearn import preprocessing

    yield from _estimator("scikit-learn", getattr(preprocessing, scaler), scaler, verb, arrays)


def _sklearnex(scaler: str, verb: str, arrays: Arrays) -> Iterator[Contestant]:
    """It accelerates no scaler, but has the statistics of two; it refuses NaN."""
    if verb != "fit" or scaler == "RobustScaler" or arrays.case.has_nan:
        return
    from sklearnex.basic_statistics import BasicStatistics

    options = ["mean", "variance"] if scaler == "StandardScaler" else ["min", "max"]
    x = arrays.x
    unbiased = (len(x) - 1) / len(x)

    def read(result: Any) -> tuple[np.ndarray, ...]:
        if scaler == "StandardScaler":
            return result.mean_, np.sqrt(unbiased * result.variance_)
        return result.min_, result.max_ - result.min_

    yield Contestant(
        "scikit-learn-intelex", lambda: BasicStatistics(result_options=options).fit(x), read
    )


def _polars(scaler: str, verb: str, arrays: Arrays) -> Iterator[Contestant]:
    """Expressions on a frame that exists, missing values being null in it."""
    if verb != "fit":
        return
    import polars as pl

    frame = pl.from_numpy(arrays.x)
    if arrays.case.has_nan:
        frame = frame.fill_nan(None)
    every = pl.all()
    expressions = {
        "StandardScaler": (every.mean(), every.std(ddof=0)),
        "MinMaxScaler": (every.min(), every.max()),
        "RobustScaler": tuple(every.quantile(q, "linear") for q in QUARTILES),
    }[scaler]
    named = [each.name.suffix(f"_{i}") for i, each in enumerate(expressions)]

    def read(result: Any) -> tuple[np.ndarray, ...]:
        return _center_and_scale(scaler, result.to_numpy().reshape(len(expressions), -1))

    yield Contestant("polars", lambda: frame.select(named), read)


def _numbagg(scaler: str, verb: str, arrays: Arrays) -> Iterator[Contestant]:
    if verb != "fit":
        return
    import numbagg

    x = arrays.x

    def call() -> Any:
        if scaler == "StandardScaler":
            return numbagg.nanmean(x, axis=0), numbagg.nanstd(x, axis=0, ddof=0)
        if scaler == "MinMaxScaler":
            return numbagg.nanmin(x, axis=0), numbagg.nanmax(x, axis=0)
        return numbagg.nanquantile(x, list(QUARTILES), axis=0)

    def read(result: Any) -> tuple[np.ndarray, ...]:
        return _center_and_scale(scaler, result)

    yield Contestant("numbagg", call, read)


def _numpy(scaler: str, verb: str, arrays: Arrays) -> Iterator[Contestant]:
    x = arrays.x
    nan = "nan" if arrays.case.has_nan else ""

    def statistics() -> tuple[np.ndarray, ...]:
        if scaler == "StandardScaler":
            mean, std = getattr(np, nan + "mean"), getattr(np, nan + "std")
            found = mean(x, axis=0), std(x, axis=0)
        elif scaler == "MinMaxScaler":
            found = getattr(np, nan + "min")(x, axis=0), getattr(np, nan + "max")(x, axis=0)
        else:
            found = getattr(np, nan + "quantile")(x, QUARTILES, axis=0)
        return _center_and_scale(scaler, found)

    def divided(center: Any, scale: Any, out: Any = None) -> Any:
        out = np.subtract(x, center, out=out)
        return np.divide(out, scale, out=out)

    if verb == "fit":
        yield Contestant("NumPy", statistics)
    elif verb == "fit_transform":
        yield Contestant("NumPy", lambda: divided(*(each.astype(x.dtype) for each in statistics())))
    elif verb != "partial_fit":
        center, scale = _vectors(scaler, arrays)
        out = arrays.out if verb.endswith("out=") else None

        def restored() -> Any:
            y = np.multiply(x, scale, out=out)
            return np.add(y, center, out=y)

        inverse = verb.startswith("inverse")
        yield Contestant("NumPy", restored if inverse else lambda: divided(center, scale, out))


def _torch(scaler: str, verb: str, arrays: Arrays) -> Iterator[Contestant]:
    """Its reductions know no NaN but in quantiles; rescaling is one fused multiply and add."""
    import torch

    x = torch.from_numpy(arrays.x)
    has_nan = arrays.case.has_nan
    ranks = torch.tensor(QUARTILES, dtype=x.dtype)

    def statistics() -> tuple[Any, ...]:
        if scaler == "StandardScaler":
            return torch.std_mean(x, dim=0, correction=0)[::-1]
        if scaler == "MinMaxScaler":  # many times as fast as aminmax
            least = torch.amin(x, dim=0)
            return least, torch.amax(x, dim=0) - least
        found = (torch.nanquantile if has_nan else torch.quantile)(x, ranks, dim=0)
        return found[1], found[2] - found[0]

    def shifted(center: Any, scale: Any) -> Any:
        return torch.addcmul(-center / scale, x, 1 / scale)

    if verb in ("fit", "fit_transform"):
        if has_nan and scaler != "RobustScaler":
            return
        yield Contestant("PyTorch", statistics if verb == "fit" else lambda: shifted(*statistics()))
    elif verb != "partial_fit":
        center, scale = map(torch.from_numpy, _vectors(scaler, arrays))
        if not verb.startswith("inverse"):
            center, scale = -center / scale, 1 / scale
        out = torch.from_numpy(arrays.out) if verb.endswith("out=") else None
        yield Contestant("PyTorch", lambda: torch.addcmul(center, x, scale, out=out))


def _vectors(scaler: str, arrays: Arrays) -> tuple[np.ndarray, np.ndarray]:
    """Return center and scale in the dtype of the data, as libraries without scalers need them."""
    fitted = _ours_fitted(scaler, arrays)
    center, scale = (np.asarray(getattr(fitted, each)) for each in FITTED[scaler])
    return center.astype(arrays.x.dtype), scale.astype(arrays.x.dtype)


def _center_and_scale(scaler: str, found: Any) -> tuple[np.ndarray, np.ndarray]:
    """Turn mean and deviation, least and largest, or quartiles into what a scaler keeps."""
    if scaler == "StandardScaler":
        return found[0], found[1]
    if scaler == "MinMaxScaler":
        return found[0], found[1] - found[0]
    return found[1], found[2] - found[0]


_SCALERS = {
    "scikit-learn": _sklearn,
    "scikit-learn-intelex": _sklearnex,
    "polars": _polars,
    "numbagg": _numbagg,
    "NumPy": _numpy,
    "PyTorch": _torch,
}
