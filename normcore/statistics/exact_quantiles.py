"""Exact quantiles by one law, observed twice: a coarse look, then brackets.

A sample gives each rank a bracket of two values; one pass counts what lies below it and keeps
what lies inside, among which the quantile is found. The result never depends on the sample:
the counts prove that a rank lies inside its bracket, and a rank that does not is read again, at
last by a search on the bits of float64 that ends whatever the data. Memory stays bounded.

References
----------
R. W. Floyd and R. L. Rivest, "Expected time bounds for selection", Communications of the ACM 18
(1975): two values of a sample bracket the rank.
"""

# Design: the sample of N positions has 4 * N**(2/3) of them, which balances the work on it with
# that on what is kept: a bracket covers the rank by 4 standard errors of the sample on either
# side, 2% of a million values around a median and 0.4% of a hundred million; one in 16,000 misses.
# Channels go in slabs, so that samples and what is kept stay small beside the data where channels
# are many. Each slab reads its positions once, chunk by chunk, so that what a hopeless bracket
# keeps is noticed and dropped before it is much.

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from normcore.layout.namespace import Array
from normcore.layout.tiling import blocks
from normcore.statistics.brackets import Quantiles
from normcore.statistics.kernels import StatisticKernels
from normcore.statistics.quantile_interpolation import (
    Found,
    LinearInterpolation,
    ObservedBrackets,
    as_quantiles,
)
from normcore.statistics.rank_selection import NumpyRankSelection, RankSelection
from normcore.statistics.weighted_exact import WeightedQuantiles

__all__ = ["exact"]

_WHOLE = 1 << 14  # positions of which all are a sample
_PART = 32  # one in so many values may be in memory ...
_SMALL = 1 << 20  # ... or so many, if they are more ...
_WIDE = 128  # ... of so many channels at least: fewer, side by side, take longer to read
_LANES = 16  # channels that are not told apart in memory
_CHUNK = 1 << 22
_KEPT = 1 << 16
_RANKS = 8
_STANDARD_ERRORS = (4.0, 8.0)
_PIVOTS = 16


def exact(
    backend: StatisticKernels,
    x: Array,
    q: Array,
    *,
    weights: Array = None,
    skipna: bool = False,
    selection: RankSelection | None = None,
    repeats: bool = False,
) -> Quantiles:
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
    selection : RankSelection, optional
        Takes values from ``x`` and finds them by rank; by default in NumPy.
    repeats : bool
        Whether weights, which are whole numbers then, say how often each value is repeated.

    Returns
    -------
    Quantiles
        NumPy's ``linear`` definition, to the last bit of `numpy.nanquantile` on float64; with
        weights, its ``inverted_cdf`` of exact sums, unless they repeat values. Infinite values are
        counted and ordered like others; where both neighbours are the same infinity that is the
        quantile (NumPy has NaN).

    Raises
    ------
    ValueError
        If ``q`` leaves [0, 1].
    """
    q = as_quantiles(q)
    if selection is None:
        selection = NumpyRankSelection(backend)
    rule = LinearInterpolation(selection)
    num_samples, num_channels, num_inner = x.shape
    num_positions = num_samples * num_inner
    whole = num_positions <= _WHOLE
    values = np.full((q.size, num_channels), np.nan)
    count, infinite = np.zeros(num_channels), np.zeros(num_channels)
    if num_positions:
        size = num_positions if whole else _sample_size(num_positions)
        held = size if whole else max(size, _expected(num_positions, size, min(q.size, _RANKS)))
        weighted: WeightedQuantiles | None = None
        if weights is not None:
            weighted = WeightedQuantiles(backend, weights, selection, size, repeats)

        def found(part: Array) -> Found:
            if weighted is not None:
                return weighted.of(part, q, skipna)
            if whole:
                return rule.quantiles_of_all(part, q, skipna)
            return _bracketed(backend, rule, part, q, skipna)

        for slab in _slabs(num_positions, num_channels, held):
            values[:, slab], count[slab], infinite[slab] = found(x[:, slab, :])
    return Quantiles(q, values + 0.0, count, infinite)  # -0.0 reads as 0.0


def _slabs(num_positions: int, num_channels: int, held: int) -> Iterator[slice]:
    """Yield slices of channels of much the same width; of each, ``held`` values are in memory."""
    limit = max(_SMALL, num_positions * num_channels // _PART)
    number = max(1, min(num_channels // _WIDE, -(-num_channels * held // limit)))
    step = -(-num_channels // number)
    step = -(-max(step, 1) // _LANES) * _LANES
    for start in range(0, num_channels, step):
        yield slice(start, min(start + step, num_channels))


def _expected(num_positions: int, size: int, num_ranks: int) -> int:
    """Return about how many values of a channel lie in brackets around its median."""
    return int(num_positions * num_ranks * _STANDARD_ERRORS[0] / size**0.5)


def _sample_size(num_positions: int) -> int:
    return min(num_positions, int(4 * num_positions ** (2 / 3)))


def _sample(num_positions: int, attempt: int) -> np.ndarray:
    """Return ascending positions, one at random in each of as many stretches of equal length.

    They depend on the shape alone: the same passes in every run.
    """
    size = _sample_size(num_positions)
    generator = np.random.Generator(np.random.PCG64([num_positions, attempt]))
    taken = (np.arange(size) + generator.random(size)) * (num_positions / size)
    return np.minimum(taken.astype(np.intp), num_positions - 1)


def _bracketed(
    backend: StatisticKernels, rule: LinearInterpolation, x: Array, q: np.ndarray, skipna: bool
) -> Found:
    """Find the quantiles of more data than a sample by passes over it."""
    num_channels = x.shape[1]
    values = np.full((q.size, num_channels), np.nan)
    count, infinite = np.zeros(num_channels), np.zeros(num_channels)
    for start in range(0, q.size, _RANKS):  # so that what is kept stays a fraction of the data
        ranks = q[start : start + _RANKS]
        found = values[start : start + _RANKS]
        left = np.ones(found.shape, dtype=bool)
        for attempt, errors in enumerate(_STANDARD_ERRORS):
            used = np.flatnonzero(left.any(axis=0))
            if not used.size:
                break
            slab = slice(used[0], used[-1] + 1)
            part, open_ = x[:, slab, :], left[:, slab]
            taken = _sample(x.shape[0] * x.shape[2], attempt)
            lower, upper = rule.bracket_ends(part, ranks, taken, errors)
            lower[~open_] = upper[~open_] = np.inf
            seen = _observe(backend, part, lower, upper, skipna)
            count[slab], infinite[slab] = seen.count, seen.infinite
            open_ &= seen.count > 0  # and not NaN
            quantiles, there = rule.quantiles_in_brackets(seen, ranks, open_)
            found[:, slab][there] = quantiles[there]
            open_ &= ~there
        for channel in np.flatnonzero(left.any(axis=0)):
            rows = left[:, channel]
            found[rows, channel] = _bisect(
                backend, rule, x[:, channel : channel + 1, :], ranks[rows], skipna
            )
    return values, count, infinite


def _observe(
    backend: StatisticKernels,
    x: Array,
    lower: np.ndarray,
    upper: np.ndarray,
    skipna: bool,
) -> ObservedBrackets:
    """Read everything once; what keeps too much is dropped on the way."""
    num_ranks, num_channels = lower.shape
    num_positions = x.shape[0] * x.shape[2]
    limit = max(_KEPT, num_positions // 10)
    keeping = max(1, int(np.any(lower < upper, axis=1).sum()))
    chunk = max(_CHUNK, num_positions * num_channels // 2) // keeping
    sums = np.zeros((4, *lower.shape))
    count, infinite = np.zeros(num_channels), np.zeros(num_channels)
    pieces: list[list[list[Array]]] = [[[] for _ in range(num_channels)] for _ in range(num_ranks)]
    kept = np.zeros(lower.shape)
    for rows, inner in blocks(x.shape, max(1, chunk)):
        part = backend.brackets(x[rows, :, inner], lower, upper, skipna=skipna).to_host()
        sums += part.below, part.equal_lower, part.inside_count, part.equal_upper
        count += part.count
        infinite += part.infinite
        for rank, row in enumerate(part.inside):
            for channel, inside in enumerate(row):
                if len(inside):
                    kept[rank, channel] += len(inside)
                    pieces[rank][channel].append(inside)
        for rank, channel in np.argwhere(kept > limit):
            pieces[rank][channel].clear()
    below, equal_lower, inside_count, equal_upper = sums
    return ObservedBrackets(
        lower=lower,
        upper=upper,
        below=below,
        equal_lower=equal_lower,
        inside_count=inside_count,
        equal_upper=equal_upper,
        count=count,
        infinite=infinite,
        pieces=pieces,
        dropped=kept > limit,
    )


def _bisect(
    backend: StatisticKernels, rule: LinearInterpolation, x: Array, q: np.ndarray, skipna: bool
) -> np.ndarray:
    """Find quantiles of one channel by counting alone, 4 bits of the answer in each pass.

    Brackets of equal ends count what is at most a pivot; pivots divide the float64 numbers, in
    their order, that can still be the answer. 17 passes at most, and no memory.
    """
    low = np.full((q.size, rule.num_targets), _key(-np.inf), dtype=np.uint64)
    high = np.full((q.size, rule.num_targets), _key(np.inf), dtype=np.uint64)
    total = np.zeros(1)
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
        seen = _observe(backend, x, ends, ends, skipna)
        total = seen.count
        cumulated = (seen.below + seen.equal_lower).reshape(pivots.shape)
        number = np.sum(
            ~rule.reaches_targets(cumulated, total, q), axis=-1
        )  # pivots below the answer
        above = np.take_along_axis(pivots, np.minimum(number, _PIVOTS - 1)[..., None], axis=-1)
        under = np.take_along_axis(pivots, np.maximum(number - 1, 0)[..., None], axis=-1)
        high = np.where((number < _PIVOTS) & (low < high), above[..., 0], high)
        low = np.minimum(np.where(number > 0, under[..., 0] + np.uint64(1), low), high)
    return rule.quantiles_of(_from_key(low), total, q)


def _key(value: float) -> Array:
    """Map float64 to integers of the same order."""
    bits = np.asarray(value, dtype=np.float64).view(np.uint64)
    sign = np.uint64(1 << 63)
    return np.where(bits & sign != 0, ~bits, bits | sign)


def _from_key(key: np.ndarray) -> np.ndarray:
    sign = np.uint64(1 << 63)
    bits: np.ndarray = np.where(key & sign != 0, key & ~sign, ~key)
    return bits.view(np.float64)
