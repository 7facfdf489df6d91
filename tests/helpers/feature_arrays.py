"""Arrays of any number of dimensions and axes of their features, drawn and taken apart in NumPy."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
from hypothesis import strategies as st

import normcore as nc
from normcore.testing.strategies import arrange

FLOATS = ("float64", "float32", "float16")
INTEGERS = ("int64", "int32", "uint8", "bool")
LAYOUTS = ("C", "F", "reversed", "sliced", "read-only", "permuted")


def scalers() -> list[type]:
    """Return every registered class that takes an axis."""
    known = nc.scalers().values()
    return [cls for cls in known if "axis" in inspect.signature(cls).parameters]


def streaming(cls: type) -> dict[str, str] | None:
    """Return the parameters with which a scaler learns in pieces, or None where it never does."""
    if hasattr(cls(), "partial_fit"):
        return {}
    return {"quantiles": "sketch"} if "quantiles" in inspect.signature(cls).parameters else None


@st.composite
def arrays(
    draw: st.DrawFn, *, dtypes: tuple[str, ...] = FLOATS[:2] + INTEGERS, nan: bool = True
) -> np.ndarray:
    """Draw an array of one to five dimensions in some memory order."""
    shape = tuple(draw(st.lists(st.integers(1, 4), min_size=1, max_size=5)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    dtype = np.dtype(draw(st.sampled_from(dtypes)))
    if dtype.kind == "f":
        x = (rng.standard_normal(shape) * 3 + 1).astype(dtype)
        x[rng.random(shape) < draw(st.sampled_from([0.0, 0.3]))] = 0
        if nan:
            x[rng.random(shape) < draw(st.sampled_from([0.0, 0.2]))] = np.nan
    elif dtype.kind == "b":
        x = rng.random(shape) < 0.5
    else:
        x = rng.integers(0, 100, shape).astype(dtype)
    layout = draw(st.sampled_from(LAYOUTS))
    if layout == "permuted":
        order = draw(st.permutations(range(x.ndim)))
        return np.ascontiguousarray(x.transpose(order)).transpose(np.argsort(order))
    return arrange(x, layout)


@st.composite
def axes_of(draw: st.DrawFn, ndim: int) -> int | tuple[int, ...] | None:
    """Draw what axis= may be for an array of some dimensions."""
    chosen = draw(st.lists(st.integers(0, ndim - 1), unique=True, max_size=ndim))
    signed = tuple(each - ndim if draw(st.booleans()) else each for each in chosen)
    if not signed:
        return None
    return signed[0] if len(signed) == 1 and draw(st.booleans()) else signed


def kept(axis: int | tuple[int, ...] | None, ndim: int) -> tuple[int, ...]:
    """Return the axes of features from the front, in order."""
    given = () if axis is None else (axis,) if isinstance(axis, int) else axis
    return tuple(sorted(each % ndim for each in given))


def others(axis: int | tuple[int, ...] | None, ndim: int) -> tuple[int, ...]:
    """Return the axes of samples."""
    return tuple(each for each in range(ndim) if each not in kept(axis, ndim))


def expanded(statistic: Any, axis: int | tuple[int, ...] | None, ndim: int) -> np.ndarray:
    """Return a fitted array as it meets the data."""
    return np.expand_dims(np.asarray(statistic), others(axis, ndim))


def as_table(x: np.ndarray, axis: int | tuple[int, ...] | None) -> np.ndarray:
    """Return the same values as a table in C order."""
    features = kept(axis, x.ndim)
    moved = x.transpose(*others(axis, x.ndim), *features)
    return np.array(moved.reshape(-1, int(np.prod([x.shape[each] for each in features]))))


def from_table(
    table: np.ndarray, shape: tuple[int, ...], axis: int | tuple[int, ...] | None
) -> np.ndarray:
    """Return what :func:`as_table` took apart."""
    order = (*others(axis, len(shape)), *kept(axis, len(shape)))
    return table.reshape([shape[each] for each in order]).transpose(np.argsort(order))
