"""Statistics of one's own, for tests: one whose every bit is known, and one that does not merge."""

import math

import numpy as np

import normcore as nc


class Powers(nc.Statistic):
    """Exact in float64 for small integers, so that every way to it must give the same bits."""

    name = "powers"
    neutral = {"count": 0.0, "total": 0.0, "least": math.inf, "histogram": np.zeros(4)}  # noqa: RUF012

    @classmethod
    def of_rows(cls, xp, x, weights=None):
        seen = ~xp.isnan(x)
        w = (
            xp.astype(seen, xp.float64)
            if weights is None
            else xp.where(seen, weights, xp.zeros_like(x))
        )
        values = xp.where(seen, x, xp.zeros_like(x))
        kept = xp.where(seen & (w > 0), x, xp.full_like(x, math.inf))
        places = [
            xp.sum(xp.where(values == digit, w, xp.zeros_like(w)), axis=0) for digit in range(4)
        ]
        return cls(
            count=xp.sum(w, axis=0),
            total=xp.sum(values * w, axis=0),
            least=xp.min(kept, axis=0),
            histogram=xp.stack(places),
        )

    def merge(self, other):
        self._check_mergeable(other)
        return Powers(
            count=self.count + other.count,
            total=self.total + other.total,
            least=np.minimum(self.least, other.least),
            histogram=self.histogram + other.histogram,
        )


class Scaler(nc.WeightedScaler, nc.AffineScaler):
    statistic = Powers
    keeps_zero = True

    def affine(self, powers):
        self.total_, self.least_ = powers.total, powers.least
        self.histogram_, self.count_ = powers.histogram, powers.count
        return nc.Affine(scale=powers.total)


class Middles(nc.Statistic):
    """The value in the middle row: of all the rows, or nothing."""

    name = "middles"
    neutral = {"middle": math.nan}  # noqa: RUF012

    @classmethod
    def of_rows(cls, xp, x):
        return cls(middle=x[x.shape[0] // 2, :])


def digits(n, columns, seed=0):
    return np.random.default_rng(seed).integers(0, 4, (n, columns)).astype(np.float64)


def state(statistic):
    return {key: value.tolist() for key, value in statistic.to_state().items()}
