"""Every kernel again in plain array-API terms.

The reference backend serves any array library that has no backend of its own, and is the oracle
that faster backends are tested against. It is therefore exact before it is fast: sums run in
double-double, whatever the library; everything else is written as its definition reads. Arrays
are walked in blocks, so temporaries keep a fixed size.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import numpy as np

from normcore.affine import Affine
from normcore.array_backend.abstract import Backend, InfiniteInput, is_relu
from normcore.layout.bfloat16 import cast, is_bfloat16
from normcore.layout.namespace import Array, array_namespace, native, to_numpy
from normcore.layout.out_argument import result_dtype
from normcore.layout.tiling import Block, blocks
from normcore.statistics import Extrema, Moments
from normcore.statistics import array_api_double_double as dd
from normcore.statistics.array_api_moments import block_moments, merge_moments
from normcore.statistics.brackets import Brackets

__all__ = ["ReferenceBackend"]

# Elements of one block of a walk.
_BLOCK = 1 << 16


class ReferenceBackend(Backend):
    """The kernels for any array library that follows the array-API standard.

    NumPy, CuPy, JAX and others name their namespace themselves; for PyTorch and Dask
    ``array-api-compat`` must be installed. Results live where the input lives.
    """

    name = "reference"
    xp = np

    def adopt(self, array: Array) -> Array:
        """Return the array itself; what is no array becomes one of NumPy's."""
        if isinstance(array, np.ndarray) or not hasattr(array, "dtype"):
            array = np.asarray(array)
        xp = array_namespace(array)
        known = xp is np and is_bfloat16(array.dtype)
        if not (known or xp.isdtype(array.dtype, ("real floating", "integral", "bool"))):
            raise TypeError(f"arrays of dtype {array.dtype} cannot be normalized; use real numbers")
        return array

    def release(self, array: Array, like: Array) -> Array:
        """Return the array in the library and on the device of ``like``."""
        if type(array) is type(like):
            return array
        if isinstance(like, np.ndarray):
            return array if isinstance(array, np.ndarray) else to_numpy(array)
        if isinstance(array, np.ndarray):
            return array_namespace(like).asarray(np.array(native(array)), device=_device(like))
        if array_namespace(array) is array_namespace(like):
            return array
        return self.release(to_numpy(array), like)

    def moments(self, x: Array, *, weights: Array = None, skipna: bool = False) -> Moments:
        """Sum deviations from the rounded mean in double-double, and merge the blocks."""
        xp = array_namespace(x)
        state = _vector(xp, x, np.zeros((7, x.shape[1])))
        for block in blocks(x.shape, _BLOCK):
            values, weight = _rows(xp, x, block), _column(xp, x, weights, block)
            state = merge_moments(state, block_moments(xp, values, weight, skipna))
        return Moments(state)

    def extrema(self, x: Array, *, skipna: bool = False) -> Extrema:
        """Take the smallest and the largest value of each channel."""
        xp = array_namespace(x)
        count = _vector(xp, x, np.zeros(x.shape[1]))
        low, high, broken = count + xp.inf, count - xp.inf, count != 0
        for block in blocks(x.shape, _BLOCK):
            values = _rows(xp, x, block)
            missing = xp.isnan(values)
            infinity = xp.full_like(values, xp.inf)
            counted = xp.astype(~missing, xp.float64) if skipna else xp.ones_like(values)
            count = count + xp.sum(counted, axis=0)
            low = xp.minimum(low, xp.min(xp.where(missing, infinity, values), axis=0))
            high = xp.maximum(high, xp.max(xp.where(missing, -infinity, values), axis=0))
            if not skipna:
                broken = broken | xp.any(missing, axis=0)
        nan = xp.full_like(low, xp.nan)
        # Of zeros of both signs each library, and each processor, returns another: here it is +0.
        low, high = low + 0.0, high + 0.0
        return Extrema(count, xp.where(broken, nan, low), xp.where(broken, nan, high))

    def brackets(
        self, x: Array, lower: Array, upper: Array, *, weights: Array = None, skipna: bool = False
    ) -> Brackets:
        """Compare every value with both ends of every bracket, and keep what lies inside."""
        xp = array_namespace(x)
        lower, upper = _vector(xp, x, lower), _vector(xp, x, upper)
        num_ranks, num_channels = lower.shape
        count = infinite = _vector(xp, x, np.zeros(num_channels))
        sums = [[count for _ in range(num_ranks)] for _ in range(4)]
        empty = count[:0]
        inside = [[[empty] for _ in range(num_channels)] for _ in range(num_ranks)]
        inside_weights = [[[empty] for _ in range(num_channels)] for _ in range(num_ranks)]
        for block in blocks(x.shape, _BLOCK):
            values, weight = _rows(xp, x, block), _column(xp, x, weights, block)
            weight = xp.ones_like(values) * (1.0 if weight is None else weight)
            present = weight > 0
            valid = present & ~xp.isnan(values)
            counted = xp.where(valid, weight, xp.zeros_like(weight))
            count = count + xp.sum(counted, axis=0)
            if not skipna:
                missing = xp.any(present & ~valid, axis=0)
                count = xp.where(missing, xp.full_like(count, xp.nan), count)
            infinite = infinite + xp.sum(xp.astype(valid & xp.isinf(values), xp.float64), axis=0)
            for rank in range(num_ranks):
                low, high = lower[rank, :], upper[rank, :]
                between = valid & (values > low) & (values < high)
                on_upper = (values == high) & (high > low)
                for row, where in enumerate((values < low, values == low, between, on_upper)):
                    part = xp.sum(xp.where(where, counted, xp.zeros_like(counted)), axis=0)
                    sums[row][rank] = sums[row][rank] + part
                for channel in range(num_channels):
                    keep = between[:, channel]
                    if bool(xp.any(keep)):
                        inside[rank][channel].append(values[:, channel][keep])
                        inside_weights[rank][channel].append(weight[:, channel][keep])
        names = ("below", "equal_lower", "inside_count", "equal_upper")
        rows = {
            name: xp.stack(row) if row else lower for name, row in zip(names, sums, strict=True)
        }
        kept, kept_weights = (
            [[xp.concat(pieces) for pieces in row] for row in lists]
            for lists in (inside, inside_weights)
        )
        return Brackets(
            lower=lower,
            upper=upper,
            count=count,
            infinite=infinite,
            inside=kept,
            inside_weights=None if weights is None else kept_weights,
            **rows,
        )

    def rescale(
        self,
        x: Array,
        affine: Affine,
        *,
        clip: tuple[float, float] | None = None,
        activation: str | None = None,
        mask: Array = None,
        out: Array = None,
        refuse_infinite: bool = False,
    ) -> Array:
        """Evaluate the map in float64, and round once at the end."""
        relu = is_relu(activation)
        xp = array_namespace(x)
        coefficients = _coefficients(xp, x, affine)

        def compute(block: Block) -> Array:
            values = _view(xp, x, block)
            if refuse_infinite and bool(xp.any(xp.isinf(values))):
                raise InfiniteInput("the input holds an infinite value")
            y = _apply(values, coefficients)
            if clip is not None:
                for bound, beyond in ((clip[0], y < clip[0]), (clip[1], y > clip[1])):
                    y = xp.where(beyond, xp.full_like(y, bound), y)
            if relu:
                y = xp.where(y <= 0, xp.zeros_like(y), y)
            return _masked(xp, y, mask, block)

        return _fill(xp, x, out, compute)

    def backward_reduce(
        self,
        dy: Array,
        x: Array,
        mean: Array,
        *,
        relu_mask: Affine | None = None,
        mask: Array = None,
    ) -> tuple[Array, Array]:
        """Sum ``dy`` and ``dy * (x - mean)`` in double-double."""
        xp = array_namespace(x)
        mean = _vector(xp, x, mean)
        zero = _vector(xp, x, np.zeros(x.shape[1]))
        exact = [(zero, zero), (zero, zero)]
        plain = [zero, zero]
        with np.errstate(all="ignore"):
            for block in blocks(x.shape, _BLOCK):
                gradient = _flatten(xp, _gradient(xp, dy, x, relu_mask, mask, block))
                values = _flatten(xp, _masked(xp, _view(xp, x, block), mask, block))
                nothing = xp.zeros_like(gradient)
                xmu = dd.two_sum(values, -mean)
                terms = (gradient, nothing), dd.multiply((gradient, nothing), xmu)
                for each, term in enumerate(terms):
                    exact[each] = dd.add(exact[each], dd.sum_rows(xp, *term))
                plain[0] = plain[0] + xp.sum(gradient, axis=0)
                plain[1] = plain[1] + xp.sum(gradient * (values - mean), axis=0)
        # Infinity and NaN propagate as in plain sums; error terms would make NaN of both.
        sum_dy, sum_dy_xmu = (
            xp.where(xp.isfinite(rounded), pair[0], rounded)
            for pair, rounded in zip(exact, plain, strict=True)
        )
        return sum_dy, sum_dy_xmu

    def backward_elemt(
        self,
        dy: Array,
        x: Array,
        mean: Array,
        a: Array,
        b: Array,
        d: Array,
        *,
        relu_mask: Affine | None = None,
        mask: Array = None,
        out: Array = None,
    ) -> Array:
        """Evaluate ``a * dy - (b + d * (x - mean))`` in float64, and round once at the end."""
        xp = array_namespace(x)
        mean, a, b, d = (_vector(xp, x, each)[:, None] for each in (mean, a, b, d))

        def compute(block: Block) -> Array:
            gradient = _gradient(xp, dy, x, relu_mask, None, block)
            dx = a * gradient - (b + d * (_view(xp, x, block) - mean))
            return _masked(xp, dx, mask, block)

        return _fill(xp, dy, out, compute)


# -- blocks of a view ----------------------------------------------------------------------


def _view(xp: ModuleType, x: Array, block: Block) -> Array:
    """Return a block of the view as float64, of shape (n, C, s)."""
    return cast(x[block[0], :, block[1]], xp.float64)


def _flatten(xp: ModuleType, values: Array) -> Array:
    """Turn a block (n, C, s) into rows (n * s, C)."""
    return xp.reshape(xp.permute_dims(values, (0, 2, 1)), (-1, values.shape[1]))


def _rows(xp: ModuleType, x: Array, block: Block) -> Array:
    return _flatten(xp, _view(xp, x, block))


def _column(xp: ModuleType, x: Array, weights: Array, block: Block) -> Array:
    """Return a block of a plane of weights as a float64 column, or None."""
    if weights is None:
        return None
    return xp.reshape(_vector(xp, x, weights[block[0], block[1]]), (-1, 1))


def _coefficients(xp: ModuleType, x: Array, affine: Affine) -> list[Array]:
    """Return center, scale, gamma and beta shaped to meet a block (n, C, s).

    They may live in another library than ``x``: fitted on one device, used on another.
    """
    coefficients = []
    for name in ("center", "scale", "gamma", "beta"):
        vector = _vector(xp, x, getattr(affine, name))
        if vector.ndim == 0:
            vector = xp.broadcast_to(vector, (x.shape[1],))
        if vector.shape != (x.shape[1],):
            raise ValueError(
                f"{name} has shape {tuple(vector.shape)}, but there are {x.shape[1]} channels"
            )
        coefficients.append(vector[:, None])
    return coefficients


def _apply(values: Array, coefficients: list[Array]) -> Array:
    center, scale, gamma, beta = coefficients
    return ((values - center) / scale) * gamma + beta


def _masked(xp: ModuleType, values: Array, mask: Array, block: Block) -> Array:
    """Put 0 where the mask is False."""
    if mask is None:
        return values
    keep = _vector(xp, values, mask[block[0], block[1]]) != 0
    return xp.where(keep[:, None, :], values, xp.zeros_like(values))


def _gradient(
    xp: ModuleType, dy: Array, x: Array, relu_mask: Affine | None, mask: Array, block: Block
) -> Array:
    """Return a block of dy, 0 where the ReLU was closed or the mask is False."""
    gradient = _view(xp, dy, block)
    if relu_mask is not None:
        closed = _apply(_view(xp, x, block), _coefficients(xp, x, relu_mask)) <= 0
        gradient = xp.where(closed, xp.zeros_like(gradient), gradient)
    return _masked(xp, gradient, mask, block)


def _fill(xp: ModuleType, like: Array, out: Array, compute: Callable[[Block], Array]) -> Array:
    """Write ``compute(block)`` of all blocks into ``out``, allocated like ``like`` if None."""
    with np.errstate(all="ignore"):
        if out is None:
            dtype = result_dtype(like)
            out = xp.empty(like.shape, dtype=dtype, device=_device(like))
            try:
                out[:0, ...] = out[:0, ...]
            except TypeError:  # a library whose arrays cannot be written
                return cast(compute((slice(None), slice(None))), dtype)
        for block in blocks(like.shape, _BLOCK):
            out[block[0], :, block[1]] = cast(compute(block), out.dtype)
    return out


def _vector(xp: ModuleType, x: Array, value: Array) -> Array:
    """Bring a small array to the library and device of ``x``, as float64."""
    if xp is not np and isinstance(value, np.ndarray | np.generic):
        value = np.array(value, dtype=np.float64)  # libraries differ on strides and read-only
        if value.ndim == 0:
            value = float(value)
    return xp.asarray(value, dtype=xp.float64, device=_device(x))


def _device(x: Array) -> object:
    return getattr(x, "device", None)
