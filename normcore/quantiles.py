"""Exact quantiles by one law, observed twice: a coarse look, then brackets.

A sample gives each rank a bracket of two values; one pass counts what lies below it and keeps
what lies inside, among which the quantile is found. The result never depends on the sample:
the counts prove that a rank lies inside its bracket, and a rank that does not is read again, at
last by a search on the bits of float64 that ends whatever the data. Memory stays bounded.
"""

# Design: channels go in slabs, so that the sample of a slab stays within _SLAB elements; each
# slab reads its positions once, chunk by chunk, so that what a hopeless bracket keeps is noticed
# and dropped after one chunk. A bracket covers the rank by 4.5 standard errors of the sample on
# either side: 2% of the data around a median, one miss in 10**5.

from __future__ import annotations

from typing import Any

import numpy as np

from normcore.blocks import blocks
from normcore.namespace import array_namespace
from normcore.order_statistics import Brackets, Quantiles

__all__ = ["exact"]

_SAMPLE = 1 << 16
_SLAB = 1 << 20
_CHUNK = 1 << 22
_RANKS = 8
_STANDARD_ERRORS = (4.5, 9.0)
_PIVOTS = 16


def exact(backend: Any, x: Any, q: Any, *, weights: Any = None, skipna: bool = False) -> Quantiles:
    """Return the exact quantiles of each channel.

    Parameters
    ----------
    backend : Backend
        Supplies ``brackets``.
    x : (N, C, S) array of the backend's own kind
    q : array of shape (R,)
        In [0, 1].
    weights : (N, S) array, optional
        Not negative; values of weight 0 do not count.
    skipna : bool
        Leave NaN out; otherwise a NaN makes its channel's quantiles NaN.

    Returns
    -------
    Quantiles
        NumPy's ``linear`` definition, to the last bit of `numpy.nanquantile` on float64; with
        weights, its ``inverted_cdf``. Infinite values are counted and ordered like others; where
        both neighbours are the same infinity that is the quantile (NumPy has NaN).

    Raises
    ------
    ValueError
        If ``q`` leaves [0, 1].
    """
    q = np.atleast_1d(np.asarray(q, dtype=np.float64))
    if q.ndim != 1 or not q.size or not bool(np.all((q >= 0) & (q <= 1))):
        raise ValueError(f"q must hold numbers in [0, 1], not {q}")
    num_samples, num_channels, num_inner = x.shape
    num_positions = num_samples * num_inner
    whole = num_positions <= 2 * _SAMPLE
    step = max(1, _SLAB // max(1, num_positions if whole else _SAMPLE))
    search = _sorted_slab if whole else _bracketed_slab
    values = np.full((q.size, num_channels), np.nan)
    count, infinite = np.zeros(num_channels), np.zeros(num_channels)
    if num_positions:
        for start in range(0, num_channels, step):
            slab = slice(start, min(start + step, num_channels))
            values[:, slab], count[slab], infinite[slab] = search(
                backend, x[:, slab, :], q, weights, skipna
            )
    return Quantiles(q, values + 0.0, count, infinite)  # -0.0 reads as 0.0


# -- definitions ---------------------------------------------------------------------------


def _neighbours(q: Any, count: Any) -> tuple[Any, Any, Any]:
    """Return the two ranks around each quantile and the weight of the second (method 7)."""
    virtual = (count - 1.0) * q
    first = np.clip(np.floor(virtual), 0.0, np.maximum(count - 1.0, 0.0))
    second = np.minimum(first + 1.0, np.maximum(count - 1.0, 0.0))
    return first, second, virtual - first


def _interpolate(a: Any, b: Any, t: Any) -> Any:
    """Interpolate between ordered neighbours with the rounding of NumPy's quantiles."""
    with np.errstate(all="ignore"):
        width = b - a
        value = np.where(t >= 0.5, b - width * (1.0 - t), a + width * t)
        wide = np.isinf(width) & np.isfinite(a) & np.isfinite(b)  # the width alone overflowed
        value = np.where(wide, a * (1.0 - t) + b * t, value)
    value = np.where((a == b) | (t == 0), a, value)
    return np.where(np.isinf(a) & np.isinf(b) & (a != b) & (t > 0), np.nan, value)


def _reaches(cumulated: Any, total: Any, q: Any) -> Any:
    """Whether a cumulated weight reaches the quantile (method ``inverted_cdf``)."""
    return (cumulated > 0) & (cumulated / total >= q)


# -- all the data at once ------------------------------------------------------------------


def _sorted_slab(
    backend: Any, x: Any, q: np.ndarray, weights: Any, skipna: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sort every channel."""
    host = _host(backend, x)
    columns = host.transpose(1, 0, 2).reshape(host.shape[1], -1).astype(np.float64)
    if weights is not None:
        return _sorted_weighted(columns, _host(backend, weights).reshape(-1), q, skipna)
    infinite = np.isinf(columns).sum(axis=1, dtype=np.float64)
    columns.sort(axis=1)  # NaN comes last
    valid = (columns.shape[1] - np.isnan(columns).sum(axis=1)).astype(np.float64)
    first, second, t = _neighbours(q[:, None], valid[None, :])
    every = np.arange(columns.shape[0])[None, :]
    values = _interpolate(
        columns[every, first.astype(np.intp)], columns[every, second.astype(np.intp)], t
    )
    absent = valid == 0 if skipna else valid < columns.shape[1]
    values[:, absent] = np.nan
    return values, valid if skipna else np.where(absent, np.nan, valid), infinite


def _sorted_weighted(
    columns: np.ndarray, weights: np.ndarray, q: np.ndarray, skipna: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    values = np.full((q.size, columns.shape[0]), np.nan)
    count, infinite = np.zeros(columns.shape[0]), np.zeros(columns.shape[0])
    present = weights > 0
    weights = weights[present].astype(np.float64)
    for channel, column in enumerate(columns):
        column = column[present]
        valid = ~np.isnan(column)
        infinite[channel] = np.isinf(column).sum()
        if not skipna and not valid.all():
            count[channel] = np.nan
        elif valid.any():
            column, weight = column[valid], weights[valid]
            order = np.argsort(column, kind="stable")
            cumulated = np.cumsum(weight[order])
            count[channel] = cumulated[-1]
            reached = _reaches(cumulated, cumulated[-1], q[:, None])
            values[:, channel] = column[order[np.argmax(reached, axis=1)]]
    return values, count, infinite


# -- a sample and brackets -----------------------------------------------------------------


def _bracketed_slab(
    backend: Any, x: Any, q: np.ndarray, weights: Any, skipna: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find the quantiles of more data than a sample by passes over it."""
    num_channels = x.shape[1]
    values = np.full((q.size, num_channels), np.nan)
    count, infinite = np.zeros(num_channels), np.zeros(num_channels)
    for start in range(0, q.size, _RANKS):  # so that what is kept stays a fraction of the data
        ranks = q[start : start + _RANKS]
        found = values[start : start + _RANKS]
        open_ = np.ones(found.shape, dtype=bool)
        for attempt, errors in enumerate(_STANDARD_ERRORS):
            lower, upper = _sampled_ends(backend, x, ranks, weights, attempt, errors)
            lower[~open_] = upper[~open_] = np.inf
            brackets, dropped = _observe(backend, x, lower, upper, weights, skipna)
            count, infinite = brackets.count, brackets.infinite
            for rank, channel in np.argwhere(open_):
                if np.isnan(count[channel]) or count[channel] == 0:
                    open_[rank, channel] = False
                elif not dropped[rank, channel]:
                    value = _find(brackets, rank, channel, ranks[rank])
                    if value is not None:
                        found[rank, channel], open_[rank, channel] = value, False
            if not open_.any():
                break
        for channel in np.flatnonzero(open_.any(axis=0)):
            left = open_[:, channel]
            found[left, channel] = _bisect(
                backend, x[:, channel : channel + 1, :], ranks[left], weights, skipna
            )
    return values, count, infinite


def _sampled_ends(
    backend: Any, x: Any, q: np.ndarray, weights: Any, attempt: int, errors: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return ends of brackets (R, C) that probably cover both neighbours of each rank.

    The positions are random and depend on the shape alone: the same passes in every run.
    """
    xp = array_namespace(x)
    num_samples, num_channels, num_inner = x.shape
    generator = np.random.Generator(np.random.PCG64([num_samples, num_inner, attempt]))
    picked = np.sort(generator.integers(num_samples * num_inner, size=_SAMPLE))
    row, inner = (xp.asarray(each) for each in np.divmod(picked, num_inner))
    every = xp.arange(num_channels)[None, :]
    sample = _host(backend, x[row[:, None], every, inner[:, None]]).T.astype(np.float64)
    if weights is None:
        weight = np.ones(_SAMPLE)
    else:
        weight = _host(backend, weights[row, inner]).astype(np.float64)
    lower, upper = np.full((2, q.size, num_channels), np.inf)
    lower.fill(-np.inf)
    for channel, column in enumerate(sample):
        valid = (weight > 0) & ~np.isnan(column)
        column, given = column[valid], weight[valid]
        if weights is None:
            column.sort()
        else:
            order = np.argsort(column)
            column, given = column[order], given[order]
        for rank, each in enumerate(q):
            low, high = _sample_ranks(given, each, errors, weights is not None)
            if low >= 0:
                lower[rank, channel] = column[low]
            if high < column.size:
                upper[rank, channel] = column[high]
    return lower, upper


def _sample_ranks(weight: np.ndarray, q: float, errors: float, weighted: bool) -> tuple[int, int]:
    """Return ranks of the sample some standard errors to either side of the quantile.

    A few ranks are added for quantiles near an end, where the error is far from normal.
    """
    if not weighted:
        middle = q * weight.size
        reach = errors * np.sqrt(middle * (1.0 - q)) + 6.0
        return int(np.floor(middle - reach)), int(np.ceil(middle + reach))
    if not weight.size:
        return -1, 0
    weight = weight / weight.max()  # so that squares stay in range
    cumulated = np.cumsum(weight)
    middle = q * cumulated[-1]
    error = np.sqrt(np.sum((weight * ((cumulated <= middle) - q)) ** 2))  # of a ratio of sums
    reach = errors * error + 6.0
    low = np.searchsorted(cumulated, middle - reach, side="right") - 1
    return int(low), int(np.searchsorted(cumulated, middle + reach, side="left")) + 1


def _observe(
    backend: Any, x: Any, lower: np.ndarray, upper: np.ndarray, weights: Any, skipna: bool
) -> tuple[Brackets, np.ndarray]:
    """Read everything once; return the brackets, and where they kept too much and dropped it."""
    limit = max(_SAMPLE, x.shape[0] * x.shape[2] // 10)
    kept = np.zeros(lower.shape, dtype=np.intp)
    nothing = np.empty(0)
    parts: list[Brackets] = []
    keeping = max(1, int(np.any(lower < upper, axis=1).sum()))
    for rows, inner in blocks(x.shape, max(1, _CHUNK // keeping)):
        plane = None if weights is None else weights[rows, inner]
        part = backend.brackets(
            x[rows, :, inner], lower, upper, weights=plane, skipna=skipna
        ).to_host()
        kept += [[each.size for each in row] for row in part.inside]
        parts.append(part)
        for rank, channel in np.argwhere(kept > limit):
            for each in parts:
                each.inside[rank][channel] = nothing
                if each.inside_weights is not None:
                    each.inside_weights[rank][channel] = nothing
    return Brackets.merge_all(parts), kept > limit


def _find(brackets: Brackets, rank: int, channel: int, q: float) -> Any:
    """Return the quantile, or None where the bracket does not hold it."""
    at = rank, channel
    lower, upper = brackets.lower[at], brackets.upper[at]
    below, equal = brackets.below[at], brackets.equal_lower[at]
    inside = brackets.inside[rank][channel]
    total = brackets.count[channel]
    if brackets.inside_weights is None:
        ordered = np.sort(inside)
        edge = below + equal
        ends = edge + ordered.size

        def value_at(position: float) -> Any:
            if position < below:
                return None
            if position < edge:
                return lower
            if position < ends:
                return ordered[int(position - edge)]
            return upper if position < ends + brackets.equal_upper[at] else None

        first, second, t = _neighbours(q, total)
        a, b = value_at(first), value_at(second)
        return None if a is None or b is None else _interpolate(a, b, t)
    if _reaches(below, total, q):
        return None
    if _reaches(below + equal, total, q):
        return lower
    order = np.argsort(inside, kind="stable")
    cumulated = below + equal + np.cumsum(brackets.inside_weights[rank][channel][order])
    reached = _reaches(cumulated, total, q)
    if reached.any():
        return inside[order[int(np.argmax(reached))]]
    end = below + equal + brackets.inside_count[at] + brackets.equal_upper[at]
    return upper if _reaches(end, total, q) else None


# -- certain to end ------------------------------------------------------------------------


def _bisect(backend: Any, x: Any, q: np.ndarray, weights: Any, skipna: bool) -> np.ndarray:
    """Find quantiles of one channel by counting alone, 4 bits of the answer in each pass.

    Brackets of equal ends count what is at most a pivot; pivots divide the float64 numbers, in
    their order, that can still be the answer. 17 passes at most, and no memory.
    """
    targets = 1 if weights is not None else 2
    low = np.full((q.size, targets), _key(-np.inf), dtype=np.uint64)
    high = np.full((q.size, targets), _key(np.inf), dtype=np.uint64)
    t = np.zeros(q.size)
    while bool(np.any(low < high)):
        width = high - low
        share = np.arange(_PIVOTS, dtype=np.uint64)
        each = np.uint64(_PIVOTS)
        pivots = (
            low[..., None]
            + width[..., None] // each * share
            + width[..., None] % each * share // each
        )
        ends = _from_key(pivots).reshape(-1, 1)
        brackets, _ = _observe(backend, x, ends, ends, weights, skipna)
        total = brackets.count[0]
        cumulated = (brackets.below + brackets.equal_lower).reshape(pivots.shape)
        if weights is not None:
            reached = _reaches(cumulated, total, q[:, None, None])
        else:
            first, second, t = _neighbours(q, total)
            reached = cumulated > np.stack([first, second], axis=1)[..., None]
        number = np.sum(~reached, axis=-1)  # pivots that lie below the answer
        above = np.take_along_axis(pivots, np.minimum(number, _PIVOTS - 1)[..., None], axis=-1)[
            ..., 0
        ]
        under = np.take_along_axis(pivots, np.maximum(number - 1, 0)[..., None], axis=-1)[..., 0]
        high = np.where((number < _PIVOTS) & (low < high), above, high)
        low = np.minimum(np.where(number > 0, under + np.uint64(1), low), high)
    values = _from_key(low)
    return values[:, 0] if weights is not None else _interpolate(values[:, 0], values[:, 1], t)


def _key(value: float) -> Any:
    """Map float64 to integers of the same order."""
    bits = np.asarray(value, dtype=np.float64).view(np.uint64)
    sign = np.uint64(1 << 63)
    return np.where(bits & sign != 0, ~bits, bits | sign)


def _from_key(key: np.ndarray) -> np.ndarray:
    sign = np.uint64(1 << 63)
    bits: np.ndarray = np.where(key & sign != 0, key & ~sign, ~key)
    return bits.view(np.float64)


def _host(backend: Any, array: Any) -> np.ndarray:
    """Return an array of the backend's in NumPy."""
    return np.asarray(backend.release(array, np.empty(0)))
