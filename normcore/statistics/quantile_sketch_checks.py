"""What a saved sketch of quantiles may state."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from normcore.statistics.statistic import check_count

if TYPE_CHECKING:
    from normcore.statistics.quantile_sketch import QuantileSketch

__all__ = ["check_possible"]


def check_possible(sketch: QuantileSketch) -> None:
    """Refuse a sketch whose arrays fit together, but say what no data gives.

    Raises
    ------
    ValueError
        Which says what is wrong.
    """
    kind = "a sketch of quantiles"
    count, infinite, low, high, variance = sketch.sums
    check_count(count, kind)
    known = ~np.isnan(count)
    weights = sketch.sizes @ np.ldexp(1.0, np.arange(sketch.sizes.shape[1]))
    if (count[known] != weights[known]).any():
        raise ValueError(
            f"the values of {kind} weigh {weights[known]}, but their count is {count[known]}"
        )
    seen = (weights > 0) & (np.isinf(low) | np.isinf(high))
    if not bool(np.all((infinite >= seen) & (infinite <= weights * seen))):
        raise ValueError(f"{kind} cannot have seen {infinite} infinite values of {weights}")
    if np.isnan(sketch.values).any():
        raise ValueError(f"{kind} holds NaN")
    # Adjacent values descend only where another level or channel begins.
    starts = np.cumsum(sketch.sizes.reshape(-1))
    descends = np.flatnonzero(np.diff(sketch.values) < 0) + 1
    if not np.isin(descends, starts).all():
        raise ValueError(f"a level of {kind} is not sorted")
    outside = [
        piece.size > 0 and not (low[c] <= piece.min() and piece.max() <= high[c])
        for c, piece in enumerate(sketch.pieces())
    ]
    empty = weights == 0
    if any(outside) or (empty & ((low != np.inf) | (high != -np.inf))).any():
        raise ValueError(f"the smallest and largest values of {kind} do not enclose its values")
    compacted = sketch.sizes[:, 1:].any(axis=1)
    if (
        not np.isfinite(variance).all()
        or ((variance > 0) > compacted).any()
        or (variance < 0).any()
    ):
        raise ValueError(f"the variance of {kind} does not fit its levels: {variance}")
    if (sketch.rank_error > sketch.error).any():
        raise ValueError(
            f"{kind} states a rank error of {sketch.rank_error.max():.3g}, more than the "
            f"{sketch.error} that it guarantees"
        )
