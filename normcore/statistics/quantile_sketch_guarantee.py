"""The rank error that a sketch of quantiles guarantees, and what it takes to do so.

References
----------
K. Azuma, "Weighted sums of certain dependent random variables", Tohoku Mathematical Journal 19
(1967).
"""

# Design: a compaction at level h changes the rank of any x by at most 2**h, up or down with equal
# odds whatever happened before, so the error is a martingale, and by Azuma's inequality exceeds t
# with a probability of at most 2 exp(-t**2 / (2 V)), V the sum of 4**h over all compactions. The
# sketch adds V up and states what follows from it. Where the top level is H and the capacities are
# k c**(H - h), each compaction at level h takes that many values of weight 2**h, so there are at
# most n / (2**h k c**(H - h)) of them in any tree of merging, and n >= k 2**(H - 1), as level H - 1
# was full once. Hence V <= 2 n**2 / ((2 c - 1) k**2), which gives the capacity for an error. The
# memory, k / (1 - c), is least where c = 2/3.

from __future__ import annotations

import math
from numbers import Real

import numpy as np

__all__ = ["CONFIDENCE", "capacity_for", "check_error", "deviation"]

#: Odds of each quantile to be within the rank error.
CONFIDENCE = 0.99

_LEAST_ERROR = 1e-6


def check_error(error: float, name: str = "error") -> float:
    """Return a rank error that a sketch can guarantee.

    Raises
    ------
    ValueError
        If it is not a number in [1e-6, 1).
    """
    if isinstance(error, bool) or not isinstance(error, Real) or not _LEAST_ERROR <= error < 1:
        raise ValueError(
            f"{name} must be a number from {_LEAST_ERROR} to less than 1, got {error!r}"
        )
    return float(error)


def capacity_for(error: float) -> int:
    """Return the capacity of the top level that guarantees a rank error."""
    return math.ceil(math.sqrt(12 * math.log(2 / (1 - CONFIDENCE))) / error)


def deviation(variance: np.ndarray) -> np.ndarray:
    """Return how far ranks deviate at most, with :data:`CONFIDENCE`, from a sum of 4**h."""
    result: np.ndarray = np.sqrt(2 * math.log(2 / (1 - CONFIDENCE)) * variance)
    return result
