"""Hypothesis strategies for the inputs that normalizers meet.

Values come from a seed and one recipe per channel rather than element by element: examples are
drawn fast, stay small when they fail, and reach inputs longer than a tile or a vector.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from numpy.typing import DTypeLike

__all__ = ["LAYOUTS", "RECIPES", "arrange", "laws", "planes", "shapes", "tables", "views"]

Shape: TypeAlias = tuple[int, int, int]
#: The values of a channel, from a generator and their number.
Recipe: TypeAlias = Callable[[np.random.Generator, int], np.ndarray]

#: Settings of every law; the rest, such as the number of examples, is hypothesis's profile.
laws = settings(
    deadline=None,
    report_multiple_bugs=False,
    suppress_health_check=[
        HealthCheck.differing_executors,  # one law runs in many subclasses
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
        HealthCheck.filter_too_much,
    ],
)

_SIZES = st.sampled_from([1, 2, 3, 5, 8, 15, 16, 17, 31, 33, 64, 65, 127, 130])
_CHANNELS = st.sampled_from([1, 2, 3, 4, 7, 8, 9, 16, 17, 33])
_FEW = st.sampled_from([1, 2, 3, 4, 7, 9, 16, 17])
_EMPTY = st.sampled_from([(0, 3, 1), (3, 2, 0), (0, 1, 4), (0, 1, 0), (1, 5, 0)])


def shapes(*, min_positions: int = 0) -> st.SearchStrategy[Shape]:
    """Draw shapes (N, C, S): rows of channels, channels of rows, and images; empty ones too.

    Up to 289 positions, and more than a vector or a tile along any axis.
    """
    rows = st.tuples(_SIZES, _CHANNELS, st.just(1))
    columns = st.tuples(st.just(1), _FEW, _SIZES)
    images = st.tuples(_FEW, _FEW, _FEW)
    kinds = [rows, rows, columns, images, images] + ([] if min_positions else [_EMPTY])
    return st.sampled_from(kinds).flatmap(lambda kind: kind)


def _normal(rng: np.random.Generator, size: int) -> np.ndarray:
    return rng.standard_normal(size)


def _scaled(factor: float) -> Recipe:
    return lambda rng, size: rng.standard_normal(size) * factor


def _offset(offset: float) -> Recipe:
    return lambda rng, size: rng.standard_normal(size) + offset


#: What a channel may hold: name -> function of a generator and a size.
RECIPES: dict[str, Recipe] = {
    "normal": _normal,
    "constant": lambda rng, size: np.full(size, rng.standard_normal()),
    "zeros": lambda rng, size: np.zeros(size),
    "mostly zeros": lambda rng, size: _normal(rng, size) * (rng.random(size) < 0.2),
    "ties": lambda rng, size: rng.integers(-2, 3, size) * 0.1,
    "signed zeros": lambda rng, size: np.copysign(0.0, _normal(rng, size)),
    "offset 1e7": _offset(1e7),
    "offset -1e12": _offset(-1e12),
    "outlier": lambda rng, size: np.where(np.arange(size) == 0, 1e9, _normal(rng, size)),
    "sorted": lambda rng, size: np.sort(_normal(rng, size)),
    "alternating": lambda rng, size: np.where(np.arange(size) % 2, 1.0, -1.0) * 3.0,
    "1e-30": _scaled(1e-30),
    "1e30": _scaled(1e30),
    "1e200": _scaled(1e200),
    "1e-170": _scaled(1e-170),
    "denormal": lambda rng, size: rng.integers(-9, 9, size) * 5e-324,
    "wide": lambda rng, size: _normal(rng, size) * 10.0 ** rng.integers(-40, 40, size),
}
_FLOAT64_ONLY = {"1e200", "1e-170", "denormal", "wide"}
_WIDE = {"1e-30", "1e30", *_FLOAT64_ONLY}
#: Recipes whose every float32 and float64 result is an ordinary number.
ORDINARY = [name for name in RECIPES if name not in _WIDE]


def arrange(array: np.ndarray, layout: str) -> np.ndarray:
    """Return an array of equal elements whose memory lies as ``layout`` says.

    Layouts: ``C``, ``F``, ``reversed`` (negative strides), ``sliced`` (gaps in every axis),
    ``transposed`` (the channels outermost), ``read-only``.
    """
    if layout == "F":
        return np.asfortranarray(array)
    if layout == "reversed":
        reverse = (slice(None, None, -1),) * array.ndim
        return np.ascontiguousarray(array[reverse])[reverse]
    if layout == "sliced":
        parent = np.full([2 * size + 1 for size in array.shape], 77, dtype=array.dtype)
        view = parent[tuple(slice(1, None, 2) for _ in array.shape)]
        view[...] = array
        return view
    if layout == "transposed":
        return np.ascontiguousarray(array.swapaxes(0, 1)).swapaxes(0, 1)
    result = np.array(array, order="C")
    result.flags.writeable = layout != "read-only"
    return result


def out_like(x: np.ndarray, dtype: DTypeLike, layout: str = "sliced") -> np.ndarray:
    """Return an array for a result of ``x``, in its memory order: C, reversed or sliced."""
    order = np.argsort([-abs(stride) for stride in x.strides], kind="stable")
    shape = [x.shape[axis] for axis in order]
    return arrange(np.full(shape, -725, dtype=dtype), layout).transpose(np.argsort(order))


#: The layouts of :func:`arrange`.
LAYOUTS = ("C", "F", "reversed", "sliced", "transposed", "read-only")


def _fill(
    draw: st.DrawFn,
    shape: tuple[int, ...],
    axis: int,
    dtype: DTypeLike,
    recipes: Sequence[str],
    nan: bool,
) -> np.ndarray:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    array = np.empty(shape, dtype=dtype)
    by_channel = np.moveaxis(array, axis, 0)
    if np.dtype(dtype).kind != "f":
        by_channel[...] = rng.integers(0, 2 if dtype == np.bool_ else 100, by_channel.shape)
        return array
    for channel in by_channel:
        values = RECIPES[draw(st.sampled_from(recipes))](rng, channel.size)
        channel[...] = np.asarray(values).reshape(channel.shape)
        if nan and draw(st.booleans()):
            channel[rng.random(channel.shape) < draw(st.sampled_from([0.1, 0.6, 1.0]))] = np.nan
    return array


@st.composite
def views(
    draw: st.DrawFn,
    *,
    shape: st.SearchStrategy[Shape] | None = None,
    dtypes: Sequence[DTypeLike] = ("float64", "float32"),
    nan: bool = False,
    recipes: Sequence[str] | None = None,
    layouts: Sequence[str] = LAYOUTS,
) -> np.ndarray:
    """Draw a NumPy array (N, C, S): one recipe per channel, in any memory layout.

    Parameters
    ----------
    shape : strategy, optional
        Of shapes (N, C, S).
    dtypes : sequence
        Integer types and bool draw small whole numbers.
    nan : bool
        Strew NaN, up to whole channels.
    recipes : sequence of names in :data:`RECIPES`, optional
        Default: those that the dtype holds.
    """
    dtype = np.dtype(draw(st.sampled_from(list(dtypes))))
    if recipes is None:
        recipes = list(RECIPES)
    if dtype.itemsize < 8:
        recipes = [name for name in recipes if name not in _FLOAT64_ONLY]
    if dtype == np.float16:
        recipes = ["normal", "constant", "zeros", "mostly zeros", "ties", "signed zeros", "sorted"]
    array = _fill(draw, draw(shapes() if shape is None else shape), 1, dtype, recipes, nan)
    return arrange(array, draw(st.sampled_from(list(layouts))))


@st.composite
def planes(draw: st.DrawFn, num_samples: int, num_inner: int, *, mask: bool = False) -> np.ndarray:
    """Draw weights, or a mask, of shape (N, S): whole, fractional, zeros, with strides of 0."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    along = draw(st.sampled_from(["both", "samples", "inner"]))
    size = {"both": (num_samples, num_inner), "samples": (num_samples, 1), "inner": (1, num_inner)}
    plane: np.ndarray
    if mask:
        plane = rng.random(size[along]) < draw(st.sampled_from([0.5, 1.0, 0.0]))
    else:
        kind = draw(st.sampled_from(["whole", "fraction", "ones", "sparse"]))
        plane = {
            "whole": rng.integers(0, 4, size[along]).astype(np.float64),
            "fraction": rng.random(size[along]) * 10.0,
            "ones": np.ones(size[along]),
            "sparse": (rng.random(size[along]) < 0.1) * 1.0,
        }[kind]
    return np.broadcast_to(plane, (num_samples, num_inner))


@st.composite
def tables(
    draw: st.DrawFn,
    *,
    dtypes: Sequence[DTypeLike] = ("float64", "float32"),
    nan: bool = True,
    recipes: Sequence[str] | None = None,
    layouts: Sequence[str] = ("C", "F", "reversed", "sliced", "read-only"),
) -> np.ndarray:
    """Draw a table (rows, columns) with at least one of each; see :func:`views`."""
    dtype = np.dtype(draw(st.sampled_from(list(dtypes))))
    recipes = list(ORDINARY if recipes is None else recipes)
    shape = draw(st.tuples(_SIZES, st.integers(1, 5)))
    table = _fill(draw, shape, 1, dtype, recipes, nan)
    return arrange(table, draw(st.sampled_from(list(layouts))))
